//! `view`: runs the role; `view rebuild` fills its read model anew.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::admin::{Reach, model, print};
use crate::cli::{Place, Serve};
use crate::client::block_on;
use crate::failure::Failure;
use crate::roles::Role;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ViewArgs {
    #[command(subcommand)]
    command: Option<ViewCommand>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ViewCommand {
    /// Empty the read model and fill it again from the topics, up to now
    Rebuild {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

pub(crate) fn run(args: &ViewArgs) -> Result<ExitCode, Failure> {
    let Some(ViewCommand::Rebuild { json, place }) = &args.command else {
        return crate::up::run(&args.serve, &[Role::View]);
    };
    let rebuilt: model::Rebuilt = match Reach::find(place)? {
        Reach::Beside(admin) => admin.post("view/rebuild", &json!({}))?,
        Reach::Here(here) => {
            let view = block_on(model::open(&here))??;
            model::rebuild(here.log.as_ref(), &view)?
        }
    };
    if *json {
        print::json(&rebuilt)?;
    } else {
        print::out(&format!(
            "the read model is filled anew from {} records in {} ms\n",
            rebuilt.records, rebuilt.took_ms
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
