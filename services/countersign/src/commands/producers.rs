//! `producers create|list|revoke`: who may write to the request topic directly, signing each record
//! (docs/contracts/topics.md).

use std::process::ExitCode;

use access::ProducerGrant;
use clap::Subcommand;
use event::id::TenantId;
use serde_json::json;

use super::keys::with_store;
use crate::admin::print;
use crate::cli::Place;
use crate::failure::Failure;

/// What ids of producers that are made here begin with.
const PREFIX: &str = "producer";

#[derive(Debug, Subcommand)]
pub(crate) enum ProducersCommand {
    /// Make a producer and print its id and its secret: the secret can be seen this once
    Create {
        /// For whom it writes
        #[arg(long, value_name = "T")]
        tenant: TenantId,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// List producers
    List {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Revoke a producer for good: what it writes from then on is refused
    Revoke {
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

pub(crate) fn run(command: &ProducersCommand) -> Result<ExitCode, Failure> {
    match command {
        ProducersCommand::Create { tenant, json, place } => {
            let grant = ProducerGrant::Tenant(tenant.clone());
            let made = with_store(place, async |store| store.create_producer(PREFIX, &grant).await)?;
            if *json {
                print::json(&json!({"id": made.id, "secret": made.secret.expose()}))?;
            } else {
                print::out(&format!("id {}\nsecret {}\n", made.id, made.secret.expose()))?;
            }
        }
        ProducersCommand::List { json, place } => list(*json, place)?,
        ProducersCommand::Revoke { id, place } => {
            with_store(place, async |store| store.revoke_producer(id).await)?;
            print::out(&format!("revoked {id}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(as_json: bool, place: &Place) -> Result<(), Failure> {
    let rows = with_store(place, async |store| store.producers().await)?;
    if as_json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({"id": row.id, "tenant": row.grant.as_str(), "created_at": print::time(row.created_ms),
                    "revoked_at": row.revoked_ms.map(print::time)})
            })
            .collect();
        return print::json(&rows);
    }
    let mut table = vec![print::row(["id", "tenant", "created", "revoked"])];
    for row in &rows {
        let revoked = row.revoked_ms.map_or_else(|| "-".to_owned(), print::time);
        table.push(print::row([&row.id, row.grant.as_str(), &print::time(row.created_ms), &revoked]));
    }
    print::out(&print::table(&table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_is_made_and_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { data: dir.path().to_owned(), config: None, profile: None };
        let tenant = TenantId::parse("acme").unwrap();
        run(&ProducersCommand::Create { tenant: tenant.clone(), json: false, place: place.clone() }).unwrap();
        let rows = with_store(&place, async |store| store.producers().await).unwrap();
        assert_eq!(rows[0].grant, ProducerGrant::Tenant(tenant));
        assert!(rows[0].id.starts_with("producer-"));
        run(&ProducersCommand::Revoke { id: rows[0].id.clone(), place: place.clone() }).unwrap();
        let rows = with_store(&place, async |store| store.producers().await).unwrap();
        assert!(rows[0].revoked_ms.is_some());
        assert!(run(&ProducersCommand::Revoke { id: "producer-0".into(), place }).is_err());
    }
}
