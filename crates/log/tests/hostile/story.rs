//! One schedule: slots of a step under load while processes, machines and brokers fail, all of it told by a seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use countersign_log::kafka::hostile::{Chance, Exit, Fleet, Process, Removed, Simulation, Start};
use countersign_log::{Batch, Fault, Log, Member, Polled, Topic};
use stage::{RunOptions, Stop};

use crate::oracle::{self, Inputs};
use crate::step::{Counter, Topics};

pub(crate) const GROUP: &str = "step";
/// What a machine still has of the state is there by then.
const PATIENCE: Duration = Duration::from_secs(900);

/// What a schedule was like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) simulated: Duration,
    pub(crate) processes: usize,
    pub(crate) faults: usize,
    pub(crate) inputs: usize,
}

type Threads<'scope> = RefCell<Vec<ScopedJoinHandle<'scope, ()>>>;

struct Story<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    simulation: &'env Simulation,
    topics: &'env Topics,
    chance: Chance,
    fleet: Fleet<'scope>,
    threads: Rc<Threads<'scope>>,
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
        let threads = Rc::new(Threads::default());
        let mut story = Story {
            scope,
            simulation: &simulation,
            topics: &topics,
            fleet: Fleet::new(&simulation, slots, starter(scope, &topics, Rc::clone(&threads))),
            threads,
            inputs: (0..partitions).map(|_| Vec::new()).collect(),
            told: Told::default(),
            chance,
        };
        let outcome = story.run();
        story.fleet.end_all();
        for thread in story.threads.take() {
            thread.join().map_err(|_| "a thread of the simulation panicked".to_owned())?;
        }
        story.told.processes = story.fleet.started();
        story.told.faults = story.fleet.faults();
        outcome.map(|()| story.told)
    })
}

fn starter<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    topics: &'env Topics,
    threads: Rc<Threads<'scope>>,
) -> Start<'scope> {
    Box::new(move |slot, process, chance| {
        let stop = Stop::simulated(process.pause());
        let batch = 1 + chance.index(5);
        let asked = stop.clone();
        threads.borrow_mut().push(scope.spawn(move || work(&process, slot, batch, topics, &stop)));
        Arc::new(move || asked.request())
    })
}

fn load(simulation: &Simulation, topics: &Topics, inputs: &mut Inputs, chance: &mut Chance) {
    for _ in 0..chance.index(4) {
        let index = chance.index(inputs.len());
        let key = format!("k{}", chance.below(6));
        let Some(inputs) = inputs.get_mut(index) else { continue };
        let value = format!("v{}", inputs.len());
        let partition = u32::try_from(index).unwrap_or_default();
        simulation.append((&topics.input, partition), key.as_bytes(), value.as_bytes());
        inputs.push((key, value));
    }
}

fn is_done(simulation: &Simulation, topics: &Topics, inputs: &Inputs) -> bool {
    let is_stable = |topic: &Topic, partition| {
        let (end, stable) = simulation.ends(topic, partition);
        end == stable
    };
    (0_u32..).zip(inputs).all(|(partition, inputs)| {
        let committed = simulation.offset(GROUP, &topics.input, partition).unwrap_or_default();
        committed >= u64::try_from(inputs.len()).unwrap_or(u64::MAX)
            && [&topics.beside, &topics.state].into_iter().all(|topic| is_stable(topic, partition))
    }) && (0..3).all(|partition| is_stable(&topics.spread, partition))
}

impl Story<'_, '_> {
    fn run(&mut self) -> Result<(), String> {
        let (simulation, topics) = (self.simulation, self.topics);
        let inputs = &mut self.inputs;
        self.fleet.through(&mut self.chance, &mut |chance| load(simulation, topics, inputs, chance))?;
        let inputs = &self.inputs;
        if !self.fleet.comes_to_rest(&mut self.chance, &|| is_done(simulation, topics, inputs))? {
            return Err(format!("no progress: {}", self.standing()));
        }
        self.told.simulated = self.simulation.elapsed();
        self.told.inputs = self.inputs.iter().map(Vec::len).sum();
        oracle::check(self.simulation, self.topics, GROUP, &self.inputs)?;
        self.fleet.stop_all()?;
        self.check_a_store()
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

    /// What a machine has of the state is brought to where the changelog is, whatever became of it before.
    fn check_a_store(&mut self) -> Result<(), String> {
        let machine = self.chance.index(self.fleet.machines().len());
        let Some(disk) = self.fleet.machines().get(machine) else { return Ok(()) };
        let process = self.simulation.process(disk);
        let id = process.id();
        let found = Arc::new(parking_lot::Mutex::new(BTreeMap::new()));
        let (cells, topics) = (Arc::clone(&found), self.topics.clone());
        let partitions = self.inputs.len();
        let reading =
            self.scope.spawn(move || process.run(|log| read_state(log.as_ref(), &topics, partitions, &cells)));
        self.threads.borrow_mut().push(reading);
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
    process.run(|log| stage::run(log.as_ref(), &mut Counter::new(topics.clone()), &options, stop).map(drop));
}

pub(crate) type Cells = BTreeMap<u32, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Joins alone, and reads every cell.
pub(crate) fn read_state(
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
