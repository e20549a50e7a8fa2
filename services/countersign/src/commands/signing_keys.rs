//! `signing-keys rotate|list`: writes key files, also beside a running process, which takes a new key up within a second.

use std::path::Path;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use proof::PublicKey;
use serde_json::json;
use signing::{KeyFileError, KeyFiles, LEAD_S_MIN, Use};

use crate::admin::print;
use crate::cli::Place;
use crate::config::Overrides;
use crate::failure::Failure;
use crate::roles::unix_seconds;
use crate::substrate::configure;

/// Longer than a JWKS is kept by those who fetched it, and than clocks differ.
const LEAD_S: i64 = 300;

#[derive(Debug, Subcommand)]
pub(crate) enum SigningKeysCommand {
    /// Make the next key. It is in the JWKS within a second and signs when its time has come; the one before stays in the
    /// JWKS. Run it where sign runs, or view for the bundles': each process has keys of its own
    Rotate {
        /// What the key signs
        #[arg(long = "for", value_name = "WHAT", value_enum, default_value_t = What::Receipts)]
        what: What,
        /// When it signs: so many seconds from now. Longer than clocks differ, and than clients keep a JWKS
        #[arg(long = "in", value_name = "SECONDS", default_value_t = LEAD_S, value_parser = clap::value_parser!(i64).range(LEAD_S_MIN..=LEAD_S_MAX))]
        lead_s: i64,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// List the keys in this data directory, the oldest first
    List {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

/// A year: what is planned further ahead is forgotten.
const LEAD_S_MAX: i64 = 365 * 86_400;

/// What is signed with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Each exchange's receipt: the keys of sign
    Receipts,
    /// A chain with its keys: the keys of view
    Bundles,
}

impl From<What> for Use {
    fn from(what: What) -> Self {
        match what {
            What::Receipts => Self::Receipts,
            What::Bundles => Self::Bundles,
        }
    }
}

/// A key as it is told: never its private half.
struct Row {
    public: PublicKey,
    used_for: &'static str,
}

impl Row {
    fn state(&self, now: i64) -> &'static str {
        match (self.public.nbf() > now, self.public.exp().is_some_and(|exp| exp <= now)) {
            (true, _) => "waiting",
            (false, true) => "retired",
            (false, false) => "signing",
        }
    }

    fn json(&self, now: i64) -> serde_json::Value {
        json!({"kid": self.public.kid(), "used_for": self.used_for, "state": self.state(now),
            "nbf": self.public.nbf(), "exp": self.public.exp()})
    }
}

pub(crate) fn run(command: &SigningKeysCommand) -> Result<ExitCode, Failure> {
    match command {
        SigningKeysCommand::Rotate { what, lead_s, json, place } => {
            let files = KeyFiles::new(signing(place)?, Use::from(*what));
            let public = files.rotate(&rand::random(), unix_seconds(), *lead_s)?;
            let from = print::time(public.nbf().saturating_mul(1_000));
            let row = Row { public, used_for: files.used_for.as_str() };
            if *json {
                print::json(&row.json(unix_seconds()))?;
            } else {
                print::out(&format!("{} signs from {from}\n", row.public.kid()))?;
            }
        }
        SigningKeysCommand::List { json, place } => list(&rows(&signing(place)?)?, *json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn signing(place: &Place) -> Result<std::path::PathBuf, Failure> {
    let overrides = Overrides { profile: place.profile, ..Overrides::default() };
    let (_, data) = configure(place, &overrides)?;
    Ok(data.signing())
}

fn rows(signing: &Path) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for used_for in [Use::Receipts, Use::Bundles] {
        match KeyFiles::new(signing, used_for).load() {
            Ok(keys) => {
                rows.extend(keys.iter().map(|key| Row { public: key.public().clone(), used_for: used_for.as_str() }))
            }
            // Sign or view may run here alone.
            Err(KeyFileError::None { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(rows)
}

fn list(rows: &[Row], as_json: bool) -> Result<(), Failure> {
    let now = unix_seconds();
    if as_json {
        return print::json(&rows.iter().map(|row| row.json(now)).collect::<Vec<_>>());
    }
    let time = |seconds: i64| print::time(seconds.saturating_mul(1_000));
    let mut table = vec![print::row(["kid", "signs", "state", "from", "until"])];
    for row in rows {
        let until = row.public.exp().map_or_else(|| "-".to_owned(), time);
        table.push(print::row([row.public.kid(), row.used_for, row.state(now), &time(row.public.nbf()), &until]));
    }
    print::out(&print::table(&table))
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        let advice = match &error {
            KeyFileError::None { .. } => {
                "is --data DIR the directory of a sign, or for bundles of a view, that has run once?"
            }
            KeyFileError::Waiting { .. } => "countersign signing-keys list",
            _ => "is --data DIR the directory of the signer, and may this user read it?",
        };
        Self::new("the signing keys were not changed").because(error).try_this(advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_listed_and_told_by_their_state() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { data: dir.path().to_owned(), config: None, profile: None };
        let rotate_for =
            |what, lead_s| run(&SigningKeysCommand::Rotate { what, lead_s, json: true, place: place.clone() });
        let rotate = |lead_s| rotate_for(What::Receipts, lead_s);
        assert!(rotate(60).is_err(), "there is no key yet");
        let signing = signing(&place).unwrap();
        let log_dir = dir.path().join("log");
        let log = std::sync::Arc::new(log::embedded::EmbeddedLog::open(&log_dir).unwrap());
        let substrate = crate::substrate::Substrate {
            log,
            config: crate::config::Config::default(),
            data: crate::data_dir::DataDir::open(dir.path()).unwrap(),
        };
        substrate.apply_topics().unwrap();
        crate::roles::signing_keys(substrate.log.clone(), &substrate.data).unwrap();
        rotate(60).unwrap();
        assert!(rotate(60).is_err(), "one waits already");
        let rows = rows(&signing).unwrap();
        let now = unix_seconds();
        let states: Vec<&str> = rows.iter().map(|row| row.state(now)).collect();
        assert_eq!(states, ["signing", "waiting"]);
        assert_eq!(rows[0].public.exp(), Some(rows[1].public.nbf()));
        assert_eq!(rows[0].state(rows[1].public.nbf()), "retired");
        assert!(rotate_for(What::Bundles, 60).is_err(), "no view has run here");
        crate::roles::bundle_keys(substrate.log.clone(), &substrate.data).unwrap();
        rotate_for(What::Bundles, 60).unwrap();
        let all = super::rows(&signing).unwrap();
        let told: Vec<_> = all.iter().map(|row| (row.used_for, row.state(now))).collect();
        let both = |what| [(what, "signing"), (what, "waiting")];
        assert_eq!(told, [both("receipt"), both("bundle")].concat());
        assert_eq!(run(&SigningKeysCommand::List { json: false, place }).unwrap(), ExitCode::SUCCESS);
    }
}
