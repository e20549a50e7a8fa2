//! The processes of a simulation: started again as an orchestrator does, and killed, stopped, doubled and moved as the
//! seed says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Chance, Exit, Machine, Process, Simulation, Weather};

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

/// What may be under way when the faults end must be over by then: transactions that time out, members that are gone.
const PATIENCE: Duration = Duration::from_secs(900);

/// Asks a process to stop.
pub type StopRequest = Arc<dyn Fn() + Send + Sync>;

/// Starts the process of a place on a thread of its own, and says how it is asked to stop.
pub type Start<'env> = Box<dyn FnMut(usize, Process, &mut Chance) -> StopRequest + 'env>;

/// Places that shall each have one process. A place is a slot of a step.
pub struct Fleet<'env> {
    simulation: &'env Simulation,
    start: Start<'env>,
    /// One for each place, and one to spare.
    machines: Vec<Machine>,
    places: Vec<Option<Running>>,
    /// Processes that nobody starts again: killed, replaced, or of a place that was given up.
    others: Vec<Running>,
    started: usize,
    faults: usize,
}

#[derive(Clone)]
struct Running {
    id: usize,
    stop: StopRequest,
    machine: usize,
}

impl fmt::Debug for Fleet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("started", &self.started).field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl<'env> Fleet<'env> {
    pub fn new(simulation: &'env Simulation, places: usize, start: Start<'env>) -> Self {
        Self {
            simulation,
            start,
            machines: (0..=places).map(|_| Machine::default()).collect(),
            places: (0..places).map(|_| None).collect(),
            others: Vec::new(),
            started: 0,
            faults: 0,
        }
    }

    /// Processes so far.
    pub fn started(&self) -> usize {
        self.started
    }

    /// Faults so far.
    pub fn faults(&self) -> usize {
        self.faults
    }

    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// Loads and disturbs in turn, in the weather of the seed; calm in the end.
    ///
    /// # Errors
    /// As `attend`.
    pub fn through(&mut self, chance: &mut Chance, load: &mut dyn FnMut(&mut Chance)) -> Result<(), String> {
        self.simulation.set_weather(Weather::of(chance));
        for _ in 0..3 + chance.index(6) {
            self.attend(chance)?;
            // Sometimes a stream, so that one transaction follows the other.
            for _ in 0..chance.index(20) {
                load(chance);
                let pause = chance.between(Duration::from_micros(200), Duration::from_millis(12));
                self.simulation.sleep(pause);
            }
            self.simulation.sleep(some_time(chance));
            self.disturb(chance);
            self.simulation.sleep(some_time(chance));
        }
        load(chance);
        self.simulation.set_weather(Weather::calm());
        Ok(())
    }

    /// Waits until everything is done; false where it is not in the time that the longest fault may take.
    ///
    /// # Errors
    /// As `attend`.
    pub fn comes_to_rest(&mut self, chance: &mut Chance, is_done: &dyn Fn() -> bool) -> Result<bool, String> {
        let deadline = self.simulation.elapsed() + PATIENCE;
        while !is_done() {
            self.attend(chance)?;
            if self.simulation.elapsed() > deadline {
                return Ok(false);
            }
            self.simulation.sleep(Duration::from_secs(1));
        }
        self.attend(chance)?;
        Ok(true)
    }

    /// Starts what is not running, as an orchestrator does, and looks at how things ended.
    ///
    /// # Errors
    /// A process that panicked, or ended for a reason that no fault explains.
    fn attend(&mut self, chance: &mut Chance) -> Result<(), String> {
        for place in 0..self.places.len() {
            let running = self.places.get(place).and_then(Option::as_ref).map(|running| (running.id, running.machine));
            match running {
                Some((id, machine)) => {
                    if let Some(exit) = self.simulation.exit_of(id) {
                        may_end(&exit)?;
                        self.launch(place, machine, chance);
                    }
                }
                None => {
                    let spare = self.places.len();
                    let machine = if chance.happens(700) { place } else { spare };
                    self.launch(place, machine, chance);
                }
            }
        }
        let ended = self.others.iter().filter_map(|other| self.simulation.exit_of(other.id)).collect::<Vec<_>>();
        ended.iter().try_for_each(may_end)
    }

    fn launch(&mut self, place: usize, machine: usize, chance: &mut Chance) {
        let Some(disk) = self.machines.get(machine).cloned() else { return };
        let process = self.simulation.process(&disk);
        let id = process.id();
        let stop = (self.start)(place, process, chance);
        self.started += 1;
        if let Some(at) = self.places.get_mut(place) {
            *at = Some(Running { id, stop, machine });
        }
    }

    /// One fault, or none.
    fn disturb(&mut self, chance: &mut Chance) {
        let place = chance.index(self.places.len());
        let Some(running) = self.places.get_mut(place) else { return };
        let Some(here) = running.clone() else { return };
        self.faults += 1;
        match chance.below(10) {
            0..2 => {
                self.simulation.kill(here.id);
                *running = None;
                self.others.push(here);
            }
            2 => self.break_down(here.machine, chance),
            3..6 => {
                let time = chance.between(Duration::from_millis(5), Duration::from_secs(60));
                self.simulation.freeze(here.id, time);
            }
            // The same slot once more, elsewhere: one of the two is fenced, and not started again.
            6 => {
                self.others.push(here);
                let spare = self.places.len();
                self.launch(place, spare, chance);
            }
            7 => {
                (here.stop)();
                *running = None;
                self.others.push(here);
            }
            8 => {
                let time = chance.between(Duration::from_millis(50), Duration::from_secs(25));
                self.simulation.go_away(time);
            }
            _ => self.faults -= 1,
        }
    }

    /// A machine crashes: everything on it ends, and what was not synced is gone; sometimes the disk too.
    fn break_down(&mut self, machine: usize, chance: &mut Chance) {
        for running in &mut self.places {
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
            if chance.happens(300) { disk.lose() } else { disk.crash(1 + chance.index(6)) }
        }
    }

    /// Asks everything to stop, and waits for it.
    ///
    /// # Errors
    /// Where something still runs although nothing holds it up.
    pub fn stop_all(&mut self) -> Result<(), String> {
        self.others.extend(self.places.iter_mut().filter_map(Option::take));
        self.others.iter().for_each(|running| (running.stop)());
        let deadline = self.simulation.elapsed() + PATIENCE;
        while self.others.iter().any(|other| self.simulation.exit_of(other.id).is_none()) {
            if self.simulation.elapsed() > deadline {
                return Err("a process does not stop".to_owned());
            }
            self.simulation.sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    /// Kills everything, so that every thread comes to its end.
    pub fn end_all(&mut self) {
        for running in self.places.iter().flatten().chain(&self.others) {
            self.simulation.kill(running.id);
        }
        // Everybody gets the turn in which it ends.
        self.simulation.sleep(Duration::from_secs(120));
    }
}

/// Short, so that faults meet transactions; sometimes long enough for every time-out.
fn some_time(chance: &mut Chance) -> Duration {
    match chance.below(10) {
        0..6 => chance.between(Duration::from_millis(1), Duration::from_millis(40)),
        6..9 => chance.between(Duration::from_millis(40), Duration::from_secs(4)),
        _ => chance.between(Duration::from_secs(4), Duration::from_secs(70)),
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
