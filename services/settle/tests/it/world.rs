//! A log, a database, commands, and an oracle that says what the books must be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use billing::{Minor, Tariffs, fee};
use event::topic::{LEDGER_COMMAND, RELAY_POSITION, SETTLEMENT_PARKED, SETTLEMENT_POSTED};
use event::wire::{LedgerCommand, SettlementParked, SettlementPosted, Transfer, Wire};
use ledger::{Balance, Ledger, Offsets};
use log::embedded::EmbeddedLog;
use log::{Batch, Fault, Group, Log, Output, Record, Topic};
use settle::{Limits, SettleOptions};
use stage::Stop;
use stage::testing::{Hook, HookedLog, append, open_log, read_all};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::database::{Place, block_on, runtime};

pub const REDO: &str = "settle.redo.v1";
pub const DEAD: &str = "settle.dead.v1";
pub const TENANTS: [&str; 3] = ["acme", "bolt", "cato"];
pub const NOVEMBER: i64 = 1_793_000_000_000;
const PARTITIONS: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub log: EmbeddedLog,
    pub place: Place,
    pub limits: Limits,
    pub tariffs: Tariffs,
    _directory: TempDir,
}

/// Lets a failed test end: a scope waits for its threads.
pub struct StopOnDrop<'a>(pub &'a Stop);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// A charge of one exchange.
pub fn charge(number: u64, tenant: &str, minor: i64) -> LedgerCommand {
    LedgerCommand {
        command_id: format!("exchange_charge:ex_{number}"),
        tenant: tenant.to_owned(),
        idempotency_key: format!("ex_{number}"),
        kind: "exchange_charge".to_owned(),
        decided_in: format!("exchange.sealed.v1:0:{number}"),
        at: NOVEMBER,
        transfers: vec![Transfer {
            debit_account: format!("{tenant}:main"),
            credit_account: format!("{tenant}:agent-{}", number % 3),
            currency: "USD".to_owned(),
            minor,
        }],
        exchange_id: Some(format!("ex_{number}")),
        tariff_version: "t".to_owned(),
        config_version: 1,
    }
}

/// Charges of several tenants, of amounts that cross every discount.
pub fn charges(numbers: std::ops::Range<u64>) -> Vec<LedgerCommand> {
    numbers
        .map(|number| {
            let tenant = TENANTS[usize::try_from(number % 3).unwrap()];
            charge(number, tenant, i64::try_from(1 + number * 7_919 % 90_000).unwrap())
        })
        .collect()
}

/// What the books must be after these commands, worked out one by one.
pub fn oracle(commands: &[LedgerCommand]) -> Vec<Balance> {
    let tariffs = Tariffs::builtin();
    let mut seen = BTreeSet::new();
    let mut volumes: BTreeMap<String, i128> = BTreeMap::new();
    let mut sides: BTreeMap<String, (i128, i128)> = BTreeMap::new();
    for command in commands.iter().filter(|command| seen.insert((&command.tenant, &command.idempotency_key))) {
        let transfer = &command.transfers[0];
        let volume = volumes.entry(command.tenant.clone()).or_default();
        let split = fee(tariffs.at("USD", 0).unwrap().0, Minor::new(transfer.minor), *volume).unwrap();
        *volume += i128::from(transfer.minor);
        for (account, part) in [(transfer.credit_account.as_str(), split.net), ("countersign:fees", split.fee)] {
            if part > Minor::ZERO {
                sides.entry(transfer.debit_account.clone()).or_default().0 += i128::from(part.units());
                sides.entry(account.to_owned()).or_default().1 += i128::from(part.units());
            }
        }
    }
    sides
        .into_iter()
        .map(|(account, (debits, credits))| Balance { account, currency: "USD".to_owned(), debits, credits })
        .collect()
}

impl World {
    pub fn new(place: Place) -> Self {
        let directory = TempDir::new().unwrap();
        let topics = [LEDGER_COMMAND, REDO, DEAD, SETTLEMENT_POSTED, SETTLEMENT_PARKED, RELAY_POSITION];
        let group = Group { name: "settle".to_owned(), inputs: vec![Topic::new(LEDGER_COMMAND), Topic::new(REDO)] };
        let log = open_log(directory.path(), topics.map(|name| (name.to_owned(), PARTITIONS)), &[group]);
        let limits = Limits { poll_wait: Duration::from_millis(20), ..Limits::default() };
        Self { log, place, limits, tariffs: Tariffs::builtin(), _directory: directory }
    }

    pub fn options(&self) -> SettleOptions {
        SettleOptions {
            limits: self.limits,
            tariffs: self.tariffs.clone(),
            ..SettleOptions::new("0", self.place.url())
        }
    }

    pub fn append(&self, topic: &str, key: &str, value: &[u8], headers: &[(&str, &[u8])]) {
        let (topic, key) = (Topic::new(topic), Some(key.as_bytes()));
        append(&self.log, &Output { topic: &topic, partition: None, key, value: Some(value), headers });
    }

    pub fn command(&self, command: &LedgerCommand) {
        let key = format!("{}:main", command.tenant);
        self.append(
            LEDGER_COMMAND,
            &key,
            &command.encode().unwrap(),
            &[("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")],
        );
    }

    pub fn commands(&self, commands: &[LedgerCommand]) {
        commands.iter().for_each(|command| self.command(command));
    }

    /// Whether the database has decided, and the group committed, everything that is in the inputs.
    fn is_settled(&self, runtime: &Runtime, ledger: &mut Ledger) -> bool {
        let decided: Vec<Offsets> = (0..PARTITIONS)
            .map(|partition| runtime.block_on(ledger.progress(partition, START)).unwrap().offsets)
            .collect();
        [LEDGER_COMMAND, REDO].iter().all(|name| {
            let topic = Topic::new(name);
            let progress = self.log.progress("settle", &topic).unwrap();
            self.log.ends(&topic).unwrap().iter().all(|end| {
                let of_table = decided[usize::try_from(end.partition).unwrap()];
                let of_table = if *name == REDO { of_table.redo } else { of_table.command };
                let of_group = progress.iter().find(|at| at.partition == end.partition).map_or(0, |at| at.offset);
                of_table == end.offset && of_group == end.offset
            })
        })
    }

    /// Settles until nothing is left to settle, or until the writer dies.
    pub fn settle_with(&self, log: &dyn Log) -> Result<(), Fault> {
        let stop = Stop::new();
        let options = self.options();
        let runtime = runtime();
        let mut ledger = runtime.block_on(Ledger::open(self.place.url())).unwrap();
        std::thread::scope(|scope| {
            let _ends_with_the_scope = StopOnDrop(&stop);
            let writer = scope.spawn(|| settle::run(log, &options, &stop));
            let begun = Instant::now();
            let mut news = self.log.tail(&self.log.ends(&Topic::new(SETTLEMENT_POSTED)).unwrap()).unwrap();
            while !writer.is_finished() && !self.is_settled(&runtime, &mut ledger) {
                assert!(begun.elapsed() < PATIENCE, "not settled after {PATIENCE:?}");
                news.poll(Duration::from_millis(5), &mut Batch::default()).unwrap();
            }
            stop.request();
            writer.join().unwrap()
        })
    }

    pub fn settle(&self) {
        self.settle_with(&self.log).unwrap();
    }

    pub fn settle_hooked(&self, hook: Hook) -> Result<(), Fault> {
        self.settle_with(&HookedLog { log: self.log.clone(), hook: Arc::clone(&hook) })
    }

    pub fn balances(&self) -> Vec<Balance> {
        block_on(async { Ledger::open(self.place.url()).await.unwrap().balances().await.unwrap() })
    }

    fn next_sequence(&self, partition: u32) -> u64 {
        block_on(async {
            let mut ledger = Ledger::open(self.place.url()).await.unwrap();
            ledger.progress(partition, START).await.unwrap().next_sequence
        })
    }

    pub fn records(&self, topic: &str) -> Vec<Record> {
        read_all(&self.log, &Topic::new(topic))
    }

    pub fn posted(&self) -> Vec<SettlementPosted> {
        let records = self.records(SETTLEMENT_POSTED);
        records.iter().map(|record| SettlementPosted::decode(record.value.as_deref().unwrap()).unwrap()).collect()
    }

    pub fn parked(&self) -> Vec<SettlementParked> {
        let records = self.records(SETTLEMENT_PARKED);
        records.iter().map(|record| SettlementParked::decode(record.value.as_deref().unwrap()).unwrap()).collect()
    }

    /// The books are those of these commands and no others, and the log tells of each exactly once, without gaps.
    pub fn assert_settled_once(&self, commands: &[LedgerCommand]) {
        assert_eq!(self.balances(), oracle(commands));
        let posted = self.posted();
        let mut ids: Vec<&str> = posted.iter().map(|one| one.command_id.as_str()).collect();
        ids.sort_unstable();
        let mut owed: Vec<&str> = commands.iter().map(|one| one.command_id.as_str()).collect();
        owed.sort_unstable();
        owed.dedup();
        assert_eq!(ids, owed);
        self.assert_gapless();
    }

    pub fn assert_gapless(&self) {
        let mut sequences: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for posted in self.posted() {
            sequences.entry(posted.ledger_partition).or_default().push(posted.sequence);
        }
        for parked in self.parked() {
            sequences.entry(parked.ledger_partition).or_default().push(parked.sequence);
        }
        for record in self.records(DEAD) {
            let place = String::from_utf8(record.header("ledger-sequence").unwrap().to_vec()).unwrap();
            let (partition, sequence) = place.split_once(':').unwrap();
            sequences.entry(partition.parse().unwrap()).or_default().push(sequence.parse().unwrap());
        }
        for (partition, mut numbers) in sequences {
            numbers.sort_unstable();
            let gapless: Vec<i64> = (1..=i64::try_from(numbers.len()).unwrap()).collect();
            assert_eq!(numbers, gapless, "ledger partition {partition}");
            assert_eq!(
                self.next_sequence(u32::try_from(partition).unwrap()),
                1 + u64::try_from(gapless.len()).unwrap()
            );
        }
    }
}

pub const START: Offsets = Offsets { command: 0, redo: 0 };
