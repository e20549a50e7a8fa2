//! One schedule: slots of a step under load while processes, machines and brokers fail, all of it told by a seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use countersign_log::kafka::hostile::{Chance, Exit, Machine, Process, Removed, Simulation, Weather};
use countersign_log::{Batch, Fault, Log, Member, Polled};
use stage::{RunOptions, Stop};

use crate::oracle::{self, Inputs};
use crate::step::{Counter, Topics};

const GROUP: &str = "step";
/// What may be under way when the faults end must be over by then: transactions that time out, members that are gone.
const PATIENCE: Duration = Duration::from_secs(900);
/// A process may end with these and be started again. With any other, the log has lost something.
const MAY_END_WITH: &[&str] = &[
    "client_failed",
    "commit_unknown",
    "fenced",
    "join_failed",
    "offsets_unavailable",
    "partition_lost",
    "rebalanced",
    "restore_stalled",
    "store_locked",
    "transaction_failed",
    "transaction_late",
    "transaction_void",
    "unavailable",
    "unstable",
];

/// What a schedule was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) simulated: Duration,
    pub(crate) processes: usize,
    pub(crate) faults: usize,
    pub(crate) inputs: usize,
}

/// One process.
#[derive(Clone)]
struct Running {
    id: usize,
    stop: Stop,
    machine: usize,
}

struct Story<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    simulation: &'env Simulation,
    topics: &'env Topics,
    chance: Chance,
    machines: Vec<Machine>,
    slots: BTreeMap<usize, Option<Running>>,
    /// Processes that nobody starts again: killed, replaced, or of a slot that was given up.
    others: Vec<Running>,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
    inputs: Inputs,
    told: Told,
}

/// Runs the schedule of a seed; the error says what was not as it must be.
pub(crate) fn tell(seed: u64, removed: Option<Removed>) -> Result<Told, String> {
    let simulation = Simulation::new(seed, removed);
    let topics = Topics::new();
    let mut chance = Chance::new(!seed);
    let partitions = 1 + u32::try_from(chance.below(3)).unwrap_or_default();
    for (topic, read_by) in [(&topics.input, Some(GROUP)), (&topics.state, None), (&topics.beside, None)] {
        simulation.create_topic(topic, partitions, read_by);
    }
    simulation.create_topic(&topics.spread, 3, None);
    simulation.create_topic(&topics.dead, partitions, None);
    std::thread::scope(|scope| {
        let slots = 1 + chance.index(3);
        let mut story = Story {
            scope,
            simulation: &simulation,
            topics: &topics,
            // One machine a slot, and one to spare.
            machines: (0..=slots).map(|_| Machine::default()).collect(),
            slots: (0..slots).map(|slot| (slot, None)).collect(),
            others: Vec::new(),
            threads: Vec::new(),
            inputs: (0..partitions).map(|_| Vec::new()).collect(),
            told: Told::default(),
            chance,
        };
        let outcome = story.run();
        story.end_all();
        for thread in story.threads.drain(..) {
            thread.join().map_err(|_| "a thread of the simulation panicked".to_owned())?;
        }
        outcome.map(|()| story.told)
    })
}

impl Story<'_, '_> {
    fn run(&mut self) -> Result<(), String> {
        let weather = Weather::of(&mut self.chance);
        self.simulation.set_weather(weather);
        for _ in 0..3 + self.chance.index(6) {
            self.attend()?;
            // Sometimes a stream, so that one transaction follows the other.
            for _ in 0..self.chance.index(20) {
                self.load();
                let pause = self.chance.between(Duration::from_micros(200), Duration::from_millis(12));
                self.simulation.sleep(pause);
            }
            let pause = self.some_time();
            self.simulation.sleep(pause);
            self.disturb();
            let pause = self.some_time();
            self.simulation.sleep(pause);
        }
        self.load();
        self.simulation.set_weather(Weather::calm());
        let deadline = self.simulation.elapsed() + PATIENCE;
        while !self.is_done() {
            self.attend()?;
            if self.simulation.elapsed() > deadline {
                return Err(format!("no progress: {}", self.standing()));
            }
            self.simulation.sleep(Duration::from_secs(1));
        }
        self.attend()?;
        self.told.simulated = self.simulation.elapsed();
        self.told.inputs = self.inputs.iter().map(Vec::len).sum();
        oracle::check(self.simulation, self.topics, GROUP, &self.inputs)?;
        self.stop_all()?;
        self.check_a_store()
    }

    /// Short, so that faults meet transactions; sometimes long enough for every time-out.
    fn some_time(&mut self) -> Duration {
        match self.chance.below(10) {
            0..6 => self.chance.between(Duration::from_millis(1), Duration::from_millis(40)),
            6..9 => self.chance.between(Duration::from_millis(40), Duration::from_secs(4)),
            _ => self.chance.between(Duration::from_secs(4), Duration::from_secs(70)),
        }
    }

    fn load(&mut self) {
        for _ in 0..self.chance.index(4) {
            let index = self.chance.index(self.inputs.len());
            let key = format!("k{}", self.chance.below(6));
            let Some(inputs) = self.inputs.get_mut(index) else { continue };
            let value = format!("v{}", inputs.len());
            let partition = u32::try_from(index).unwrap_or_default();
            self.simulation.append((&self.topics.input, partition), key.as_bytes(), value.as_bytes());
            inputs.push((key, value));
        }
    }

    /// Starts what is not running, as an orchestrator does, and looks at how things ended.
    fn attend(&mut self) -> Result<(), String> {
        for slot in self.slots.keys().copied().collect::<Vec<_>>() {
            let ended = self
                .slots
                .get(&slot)
                .and_then(Option::as_ref)
                .and_then(|running| self.simulation.exit_of(running.id).map(|exit| (exit, running.machine)));
            match ended {
                Some((exit, machine)) => {
                    may_end(&exit)?;
                    self.start(slot, machine);
                }
                None if self.slots.get(&slot).is_some_and(Option::is_none) => {
                    let machine = if self.chance.happens(700) { slot } else { self.slots.len() };
                    self.start(slot, machine);
                }
                None => {}
            }
        }
        let simulation = self.simulation;
        let ended = self.others.iter().filter_map(|other| simulation.exit_of(other.id)).collect::<Vec<_>>();
        ended.iter().try_for_each(may_end)
    }

    fn start(&mut self, slot: usize, machine: usize) {
        let Some(disk) = self.machines.get(machine).cloned() else { return };
        let process = self.simulation.process(&disk);
        let stop = Stop::simulated(process.pause());
        let batch = 1 + self.chance.index(5);
        let running = Running { id: process.id(), stop: stop.clone(), machine };
        let topics = self.topics.clone();
        self.told.processes += 1;
        self.slots.insert(slot, Some(running));
        self.threads.push(self.scope.spawn(move || work(&process, slot, batch, &topics, &stop)));
    }

    fn disturb(&mut self) {
        let slot = self.chance.index(self.slots.len());
        let Some(running) = self.slots.get_mut(&slot) else { return };
        let Some(here) = running.clone() else { return };
        self.told.faults += 1;
        match self.chance.below(10) {
            0..2 => {
                self.simulation.kill(here.id);
                *running = None;
                self.others.push(here);
            }
            2 => self.break_down(here.machine),
            3..6 => {
                let time = self.chance.between(Duration::from_millis(5), Duration::from_secs(60));
                self.simulation.freeze(here.id, time);
            }
            // The same slot once more, elsewhere: one of the two is fenced, and not started again.
            6 => {
                self.others.push(here);
                let spare = self.slots.len();
                self.start(slot, spare);
            }
            7 => {
                here.stop.request();
                *running = None;
                self.others.push(here);
            }
            8 => {
                let time = self.chance.between(Duration::from_millis(50), Duration::from_secs(25));
                self.simulation.go_away(time);
            }
            _ => self.told.faults -= 1,
        }
    }

    /// A machine crashes: everything on it ends, and what was not synced is gone; sometimes the disk too.
    fn break_down(&mut self, machine: usize) {
        for running in self.slots.values_mut() {
            if let Some(running) = running.take_if(|running| running.machine == machine) {
                self.others.push(running);
            }
        }
        for other in self.others.iter().filter(|other| other.machine == machine) {
            self.simulation.kill(other.id);
        }
        // Whatever ran there is over before the machine is back.
        self.simulation.sleep(Duration::from_millis(1));
        if let Some(disk) = self.machines.get(machine) {
            if self.chance.happens(300) { disk.lose() } else { disk.crash(1 + self.chance.index(6)) }
        }
    }

    fn is_done(&self) -> bool {
        (0_u32..).zip(&self.inputs).all(|(partition, inputs)| {
            let committed = self.simulation.offset(GROUP, &self.topics.input, partition).unwrap_or_default();
            let stable = [&self.topics.beside, &self.topics.state].iter().all(|topic| {
                let (end, stable) = self.simulation.ends(topic, partition);
                end == stable
            });
            committed >= u64::try_from(inputs.len()).unwrap_or(u64::MAX) && stable
        }) && (0..3).all(|partition| {
            let (end, stable) = self.simulation.ends(&self.topics.spread, partition);
            end == stable
        })
    }

    fn standing(&self) -> String {
        let mut standing = String::new();
        for (partition, inputs) in (0_u32..).zip(&self.inputs) {
            let committed = self.simulation.offset(GROUP, &self.topics.input, partition);
            let (end, stable) = self.simulation.ends(&self.topics.state, partition);
            standing += &format!(
                "partition {partition} is at {committed:?} of {}, its changelog stable to {stable} of {end}; ",
                inputs.len()
            );
        }
        standing
    }

    fn stop_all(&mut self) -> Result<(), String> {
        self.others.extend(self.slots.values_mut().filter_map(Option::take));
        self.others.iter().for_each(|running| running.stop.request());
        let deadline = self.simulation.elapsed() + PATIENCE;
        while self.others.iter().any(|other| self.simulation.exit_of(other.id).is_none()) {
            if self.simulation.elapsed() > deadline {
                return Err("a process does not stop".to_owned());
            }
            self.simulation.sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    /// What a machine has of the state is brought to where the changelog is, whatever became of it before.
    fn check_a_store(&mut self) -> Result<(), String> {
        let machine = self.chance.index(self.machines.len());
        let Some(disk) = self.machines.get(machine) else { return Ok(()) };
        let process = self.simulation.process(disk);
        let id = process.id();
        let found = Arc::new(parking_lot::Mutex::new(BTreeMap::new()));
        let (cells, topics) = (Arc::clone(&found), self.topics.clone());
        let partitions = self.inputs.len();
        self.threads.push(self.scope.spawn(move || process.run(|log| read_state(log, &topics, partitions, &cells))));
        let deadline = self.simulation.elapsed() + PATIENCE;
        let exit = loop {
            self.simulation.sleep(Duration::from_millis(200));
            match self.simulation.exit_of(id) {
                Some(exit) => break exit,
                None if self.simulation.elapsed() > deadline => {
                    self.simulation.kill(id);
                    break Exit::Failed("late", "the state does not come back".to_owned());
                }
                None => {}
            }
        };
        if exit != Exit::Done {
            return Err(format!("the state cannot be read at the end: {exit:?}"));
        }
        for (partition, inputs) in (0_u32..).zip(&self.inputs) {
            let expected = oracle::expected(partition, inputs).cells;
            let cells = found.lock().get(&partition).cloned().unwrap_or_default();
            if cells != expected {
                return Err(format!("machine {machine} has {cells:?} of partition {partition}"));
            }
        }
        Ok(())
    }

    fn end_all(&mut self) {
        let running = self.slots.values().flatten().map(|running| running.id);
        for id in running.chain(self.others.iter().map(|other| other.id)).collect::<Vec<_>>() {
            self.simulation.kill(id);
        }
        // Everybody gets the turn in which it ends.
        self.simulation.sleep(Duration::from_secs(120));
    }
}

fn may_end(exit: &Exit) -> Result<(), String> {
    match exit {
        Exit::Done | Exit::Killed => Ok(()),
        Exit::Failed(code, _) if MAY_END_WITH.contains(code) => Ok(()),
        Exit::Failed(_, why) => Err(format!("a process ended: {why}")),
        Exit::Panicked => Err("a process panicked".to_owned()),
    }
}

fn member(slot: usize, topics: &Topics) -> Member {
    Member {
        group: GROUP.to_owned(),
        slot: format!("slot-{slot}"),
        inputs: vec![topics.input.clone()],
        state: Some(topics.state.clone()),
    }
}

fn work(process: &Process, slot: usize, batch: usize, topics: &Topics, stop: &Stop) {
    let options = RunOptions {
        batch_records_max: batch,
        // By the clock of the machine, which no decision of a simulation may follow.
        batch_time_max: Duration::MAX,
        poll_wait: Duration::from_secs(1),
        ..RunOptions::new(member(slot, topics), topics.dead.clone())
    };
    process.run(|log| stage::run(log, &mut Counter::new(topics.clone()), &options, stop).map(drop));
}

type Cells = BTreeMap<u32, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Joins alone, and reads every cell.
fn read_state(
    log: &dyn Log,
    topics: &Topics,
    partitions: usize,
    cells: &parking_lot::Mutex<Cells>,
) -> Result<(), Fault> {
    let mut session = log.join(&member(0, topics))?;
    loop {
        match session.poll(Duration::from_secs(1), &mut Batch::default()) {
            Ok(Polled::Revoke { .. }) => {
                session.recover()?;
                session.release()?;
            }
            Ok(Polled::Assigned(positions)) if positions.len() == partitions => break,
            Ok(Polled::Assigned(_) | Polled::Records { .. }) => {}
            Err(fault @ Fault::Fatal(_)) => return Err(fault),
            Err(_) => drop(session.recover()),
        }
    }
    for partition in session.positions().into_iter().map(|at| at.partition) {
        let mut found = BTreeMap::new();
        session.scan(partition, &[], &mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
            true
        })?;
        cells.lock().insert(partition, found);
    }
    Ok(())
}
