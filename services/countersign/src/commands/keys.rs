//! `keys create|list|revoke`: writes `access.db`, also beside a running process, which knows within a second.

use std::process::ExitCode;

use access::{Scopes, Store};
use clap::Subcommand;
use event::id::TenantId;
use serde_json::json;

use crate::admin::print;
use crate::cli::Place;
use crate::client::block_on;
use crate::config::Overrides;
use crate::failure::{Doing as _, Failure};
use crate::substrate::configure;

/// As much of a key's id as a list shows; enough to revoke it by.
const ID_SHOWN: usize = 16;

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make an API key and print it: it can be seen this once. A tenant that is not known yet is made
    Create {
        /// Whose key it is
        #[arg(long, value_name = "T")]
        tenant: TenantId,
        /// What it may do, `exchange:write,exchange:read` for instance [default: exchange:write, and all that read but
        /// audit:read]
        #[arg(long, value_name = "A,B")]
        scopes: Option<Scopes>,
        #[command(flatten)]
        place: Place,
    },
    /// List keys by their ids; the keys themselves are not stored
    List {
        /// Only those of this tenant
        #[arg(long, value_name = "T")]
        tenant: Option<TenantId>,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Revoke a key for good, by its id or the beginning of it
    Revoke {
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

pub(crate) fn run(command: &KeysCommand) -> Result<ExitCode, Failure> {
    match command {
        KeysCommand::Create { tenant, scopes, place } => {
            let scopes = scopes.clone().unwrap_or_else(Scopes::standard);
            let api_key = with_store(place, async |store| store.create_api_key(tenant, &scopes).await)?;
            print::out(&format!("{}\n", api_key.expose()))?;
        }
        KeysCommand::List { tenant, json, place } => list(tenant.as_ref(), *json, place)?,
        KeysCommand::Revoke { id, place } => {
            let whole = with_store(place, async |store| store.revoke_api_key(id).await)?;
            print::out(&format!("revoked {whole}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens `access.db` of a place, does one thing with it and closes it.
pub(super) fn with_store<T, E>(place: &Place, work: impl AsyncFnOnce(&Store) -> Result<T, E>) -> Result<T, Failure>
where
    E: Into<Failure>,
{
    let overrides = Overrides { profile: place.profile, ..Overrides::default() };
    let (_, data) = configure(place, &overrides)?;
    block_on(async {
        let store = Store::open(&data.access_db()).await.doing("access.db cannot be opened")?;
        let done = work(&store).await.map_err(Into::into);
        store.close().await;
        done
    })?
}

impl From<access::StoreError> for Failure {
    fn from(error: access::StoreError) -> Self {
        use access::StoreError as Error;
        let advice = match &error {
            Error::Unknown("API key", _) | Error::Ambiguous(_) | Error::PrefixTooShort => "countersign keys list",
            Error::Unknown("producer", _) => "countersign producers list",
            Error::ReservedTenant => "choose another name for the tenant",
            _ => "is --data DIR the directory of the pipeline, and may this user write it?",
        };
        Self::new("access.db was not changed").because(error).try_this(advice)
    }
}

fn list(tenant: Option<&TenantId>, as_json: bool, place: &Place) -> Result<(), Failure> {
    let rows = with_store(place, async |store| store.api_keys(tenant).await)?;
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({"id": row.id, "tenant": row.tenant, "scopes": row.scopes, "created_at": print::time(row.created_ms),
                    "revoked_at": row.revoked_ms.map(print::time)})
            })
            .collect();
        return print::json(&rows);
    }
    let mut table = vec![print::row(["id", "tenant", "created", "revoked", "scopes"])];
    for row in &rows {
        let id = row.id.get(..ID_SHOWN).unwrap_or(&row.id);
        let revoked = row.revoked_ms.map_or_else(|| "-".to_owned(), print::time);
        table.push(print::row([
            id,
            row.tenant.as_str(),
            &print::time(row.created_ms),
            &revoked,
            &row.scopes.to_string(),
        ]));
    }
    print::out(&print::table(&table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use access::ApiKey;

    fn place(dir: &std::path::Path) -> Place {
        Place { data: dir.to_owned(), config: None, profile: None }
    }

    #[test]
    fn a_key_is_made_listed_and_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(dir.path());
        let tenant = TenantId::parse("acme").unwrap();
        let key: ApiKey =
            with_store(&place, async |store| store.create_api_key(&tenant, &Scopes::standard()).await).unwrap();
        let rows = with_store(&place, async |store| store.api_keys(None).await).unwrap();
        assert_eq!((rows.len(), rows[0].id.clone()), (1, key.digest().to_string()));
        let revoke = KeysCommand::Revoke { id: rows[0].id[..12].to_owned(), place: place.clone() };
        assert_eq!(run(&revoke).unwrap(), ExitCode::SUCCESS);
        let rows = with_store(&place, async |store| store.api_keys(Some(&tenant)).await).unwrap();
        assert!(rows[0].revoked_ms.is_some());
        let unknown = KeysCommand::Revoke { id: "0000000000".into(), place };
        assert!(run(&unknown).is_err());
    }
}
