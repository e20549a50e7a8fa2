//! One schedule: canonicalise, sign, meter and its tally, each in slots of its own, while what they run on fails.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use access::Directory;
use canonicalise::Canonicalise;
use event::door::Limits;
use event::topic::{self, ANSWER, LEDGER_COMMAND, REJECTED, REQUESTED, USAGE_TOTAL};
use log::kafka::hostile::{Chance, Fleet, Process, Removed, Simulation, Start};
use log::{Log, Member, Topic};
use sign::{SealedLookup, Sign};
use signing::{Keyring, SigningKeys};
use stage::expiring::Window;
use stage::{RunOptions, Stop};

use super::input::{Inputs, SLOTS, tenants};
use super::oracle;

pub(super) const STEPS: [&str; 4] = ["canonicalise", "sign", "meter", "meter.tally"];
const KEY_SEED: [u8; 32] = [7; 32];

/// What a schedule was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    simulated: Duration,
    processes: usize,
    faults: usize,
    requests: usize,
}

/// A slot of a step.
#[derive(Clone, Copy, Debug)]
struct Place {
    step: &'static topic::Step,
    slot: usize,
}

pub(super) fn signing_key() -> proof::SigningKey {
    proof::SigningKey::from_seed(&KEY_SEED, 0, None)
}

/// Runs the schedule of a seed; the error says what was not as it must be.
pub(super) fn tell(seed: u64, removed: Option<Removed>) -> Result<Told, String> {
    let simulation = Simulation::new(seed, removed);
    // Not the numbers that the simulation draws from the same seed.
    let mut chance = Chance::new(!seed);
    let partitions = 1 + u32::try_from(chance.below(2)).unwrap_or_default();
    make_topics(&simulation, partitions);
    let places = places(&mut chance);
    std::thread::scope(|scope| {
        let threads = Rc::new(Threads::default());
        let mut fleet = Fleet::new(&simulation, places.len(), starter(scope, &places, partitions, Rc::clone(&threads)));
        let mut inputs = Inputs::new(partitions);
        let outcome = run(&simulation, &mut fleet, &mut inputs, &mut chance);
        fleet.end_all();
        let started = threads.take();
        for thread in started {
            thread.join().map_err(|_| "a thread of the simulation panicked".to_owned())?;
        }
        let simulated = outcome?;
        Ok(Told { simulated, processes: fleet.started(), faults: fleet.faults(), requests: inputs.count() })
    })
}

fn run(
    simulation: &Simulation,
    fleet: &mut Fleet<'_>,
    inputs: &mut Inputs,
    chance: &mut Chance,
) -> Result<Duration, String> {
    fleet.through(chance, &mut |chance| inputs.load(simulation, chance))?;
    if !fleet.comes_to_rest(chance, &|| is_done(simulation))? {
        return Err("no progress".to_owned());
    }
    let simulated = simulation.elapsed();
    oracle::check(simulation, inputs)?;
    fleet.stop_all()?;
    Ok(simulated)
}

fn make_topics(simulation: &Simulation, partitions: u32) {
    for name in STEPS {
        let step = topic::step(name).expect("a step of the pipeline");
        for read in [step.input.to_owned(), step.redo_topic()] {
            simulation.create_topic(&Topic::new(&read), partitions, Some(name));
        }
        for written in step.state.map(str::to_owned).into_iter().chain([step.dead_topic()]) {
            simulation.create_topic(&Topic::new(&written), partitions, None);
        }
    }
    for name in [REJECTED, LEDGER_COMMAND, USAGE_TOTAL] {
        simulation.create_topic(&Topic::new(name), partitions, None);
    }
    simulation.create_topic(&Topic::new(ANSWER), SLOTS, None);
}

fn places(chance: &mut Chance) -> Vec<Place> {
    let mut places = Vec::new();
    for name in STEPS {
        let step = topic::step(name).expect("a step of the pipeline");
        places.extend((0..1 + chance.index(2)).map(|slot| Place { step, slot }));
    }
    places
}

type Threads<'scope> = RefCell<Vec<ScopedJoinHandle<'scope, ()>>>;

fn starter<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    places: &'env [Place],
    partitions: u32,
    threads: Rc<Threads<'scope>>,
) -> Start<'scope> {
    Box::new(move |place, process, chance| {
        let stop = Stop::simulated(process.pause());
        let batch = 1 + chance.index(6);
        let asked = stop.clone();
        let place = *places.get(place).expect("the fleet has these places");
        threads.borrow_mut().push(scope.spawn(move || work(&process, place, partitions, batch, &stop)));
        Arc::new(move || asked.request())
    })
}

/// As the binary runs a step, on a clock that is simulated.
fn work(process: &Process, place: Place, partitions: u32, batch: usize, stop: &Stop) {
    let Place { step, slot } = place;
    let member = Member {
        group: step.name.to_owned(),
        slot: format!("slot-{slot}"),
        inputs: vec![Topic::new(step.input), Topic::new(&step.redo_topic())],
        state: step.state.map(Topic::new),
    };
    let options = RunOptions {
        batch_records_max: batch,
        // By the clock of the machine, which no decision of a simulation may follow.
        batch_time_max: Duration::MAX,
        batch_apply_max: Duration::MAX,
        poll_wait: Duration::from_secs(1),
        ..RunOptions::new(member, Topic::new(&step.dead_topic()))
    };
    process.run(|log| {
        let (log, shared) = (log.as_ref(), &log);
        match step.name {
            "canonicalise" => stage::run(log, &mut canonicalise(partitions), &options, stop),
            "sign" => stage::run(log, &mut sign(Arc::clone(shared)), &options, stop),
            "meter" => stage::run(log, &mut meter::Record::new(billing::BUILTIN_TARIFF_VERSION), &options, stop),
            _ => stage::run(log, &mut meter::Tally::default(), &options, stop),
        }
        .map(drop)
    });
}

fn canonicalise(partitions: u32) -> Canonicalise {
    let settings = canonicalise::Settings { window: Window::of_days(Some(35)), limits: Limits::default(), partitions };
    Canonicalise::new(settings, Arc::new(Directory::of(tenants())), Box::new(|| Ok(())))
}

fn sign(log: Arc<dyn Log>) -> Sign {
    let keys = Keyring::fixed(SigningKeys::new(vec![signing_key()]));
    Sign::new(sign::Settings { window: Window::of_days(Some(35)), keys }, SealedLookup::new(log))
}

/// Every step has passed everything that was committed for it, and nothing is open.
fn is_done(simulation: &Simulation) -> bool {
    STEPS.iter().all(|name| {
        let step = topic::step(name).expect("a step of the pipeline");
        let input = Topic::new(step.input);
        let written = [Some(step.input), step.state].into_iter().flatten().map(Topic::new);
        written.chain([REJECTED, LEDGER_COMMAND, USAGE_TOTAL, ANSWER].map(Topic::new)).all(|topic| {
            (0..SLOTS).all(|partition| {
                let (end, stable) = simulation.ends(&topic, partition);
                end == stable
            })
        }) && simulation
            .committed(&input)
            .iter()
            .all(|record| simulation.offset(name, &input, record.partition).is_some_and(|next| next > record.offset))
    }) && !simulation.committed(&Topic::new(REQUESTED)).is_empty()
}
