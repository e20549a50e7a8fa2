//! What the shipped documents must lead to, written beside them and not computed by this program.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::documents::Answers;
use super::tally::Tally;
use crate::failure::{Doing as _, Failure};

/// `examples/expected.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expectation {
    sent: usize,
    sealed: usize,
    replayed: usize,
    /// By code, refused after acceptance.
    refused: BTreeMap<String, usize>,
    /// By code, not let in at all.
    at_the_door: BTreeMap<String, usize>,
    delivered: usize,
    undelivered: usize,
    posted: usize,
    parked: usize,
    /// Minor units by currency and account.
    balances: BTreeMap<String, BTreeMap<String, String>>,
}

impl Expectation {
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::new(format!("{} cannot be read", file.display())).because(error))?;
        serde_json::from_str(&text).doing("the expectation cannot be read")
    }

    /// Where what came differs from what was expected.
    pub(crate) fn differences(&self, tally: &Tally, answers: &Answers) -> Vec<String> {
        let mut differences = Vec::new();
        let decided: usize = answers.counted.values().sum();
        for (what, expected, came) in [
            ("documents decided", self.sent, decided),
            ("sealed", self.sealed, tally.sealed),
            ("replayed", self.replayed, tally.replayed),
            ("answered as replayed", self.replayed, answers.of("replayed")),
            ("delivered", self.delivered, tally.delivered),
            ("not delivered", self.undelivered, tally.undelivered),
            ("posted", self.posted, tally.posted),
            ("parked", self.parked, tally.parked),
        ] {
            if expected != came {
                differences.push(format!("{what}: {expected} expected, {came} came"));
            }
        }
        if self.refused != tally.refused {
            differences.push(format!("refused: {:?} expected, {:?} came", self.refused, tally.refused));
        }
        for (code, expected) in &self.at_the_door {
            if answers.of(code) != *expected {
                differences.push(format!("{code}: {expected} expected, {} came", answers.of(code)));
            }
        }
        let balances: BTreeMap<String, BTreeMap<String, String>> = tally
            .balances
            .iter()
            .map(|(currency, accounts)| {
                let accounts = accounts.iter().map(|(account, minor)| (account.clone(), minor.to_string()));
                (currency.clone(), accounts.collect())
            })
            .collect();
        if self.balances != balances {
            differences.push(format!("balances: {:?} expected, {balances:?} came", self.balances));
        }
        differences
    }
}
