//! `tenants show|set` and `webhooks secret`: what holds for a tenant.
//!
//! A tenant that the configuration file names gets the file's allowlist again at every start.

use std::process::ExitCode;

use access::{Secret, StillRetiring, Store, TenantSettings};
use admission::RepairPolicy;
use clap::{Args, Subcommand, ValueEnum};
use event::destination::Allowlist;
use event::id::TenantId;
use serde_json::{Value, json};

use super::keys::with_store;
use crate::admin::print;
use crate::cli::Place;
use crate::failure::Failure;
use crate::roles::unix_seconds;

#[derive(Debug, Subcommand)]
pub(crate) enum TenantsCommand {
    /// Show every tenant, or one
    Show {
        #[arg(value_name = "T")]
        tenant: Option<TenantId>,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Say where a tenant's deliveries may go, and what may be repaired; a tenant that is not known yet is made
    Set(SetArgs),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct SetArgs {
    #[arg(value_name = "T")]
    tenant: TenantId,
    /// Replace the list of destinations: `host` or `host:port`, again for each
    #[arg(long, value_name = "HOST[:PORT]", num_args = 1.., group = "change", conflicts_with_all = ["allow_add", "allow_remove", "allow_none"])]
    allow: Vec<String>,
    /// Add to the list
    #[arg(long, value_name = "HOST[:PORT]", num_args = 1.., group = "change")]
    allow_add: Vec<String>,
    /// Take from the list
    #[arg(long, value_name = "HOST[:PORT]", num_args = 1.., group = "change")]
    allow_remove: Vec<String>,
    /// Allow no destination at all
    #[arg(long, group = "change", conflicts_with_all = ["allow_add", "allow_remove"])]
    allow_none: bool,
    /// Whether strings that a payload type reads as JSON may be repaired where they are not
    #[arg(long, value_enum, group = "change")]
    repair: Option<RepairChoice>,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RepairChoice {
    /// By the ladder of fixed rules, and the receipt's record says so
    Rules,
    /// What is not JSON is refused
    Off,
}

impl From<RepairChoice> for RepairPolicy {
    fn from(choice: RepairChoice) -> Self {
        match choice {
            RepairChoice::Rules => Self::Rules,
            RepairChoice::Off => Self::Off,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum WebhooksCommand {
    /// Print the secret that signs a tenant's deliveries
    Secret {
        #[arg(long, value_name = "T")]
        tenant: TenantId,
        /// Make a new one first; deliveries are signed with it within a second, and with the one before as well
        #[arg(long)]
        rotate: bool,
        /// For how long both sign, so that receivers can be told of the new one. 0: older ones are out at once, as when one
        /// is in wrong hands
        #[arg(long, value_name = "SECONDS", requires = "rotate", default_value_t = OVERLAP_S, value_parser = clap::value_parser!(i64).range(0..=OVERLAP_S_MAX))]
        overlap: i64,
        #[command(flatten)]
        place: Place,
    },
}

/// A day: receivers are changed by people.
const OVERLAP_S: i64 = 86_400;
const OVERLAP_S_MAX: i64 = 90 * 86_400;

pub(crate) fn run(command: &TenantsCommand) -> Result<ExitCode, Failure> {
    match command {
        TenantsCommand::Show { tenant: None, json, place } => {
            let tenants = with_store(place, async |store| store.tenants().await)?;
            show(&tenants, *json)?;
        }
        TenantsCommand::Show { tenant: Some(tenant), json, place } => {
            let settings = with_store(place, async |store| known(store, tenant).await)?;
            show(&[(tenant.clone(), settings)], *json)?;
        }
        TenantsCommand::Set(args) => {
            let settings = set(args)?;
            show(&[(args.tenant.clone(), settings)], args.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run_webhooks(command: &WebhooksCommand) -> Result<ExitCode, Failure> {
    let WebhooksCommand::Secret { tenant, rotate, overlap, place } = command;
    let settings = with_store(place, async |store| {
        let mut settings = known(store, tenant).await?;
        if *rotate {
            let now_ms = unix_seconds().saturating_mul(1_000);
            settings.rotate_webhook_secret(Secret::webhook(), now_ms, overlap.saturating_mul(1_000)).map_err(still)?;
            store.set_tenant(tenant, &settings).await?;
        }
        Ok::<_, Failure>(settings)
    })?;
    print::out(&format!("{}\n", settings.webhook_secret.expose()))?;
    Ok(ExitCode::SUCCESS)
}

fn still(retiring: StillRetiring) -> Failure {
    Failure::new(format!("the secret was not changed: the one before signs until {}", print::time(retiring.until_ms)))
        .try_this("wait until then, or drop every older one at once with --overlap 0")
}

async fn known(store: &Store, tenant: &TenantId) -> Result<TenantSettings, Failure> {
    store.tenant(tenant).await?.ok_or_else(|| {
        Failure::new(format!("there is no tenant {tenant}"))
            .try_this(format!("`countersign keys create --tenant {tenant}` makes it, with a key"))
    })
}

/// Writes and answers the new settings.
fn set(args: &SetArgs) -> Result<TenantSettings, Failure> {
    let named = args.allow.iter().chain(&args.allow_add);
    Allowlist::parse(named).map_err(|bad| {
        Failure::new("the allowlist was not changed")
            .because(bad)
            .try_this("an entry is `host` or `host:port`, without https://")
    })?;
    with_store(&args.place, async |store| {
        store.ensure_tenant(&args.tenant).await?;
        let mut settings = known(store, &args.tenant).await?;
        settings.forward_allowlist = changed(settings.forward_allowlist, args)?;
        settings.repair = args.repair.map_or(settings.repair, RepairPolicy::from);
        store.set_tenant(&args.tenant, &settings).await?;
        Ok::<_, Failure>(settings)
    })
}

fn changed(before: Vec<String>, args: &SetArgs) -> Result<Vec<String>, Failure> {
    let mut list = if args.allow.is_empty() && !args.allow_none { before } else { args.allow.clone() };
    for gone in &args.allow_remove {
        let length = list.len();
        list.retain(|entry| entry != gone);
        if list.len() == length {
            return Err(Failure::new(format!("{gone} is not on the list: {}", list.join(", "))));
        }
    }
    list.extend(args.allow_add.iter().cloned());
    list.sort();
    list.dedup();
    Ok(list)
}

/// Without the secret: `webhooks secret` shows it.
fn show(tenants: &[(TenantId, TenantSettings)], as_json: bool) -> Result<(), Failure> {
    if as_json {
        let shown: Vec<Value> = tenants
            .iter()
            .map(|(tenant, settings)| json!({"tenant": tenant, "forward_allowlist": settings.forward_allowlist, "repair": settings.repair}))
            .collect();
        return print::json(&shown);
    }
    let mut table = vec![print::row(["tenant", "repair", "deliveries may go to"])];
    for (tenant, settings) in tenants {
        let allowed = match settings.forward_allowlist.as_slice() {
            [] => "nowhere".to_owned(),
            allowed => allowed.join(", "),
        };
        let repair = match settings.repair {
            RepairPolicy::Rules => "rules",
            RepairPolicy::Off => "off",
        };
        table.push(print::row([tenant.as_str(), repair, &allowed]));
    }
    print::out(&print::table(&table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Set {
        #[command(flatten)]
        args: SetArgs,
    }

    fn parse(dir: &std::path::Path, words: &[&str]) -> Result<SetArgs, clap::Error> {
        let data = ["set", "acme", "--data", dir.to_str().unwrap()];
        Set::try_parse_from(data.iter().chain(words)).map(|set| set.args)
    }

    #[test]
    fn the_list_is_replaced_extended_and_cut_back() {
        let dir = tempfile::tempdir().unwrap();
        let after = |words: &[&str]| set(&parse(dir.path(), words).unwrap()).map(|settings| settings.forward_allowlist);
        assert_eq!(after(&["--allow", "b.example", "a.example:8443"]).unwrap(), ["a.example:8443", "b.example"]);
        assert_eq!(
            after(&["--allow-add", "c.example", "--allow-remove", "b.example"]).unwrap(),
            ["a.example:8443", "c.example"]
        );
        assert!(after(&["--allow-remove", "b.example"]).is_err());
        assert!(after(&["--allow", "https://a.example/"]).is_err());
        assert!(after(&["--allow-none"]).unwrap().is_empty());
    }

    #[test]
    fn repairs_are_allowed_until_they_are_switched_off() {
        let dir = tempfile::tempdir().unwrap();
        let after = |words: &[&str]| set(&parse(dir.path(), words).unwrap()).unwrap().repair;
        assert_eq!(after(&["--allow", "b.example"]), RepairPolicy::Rules);
        assert_eq!(after(&["--repair", "off"]), RepairPolicy::Off);
        assert_eq!(after(&["--allow-add", "c.example"]), RepairPolicy::Off);
        assert_eq!(after(&["--repair", "rules"]), RepairPolicy::Rules);
        assert!(parse(dir.path(), &["--repair", "maybe"]).is_err());
    }

    #[test]
    fn a_change_is_asked_for_and_only_one_kind() {
        let dir = tempfile::tempdir().unwrap();
        for words in [&[][..], &["--allow", "a", "--allow-add", "b"], &["--allow-none", "--allow-add", "b"]] {
            assert!(parse(dir.path(), words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_webhook_secret_stays_until_it_is_rotated() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { data: dir.path().to_owned(), config: None, profile: None };
        let tenant = TenantId::parse("acme").unwrap();
        let secret =
            |rotate, overlap| WebhooksCommand::Secret { tenant: tenant.clone(), rotate, overlap, place: place.clone() };
        assert!(run_webhooks(&secret(false, OVERLAP_S)).is_err(), "the tenant is not known");
        with_store(&place, async |store| store.ensure_tenant(&tenant).await).unwrap();
        let read = || with_store(&place, async |store| known(store, &tenant).await).unwrap();
        let first = read();
        run_webhooks(&secret(false, OVERLAP_S)).unwrap();
        assert_eq!(read(), first);
        run_webhooks(&secret(true, OVERLAP_S)).unwrap();
        let rotated = read();
        assert_ne!(rotated.webhook_secret, first.webhook_secret);
        let retiring = rotated.webhook_secret_retiring.clone().unwrap();
        assert_eq!(retiring.secret, first.webhook_secret);
        assert!((1..=OVERLAP_S * 1_000).contains(&(retiring.until_ms - unix_seconds() * 1_000)), "{retiring:?}");
        assert!(run_webhooks(&secret(true, OVERLAP_S)).is_err(), "the first one still signs");
        assert_eq!(read(), rotated);
        // Where delivery settings are made of it, both are there.
        assert!(crate::roles::forward_settings(&rotated).retiring.is_some());
        run_webhooks(&secret(true, 0)).unwrap();
        assert_eq!(read().webhook_secret_retiring, None);
    }
}
