//! The read model from outside its role.

use log::Log;
use serde::{Deserialize, Serialize};
use stage::Stop;
use view::{Database, View, ViewError};

use super::Trouble;
use super::books::require_topics;
use crate::config::{Config, Profile};
use crate::data_dir::DataDir;
use crate::substrate::Substrate;

/// Where the tables lie in PostgreSQL.
const SCHEMA: &str = "view";

/// `view rebuild` is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rebuilt {
    /// records that the read model was filled from, where none was dropped by retention
    pub(crate) records: u64,
    pub(crate) took_ms: u64,
}

/// Where the read model of a profile lies.
pub(crate) fn database(config: &Config, data: &DataDir) -> Database {
    match config.profile {
        Profile::Local => Database::Sqlite { file: data.view_db() },
        Profile::Cluster => Database::Postgres { url: config.database.url.clone(), schema: SCHEMA.to_owned() },
    }
}

/// Opens it for reading.
pub(crate) async fn open(substrate: &Substrate) -> Result<View, Trouble> {
    View::open(database(&substrate.config, &substrate.data)).await.map_err(|error| {
        Trouble::new("the read model cannot be opened")
            .because(&error)
            .try_this("is its database reachable? `countersign doctor`")
    })
}

/// Empties it and fills it again from the topics, up to this moment. Blocks; keep it off the threads of a runtime.
pub(crate) fn rebuild(log: &dyn Log, view: &View) -> Result<Rebuilt, Trouble> {
    require_topics(log)?;
    let begun = std::time::Instant::now();
    view::rebuild(log, view, &Stop::new()).map_err(|error| trouble(&error))?;
    let records = view.positions().iter().map(|at| at.offset).sum();
    Ok(Rebuilt { records, took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX) })
}

pub(crate) fn trouble(error: &ViewError) -> Trouble {
    Trouble::new("the read model cannot be read or filled").because(error)
}
