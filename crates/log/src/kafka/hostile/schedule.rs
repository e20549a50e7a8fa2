//! Who runs next, and what time it is. Processes are threads of which one runs at a time; whenever one of them calls the
//! model, the seed decides whether it goes on. Time moves only here, so a schedule is repeated by its seed.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::world::World;

/// What a process that is killed unwinds with. Nothing it does on the way reaches the model.
#[derive(Debug)]
pub(super) struct Killed;

/// Numbers that follow from a seed alone (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// True in `of_thousand` of a thousand cases.
    pub fn happens(&mut self, of_thousand: u64) -> bool {
        self.below(1_000) < of_thousand
    }

    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(self.below(span.saturating_add(1)))
    }

    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap_or(u64::MAX))).unwrap_or_default()
    }
}

/// One process of the simulation; 0 is the one that sets it up.
pub(super) type ProcessId = usize;

/// The process that a simulation itself runs in.
pub(super) const SUPERVISOR: ProcessId = 0;

type Condition = Box<dyn Fn(&World) -> bool + Send>;

enum Activity {
    Ready,
    Waiting { until: Duration, for_what: Option<Condition> },
    Ended(Exit),
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    Killed,
    /// The code of the fault, and all of it.
    Failed(&'static str, String),
    Panicked,
}

struct Process {
    activity: Activity,
    is_killed: bool,
    /// Stopped, as by SIGSTOP: runs nothing and sends nothing.
    frozen_until: Duration,
    turn: Arc<Condvar>,
}

pub(super) type Event = Box<dyn FnOnce(&mut World) + Send>;

/// Everything behind the one lock.
pub(super) struct Inner {
    pub(super) world: World,
    processes: Vec<Process>,
    running: ProcessId,
}

/// Shared by all processes of one simulation.
pub(super) struct Schedule {
    inner: Mutex<Inner>,
    began: Instant,
}

/// What happens at which time, in the order of a seed where the times are equal.
#[derive(Default)]
pub(super) struct Agenda {
    events: BTreeMap<(Duration, u64), Event>,
    count: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.events.insert((at, self.count), event);
    }

    fn next_at(&self) -> Option<Duration> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    fn pop_due(&mut self, now: Duration) -> Option<Event> {
        if self.next_at()? > now {
            return None;
        }
        self.events.pop_first().map(|(_, event)| event)
    }
}

impl Schedule {
    pub(super) fn new(world: World) -> Self {
        let inner = Inner { world, processes: Vec::new(), running: SUPERVISOR };
        let schedule = Self { inner: Mutex::new(inner), began: Instant::now() };
        schedule.add_process();
        schedule
    }

    /// A process that runs when it is its turn for the first time.
    pub(super) fn add_process(&self) -> ProcessId {
        let mut inner = self.inner.lock();
        inner.processes.push(Process {
            activity: Activity::Ready,
            is_killed: false,
            frozen_until: Duration::ZERO,
            turn: Arc::new(Condvar::new()),
        });
        inner.processes.len() - 1
    }

    /// To be called first by the thread of a process.
    pub(super) fn begin(&self, me: ProcessId) {
        let mut inner = self.inner.lock();
        wait_for_turn(&mut inner, me);
        let is_killed = inner.processes.get(me).is_some_and(|process| process.is_killed);
        drop(inner);
        if is_killed {
            resume_unwind(Box::new(Killed));
        }
    }

    /// To be called last by the thread of a process.
    pub(super) fn end(&self, me: ProcessId, exit: Exit) {
        let mut inner = self.inner.lock();
        inner.world.process_ended(me);
        if let Some(process) = inner.processes.get_mut(me) {
            process.activity = Activity::Ended(exit);
        }
        hand_over(&mut inner);
    }

    pub(super) fn exit_of(&self, process: ProcessId) -> Option<Exit> {
        match &self.inner.lock().processes.get(process)?.activity {
            Activity::Ended(exit) => Some(exit.clone()),
            Activity::Ready | Activity::Waiting { .. } => None,
        }
    }

    pub(super) fn kill(&self, process: ProcessId) {
        let mut inner = self.inner.lock();
        inner.world.process_ended(process);
        if let Some(process) = inner.processes.get_mut(process) {
            process.is_killed = true;
            process.frozen_until = Duration::ZERO;
            if !matches!(process.activity, Activity::Ended(_)) {
                process.activity = Activity::Ready;
            }
        }
    }

    pub(super) fn freeze(&self, process: ProcessId, time: Duration) {
        let mut inner = self.inner.lock();
        let until = inner.world.now + time;
        inner.world.freeze(process, until);
        if let Some(process) = inner.processes.get_mut(process) {
            process.frozen_until = until;
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.began + self.inner.lock().world.now
    }

    /// Looks at the world, or changes it, without letting time pass.
    pub(super) fn at_once<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.inner.lock().world)
    }

    /// Lets a little time pass and perhaps others run, then acts.
    pub(super) fn call<T>(&self, me: ProcessId, act: impl FnOnce(&mut World) -> T) -> T {
        let mut inner = self.inner.lock();
        if !std::thread::panicking() {
            let passed = inner.world.call_takes();
            inner.world.now += passed;
            inner.world.happen();
            if inner.world.is_interrupted() {
                yield_turn(&mut inner, me);
            }
            refuse_if_killed(inner, me, act)
        } else {
            act(&mut inner.world)
        }
    }

    /// Waits until something is so, but no longer than `time`.
    pub(super) fn wait(&self, me: ProcessId, time: Duration, for_what: impl Fn(&World) -> bool + Send + 'static) {
        self.wait_maybe(me, time, Some(Box::new(for_what)));
    }

    pub(super) fn sleep(&self, me: ProcessId, time: Duration) {
        self.wait_maybe(me, time, None);
    }

    fn wait_maybe(&self, me: ProcessId, time: Duration, for_what: Option<Condition>) {
        if std::thread::panicking() {
            return;
        }
        let mut inner = self.inner.lock();
        let until = inner.world.now + time;
        if for_what.as_ref().is_some_and(|is_so| is_so(&inner.world)) {
            return;
        }
        if let Some(process) = inner.processes.get_mut(me) {
            process.activity = Activity::Waiting { until, for_what };
        }
        yield_turn(&mut inner, me);
        refuse_if_killed(inner, me, |_| ());
    }
}

fn refuse_if_killed<T>(mut inner: MutexGuard<'_, Inner>, me: ProcessId, act: impl FnOnce(&mut World) -> T) -> T {
    if inner.processes.get(me).is_some_and(|process| process.is_killed) {
        drop(inner);
        resume_unwind(Box::new(Killed));
    }
    act(&mut inner.world)
}

/// Gives the turn to whoever is chosen, and waits for it to come back.
fn yield_turn(inner: &mut MutexGuard<'_, Inner>, me: ProcessId) {
    hand_over(inner);
    wait_for_turn(inner, me);
}

fn wait_for_turn(inner: &mut MutexGuard<'_, Inner>, me: ProcessId) {
    let turn = inner.processes.get(me).map(|process| Arc::clone(&process.turn));
    while inner.running != me {
        match &turn {
            Some(turn) => turn.wait(inner),
            None => return,
        }
    }
    if let Some(process) = inner.processes.get_mut(me) {
        process.activity = Activity::Ready;
    }
}

/// Chooses who runs next; lets time pass where nobody can run now.
fn hand_over(inner: &mut Inner) {
    loop {
        inner.world.happen();
        let now = inner.world.now;
        let can_run = |process: &Process| {
            process.frozen_until <= now
                && match &process.activity {
                    Activity::Ready => true,
                    Activity::Waiting { until, for_what } => {
                        *until <= now || for_what.as_ref().is_some_and(|is_so| is_so(&inner.world))
                    }
                    Activity::Ended(_) => false,
                }
        };
        let able = inner.processes.iter().enumerate().filter(|(_, process)| can_run(process)).map(|(id, _)| id);
        let able = able.collect::<Vec<_>>();
        if !able.is_empty() {
            let chosen = inner.world.chance.index(able.len());
            inner.running = able.get(chosen).copied().unwrap_or(SUPERVISOR);
            if let Some(process) = inner.processes.get(inner.running) {
                process.turn.notify_one();
            }
            return;
        }
        let waits = inner.processes.iter().filter_map(|process| match &process.activity {
            Activity::Waiting { until, .. } => Some((*until).max(process.frozen_until)),
            Activity::Ready => Some(process.frozen_until),
            Activity::Ended(_) => None,
        });
        let thaws = inner.processes.iter().map(|process| process.frozen_until).filter(|until| *until > now);
        let next = waits.chain(thaws).chain(inner.world.agenda.next_at()).filter(|at| *at > now).min();
        match next {
            Some(next) => inner.world.now = next,
            // Everybody has ended.
            None => return,
        }
    }
}

impl World {
    /// Everything that is due.
    pub(super) fn happen(&mut self) {
        while let Some(event) = self.agenda.pop_due(self.now) {
            event(self);
        }
    }
}
