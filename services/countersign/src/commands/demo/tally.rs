//! What the topics say, counted by reading them from their beginning, and every receipt verified with nothing but the
//! public keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use event::topic::{
    self, ADMITTED, DELIVERED, REJECTED, SEALED, SETTLEMENT_PARKED, SETTLEMENT_POSTED, SIGNING_KEY, USAGE_RECORDED,
};
use event::wire::{
    ExchangeAdmitted, ExchangeDelivered, ExchangeRejected, ExchangeSealed, SettlementParked, SettlementPosted,
    SigningKey, UsageRecorded, Wire, WireError,
};
use log::embedded::EmbeddedLog;
use log::{Batch, Log, Record, Topic};
use proof::{KeyRing, PublicKey, Trust};

use super::documents::Answers;
use super::receiver::Receiver;
use crate::admin::books::BooksAnswer;
use crate::admin::print::{row, table};
use crate::data_dir::DataDir;
use crate::failure::{Doing as _, Failure};
use crate::substrate::of_fault;

const POLL_WAIT: Duration = Duration::from_millis(200);

/// Everything counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sealed: usize,
    pub(crate) replayed: usize,
    pub(crate) refused: BTreeMap<String, usize>,
    pub(crate) delivered: usize,
    pub(crate) undelivered: usize,
    pub(crate) posted: usize,
    pub(crate) parked: usize,
    pub(crate) receipts_verified: usize,
    /// Minor units by currency and account: credits minus debits.
    pub(crate) balances: BTreeMap<String, BTreeMap<String, i128>>,
    vex: i64,
    dead: BTreeMap<String, usize>,
    chains_broken: Vec<String>,
    ids: BTreeSet<String>,
    twice: usize,
    chains: BTreeMap<String, BTreeMap<u64, String>>,
    keys: KeyRing,
}

impl Tally {
    /// Reads the log of a pipeline that has ended.
    pub(crate) fn count(data: &Path) -> Result<Self, Failure> {
        let data = DataDir::open(data).doing("the data directory is gone")?;
        let log = EmbeddedLog::open(&data.log()).map_err(of_fault)?;
        let mut tally = Self::default();
        let counted =
            [SIGNING_KEY, ADMITTED, REJECTED, SEALED, DELIVERED, USAGE_RECORDED, SETTLEMENT_POSTED, SETTLEMENT_PARKED];
        for name in counted {
            read_all(&log, name, |record| tally.take(record))?;
        }
        for step in topic::STEPS {
            read_all(&log, &step.dead_topic(), |_| {
                *tally.dead.entry(step.name.to_owned()).or_default() += 1;
                Ok(())
            })?;
        }
        tally.verify_chains();
        Ok(tally)
    }

    fn take(&mut self, record: &Record) -> Result<(), WireError> {
        let value = record.value.as_deref().unwrap_or_default();
        match record.topic.as_str() {
            SIGNING_KEY => {
                if let Ok(key) = PublicKey::from_jwk(SigningKey::decode(value)?.jwk.as_bytes()) {
                    // The same key is listed at every start.
                    drop(self.keys.insert(key));
                }
            }
            ADMITTED => self.replayed += usize::from(ExchangeAdmitted::decode(value)?.admission.is_none()),
            REJECTED => *self.refused.entry(ExchangeRejected::decode(value)?.code).or_default() += 1,
            SEALED => self.seal(ExchangeSealed::decode(value)?),
            DELIVERED => {
                if ExchangeDelivered::decode(value)?.delivered {
                    self.delivered += 1;
                } else {
                    self.undelivered += 1;
                }
            }
            USAGE_RECORDED => self.vex += UsageRecorded::decode(value)?.vex,
            SETTLEMENT_POSTED => {
                self.posted += 1;
                for transfer in SettlementPosted::decode(value)?.transfers {
                    let accounts = self.balances.entry(transfer.currency).or_default();
                    *accounts.entry(transfer.debit_account).or_default() -= i128::from(transfer.minor);
                    *accounts.entry(transfer.credit_account).or_default() += i128::from(transfer.minor);
                }
            }
            _ => {
                SettlementParked::decode(value)?;
                self.parked += 1;
            }
        }
        Ok(())
    }

    fn seal(&mut self, sealed: ExchangeSealed) {
        self.sealed += 1;
        self.twice += usize::from(!self.ids.insert(sealed.exchange_id));
        let place = serde_json::from_str::<serde_json::Value>(&sealed.receipt)
            .ok()
            .and_then(|receipt| Some((receipt.get("chain")?.as_str()?.to_owned(), receipt.get("hop")?.as_u64()?)));
        match place {
            Some((chain, hop)) => drop(self.chains.entry(chain).or_default().insert(hop, sealed.receipt)),
            None => self.chains_broken.push("a receipt names no chain".to_owned()),
        }
    }

    fn verify_chains(&mut self) {
        for (chain, hops) in &self.chains {
            let receipts = hops.values().map(String::as_str).collect::<Vec<_>>().join(",");
            let trust = Trust { given: &self.keys, embedded: false };
            let verdict = proof::verify(format!("[{receipts}]").as_bytes(), trust, &[]);
            if verdict.verdict == proof::Code::Ok {
                self.receipts_verified += hops.len();
            } else {
                self.chains_broken.push(format!("chain {chain}: {:?} at receipt {:?}", verdict.verdict, verdict.index));
            }
        }
    }

    /// The first exchange, to try commands on.
    pub(crate) fn an_exchange(&self) -> Option<&str> {
        self.ids.first().map(String::as_str)
    }

    /// The table.
    pub(crate) fn told(&self, answers: &Answers) -> String {
        let mut rows = vec![row(["what", "how many", "where"])];
        let mut line = |what: &str, count: usize, place: &str| rows.push(row([what, &count.to_string(), place]));
        line("sealed, each with its receipt", self.sealed, SEALED);
        line("replayed: the same key, the same answer", self.replayed, ADMITTED);
        for (code, count) in &self.refused {
            line(&format!("refused: {code}"), *count, REJECTED);
        }
        for (code, count) in answers.counted.iter().filter(|(code, _)| self.is_of_the_door(code)) {
            line(&format!("not let in: {code}"), *count, "(the HTTP door; nothing is written)");
        }
        line("delivered", self.delivered, DELIVERED);
        line("not delivered, and said so", self.undelivered, DELIVERED);
        line("settled", self.posted, SETTLEMENT_POSTED);
        line("parked: no tariff for the currency", self.parked, SETTLEMENT_PARKED);
        for (step, count) in &self.dead {
            line("dead letters", *count, step);
        }
        table(&rows)
    }

    fn is_of_the_door(&self, code: &str) -> bool {
        code != "sealed" && code != "replayed" && !self.refused.contains_key(code)
    }

    pub(crate) fn balances_told(&self) -> String {
        let mut rows = vec![row(["account", "currency", "balance (minor units)"])];
        for (currency, accounts) in &self.balances {
            for (account, balance) in accounts {
                rows.push(row([account, currency, &balance.to_string()]));
            }
            let sum: i128 = accounts.values().sum();
            rows.push(row(["sum of all", currency, &sum.to_string()]));
        }
        table(&rows)
    }

    /// What must hold for any documents.
    pub(crate) fn faults(&self, books: &BooksAnswer, answers: &Answers, receiver: &Receiver) -> Vec<String> {
        let mut faults = self.chains_broken.clone();
        let mut hold = |holds: bool, fault: String| {
            if !holds {
                faults.push(fault);
            }
        };
        hold(books.closed, "the books do not close".to_owned());
        hold(answers.undecided == 0, format!("{} documents were never decided", answers.undecided));
        hold(self.twice == 0, format!("{} exchanges were sealed twice", self.twice));
        hold(
            answers.of("sealed") == self.sealed,
            format!("{} were answered 201, {} are sealed", answers.of("sealed"), self.sealed),
        );
        hold(
            self.receipts_verified == self.sealed,
            format!("{} of {} receipts verify", self.receipts_verified, self.sealed),
        );
        hold(
            usize::try_from(self.vex) == Ok(self.sealed),
            format!("{} are metered, {} are sealed", self.vex, self.sealed),
        );
        hold(self.dead.is_empty(), format!("there are dead letters: {:?}", self.dead));
        hold(
            receiver.taken() == self.delivered,
            format!("the receiver took {}, {} are recorded", receiver.taken(), self.delivered),
        );
        for (currency, accounts) in &self.balances {
            let sum: i128 = accounts.values().sum();
            hold(sum == 0, format!("the balances in {currency} sum to {sum}"));
        }
        faults
    }

    /// What must hold for documents whose outcome nobody has written down: each has one, and no key is used twice.
    pub(crate) fn own_documents_faults(&self, sent: usize, answers: &Answers) -> Vec<String> {
        let decided: usize = answers.counted.values().sum();
        let mut faults = Vec::new();
        if decided != sent {
            faults.push(format!("{sent} documents were sent, {decided} were decided"));
        }
        if self.sealed == 0 {
            faults.push("not one document was sealed".to_owned());
        }
        faults
    }
}

fn read_all(
    log: &EmbeddedLog,
    name: &str,
    mut take: impl FnMut(&Record) -> Result<(), WireError>,
) -> Result<(), Failure> {
    let topic = Topic::new(name);
    let ends = log.ends(&topic).map_err(of_fault)?;
    let mut tail = log.tail(&log.starts(&topic).map_err(of_fault)?).map_err(of_fault)?;
    let mut batch = Batch::default();
    let passed = |tail: &dyn log::Tail| {
        let at = tail.positions();
        ends.iter().all(|end| at.iter().any(|at| at.partition == end.partition && at.offset >= end.offset))
    };
    while !passed(tail.as_ref()) {
        batch.records.clear();
        tail.poll(POLL_WAIT, &mut batch).map_err(of_fault)?;
        for record in &batch.records {
            take(record).map_err(|error| Failure::new(format!("a record of {name} cannot be read")).because(error))?;
        }
    }
    Ok(())
}
