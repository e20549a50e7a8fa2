//! Who is called next: a lane for each tenant and destination, so that one that is slow or down delays nobody else.
//!
//! Pure: times come in as arguments. A lane takes a bounded number of calls at a time, and has a breaker: after so many
//! failures in a row it is left alone for a while, then asked with a single call.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// How many calls at a time, and when a destination is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Calls at a time in all.
    pub in_flight_max: usize,
    /// Calls at a time to one destination of one tenant.
    pub in_flight_per_lane_max: usize,
    /// Failures in a row that open a breaker.
    pub failures_max: u32,
    /// How long an open breaker lets nothing through.
    pub open_for: Duration,
}

impl Bounds {
    pub const IN_FLIGHT_MAX: usize = 256;
    pub const IN_FLIGHT_PER_LANE_MAX: usize = 4;
    pub const FAILURES_MAX: u32 = 5;
    pub const OPEN_FOR: Duration = Duration::from_secs(60);
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            in_flight_max: Self::IN_FLIGHT_MAX,
            in_flight_per_lane_max: Self::IN_FLIGHT_PER_LANE_MAX,
            failures_max: Self::FAILURES_MAX,
            open_for: Self::OPEN_FOR,
        }
    }
}

/// A cell of the state: input partition and key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellId {
    pub partition: u32,
    pub key: Arc<[u8]>,
}

/// The name of a lane: tenant, host and port.
pub type LaneId = Arc<str>;

/// A delivery that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub cell: CellId,
    pub lane: LaneId,
    pub due_at: i64,
    pub give_up_at: i64,
}

/// A delivery whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Call now, and say how it went with [`Lanes::done`].
    Call(Waiting),
    /// Its time is over: it is not called any more.
    GiveUp(Waiting),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breaker {
    Closed { failures: u32 },
    Open { until: i64 },
    Probing,
}

#[derive(Debug)]
struct Lane {
    /// Due time, give-up time and cell: the one that is due first comes first.
    waiting: BTreeSet<(i64, i64, CellId)>,
    in_flight: usize,
    breaker: Breaker,
}

impl Default for Lane {
    fn default() -> Self {
        Self { waiting: BTreeSet::new(), in_flight: 0, breaker: Breaker::Closed { failures: 0 } }
    }
}

/// Every lane and every delivery that waits.
#[derive(Debug)]
pub struct Lanes {
    bounds: Bounds,
    lanes: BTreeMap<LaneId, Lane>,
    cells: HashMap<CellId, (LaneId, i64, i64)>,
    in_flight: usize,
    /// The lane that was served last: the next round begins behind it.
    last: Option<LaneId>,
}

impl Lanes {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, lanes: BTreeMap::new(), cells: HashMap::new(), in_flight: 0, last: None }
    }

    /// Adds a delivery, or moves the one of that cell.
    pub fn queue(&mut self, waiting: Waiting) {
        let Waiting { cell, lane, due_at, give_up_at } = waiting;
        self.remove(&cell);
        self.lanes.entry(lane.clone()).or_default().waiting.insert((due_at, give_up_at, cell.clone()));
        self.cells.insert(cell, (lane, due_at, give_up_at));
    }

    fn remove(&mut self, cell: &CellId) {
        if let Some((lane, due_at, give_up_at)) = self.cells.remove(cell)
            && let Some(lane) = self.lanes.get_mut(&lane)
        {
            lane.waiting.remove(&(due_at, give_up_at, cell.clone()));
        }
    }

    /// Forgets what waits in these partitions; calls in flight and breakers stay.
    pub fn forget(&mut self, partitions: &[u32]) {
        let gone: Vec<CellId> =
            self.cells.keys().filter(|cell| partitions.contains(&cell.partition)).cloned().collect();
        for cell in gone {
            self.remove(&cell);
        }
    }

    pub fn waiting(&self) -> usize {
        self.cells.len()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes every delivery whose turn it is, one of each lane in turn.
    pub fn take(&mut self, now: i64) -> Vec<Turn> {
        let mut turns = Vec::new();
        loop {
            let before = turns.len();
            for id in self.round() {
                if self.in_flight >= self.bounds.in_flight_max {
                    return turns;
                }
                if let Some(turn) = self.take_from(&id, now) {
                    self.last = Some(id);
                    turns.push(turn);
                }
            }
            if turns.len() == before {
                break;
            }
        }
        self.lanes.retain(|_, lane| {
            let forgettable = match lane.breaker {
                Breaker::Closed { failures } => failures == 0,
                Breaker::Open { until } => until <= now,
                Breaker::Probing => false,
            };
            !(forgettable && lane.waiting.is_empty() && lane.in_flight == 0)
        });
        turns
    }

    /// Every lane with something to do, beginning behind the one that was served last.
    fn round(&self) -> Vec<LaneId> {
        let from = self.last.as_ref().map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone()));
        let to = self.last.as_ref().map_or(Bound::Excluded(LaneId::from("")), |last| Bound::Included(last.clone()));
        self.lanes
            .range((from, Bound::Unbounded))
            .chain(self.lanes.range((Bound::Unbounded, to)))
            .filter(|(_, lane)| !lane.waiting.is_empty())
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn take_from(&mut self, id: &LaneId, now: i64) -> Option<Turn> {
        let lane = self.lanes.get_mut(id)?;
        let (due_at, give_up_at, _) = *lane.waiting.first()?;
        let is_over = give_up_at <= now;
        if !is_over {
            let open = match lane.breaker {
                Breaker::Closed { .. } => true,
                Breaker::Open { until } => until <= now,
                Breaker::Probing => false,
            };
            if due_at > now || !open || lane.in_flight >= self.bounds.in_flight_per_lane_max {
                return None;
            }
        }
        let (due_at, give_up_at, cell) = lane.waiting.pop_first()?;
        self.cells.remove(&cell);
        let waiting = Waiting { cell, lane: id.clone(), due_at, give_up_at };
        if is_over {
            return Some(Turn::GiveUp(waiting));
        }
        if matches!(lane.breaker, Breaker::Open { .. }) {
            lane.breaker = Breaker::Probing;
        }
        lane.in_flight += 1;
        self.in_flight += 1;
        Some(Turn::Call(waiting))
    }

    /// A call is over. `healthy` is what it says of the destination, `None` where the destination was not asked.
    pub fn done(&mut self, lane: &LaneId, healthy: Option<bool>, now: i64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        let until = now.saturating_add(i64::try_from(self.bounds.open_for.as_millis()).unwrap_or(i64::MAX));
        lane.breaker = match (lane.breaker, healthy) {
            // A probe that asked nobody leaves the question open: the next call is the probe.
            (Breaker::Probing, None) => Breaker::Open { until: now },
            (breaker, None) => breaker,
            (_, Some(true)) => Breaker::Closed { failures: 0 },
            (Breaker::Probing, Some(false)) => Breaker::Open { until },
            (Breaker::Closed { failures }, Some(false)) if failures + 1 >= self.bounds.failures_max => {
                Breaker::Open { until }
            }
            (Breaker::Closed { failures }, Some(false)) => Breaker::Closed { failures: failures + 1 },
            // Calls that were under way when the breaker opened say nothing new.
            (open @ Breaker::Open { .. }, Some(false)) => open,
        };
    }

    /// When the next delivery could be called, as far as is known now; `None` if only the end of a call can change that.
    pub fn next_at(&self) -> Option<i64> {
        self.lanes
            .values()
            .filter(|lane| lane.in_flight < self.bounds.in_flight_per_lane_max)
            .filter_map(|lane| {
                let (due_at, give_up_at, _) = lane.waiting.first()?;
                Some(match lane.breaker {
                    Breaker::Closed { .. } => *due_at,
                    Breaker::Open { until } => until.max(*due_at).min(*give_up_at),
                    Breaker::Probing => *give_up_at,
                })
            })
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(key: &str, lane: &str, due_at: i64) -> Waiting {
        let cell = CellId { partition: 0, key: key.as_bytes().into() };
        Waiting { cell, lane: lane.into(), due_at, give_up_at: 1_000_000 }
    }

    fn keys(turns: &[Turn]) -> Vec<String> {
        turns
            .iter()
            .map(|turn| match turn {
                Turn::Call(waiting) => String::from_utf8_lossy(&waiting.cell.key).into_owned(),
                Turn::GiveUp(waiting) => format!("-{}", String::from_utf8_lossy(&waiting.cell.key)),
            })
            .collect()
    }

    fn lanes() -> Lanes {
        Lanes::new(Bounds { in_flight_max: 6, in_flight_per_lane_max: 2, ..Bounds::default() })
    }

    #[test]
    fn a_full_lane_leaves_room_for_the_others() {
        let mut lanes = lanes();
        for index in 0..10 {
            lanes.queue(waiting(&format!("slow-{index}"), "a", 0));
        }
        lanes.queue(waiting("quick", "b", 0));
        assert_eq!(keys(&lanes.take(0)), ["slow-0", "quick", "slow-1"]);
        assert_eq!(lanes.take(0), []);
        lanes.done(&"a".into(), Some(true), 0);
        assert_eq!(keys(&lanes.take(0)), ["slow-2"]);
        assert_eq!((lanes.waiting(), lanes.in_flight()), (7, 3));
    }

    #[test]
    fn the_bound_in_all_is_shared_in_turn() {
        let mut lanes = lanes();
        for lane in ["a", "b", "c", "d", "e"] {
            for index in 0..2 {
                lanes.queue(waiting(&format!("{lane}{index}"), lane, 0));
            }
        }
        assert_eq!(keys(&lanes.take(0)), ["a0", "b0", "c0", "d0", "e0", "a1"]);
        lanes.done(&"a".into(), Some(true), 0);
        assert_eq!(keys(&lanes.take(0)), ["b1"]);
    }

    #[test]
    fn nothing_is_called_before_it_is_due() {
        let mut lanes = lanes();
        lanes.queue(waiting("later", "a", 500));
        assert_eq!(lanes.take(499), []);
        assert_eq!(lanes.next_at(), Some(500));
        assert_eq!(keys(&lanes.take(500)), ["later"]);
        assert_eq!(lanes.next_at(), None);
    }

    #[test]
    fn a_cell_waits_once() {
        let mut lanes = lanes();
        lanes.queue(waiting("x", "a", 0));
        lanes.queue(waiting("x", "b", 5));
        assert_eq!(lanes.take(0), []);
        assert_eq!(keys(&lanes.take(5)), ["x"]);
    }

    #[test]
    fn the_breaker_opens_at_the_fifth_failure_and_lets_one_probe_through() {
        let mut lanes = lanes();
        let lane: LaneId = "a".into();
        for index in 0..20 {
            lanes.queue(waiting(&format!("{index:02}"), "a", 0));
        }
        for _ in 0..3 {
            assert_eq!(lanes.take(0).len(), 2);
            lanes.done(&lane, Some(false), 0);
            lanes.done(&lane, Some(false), 0);
        }
        assert_eq!(lanes.take(59_999), []);
        assert_eq!(lanes.next_at(), Some(60_000));
        assert_eq!(lanes.take(60_000).len(), 1, "exactly one probe");
        assert_eq!(lanes.take(200_000), []);
        lanes.done(&lane, Some(false), 200_000);
        assert_eq!(lanes.take(259_999), []);
        assert_eq!(lanes.take(260_000).len(), 1);
        lanes.done(&lane, Some(true), 260_000);
        assert_eq!(lanes.take(260_000).len(), 2, "closed again");
    }

    #[test]
    fn a_success_counts_the_failures_anew() {
        let mut lanes = lanes();
        let lane: LaneId = "a".into();
        for round in 0..10 {
            lanes.queue(waiting("x", "a", 0));
            assert_eq!(lanes.take(0).len(), 1, "round {round}");
            lanes.done(&lane, Some(round % 4 == 3), 0);
        }
    }

    #[test]
    fn a_probe_that_asked_nobody_leaves_the_probe_to_the_next() {
        let mut lanes = Lanes::new(Bounds { failures_max: 1, ..Bounds::default() });
        let lane: LaneId = "a".into();
        for key in ["x", "y", "z"] {
            lanes.queue(waiting(key, "a", 0));
        }
        lanes.take(0);
        lanes.done(&lane, Some(false), 0);
        lanes.done(&lane, Some(false), 0);
        lanes.done(&lane, Some(false), 0);
        for key in ["x", "y"] {
            lanes.queue(waiting(key, "a", 0));
        }
        assert_eq!(keys(&lanes.take(60_000)), ["x"]);
        lanes.done(&lane, None, 60_000);
        assert_eq!(keys(&lanes.take(60_000)), ["y"]);
    }

    #[test]
    fn what_waits_too_long_behind_an_open_breaker_is_given_up() {
        let mut lanes = Lanes::new(Bounds { failures_max: 1, ..Bounds::default() });
        lanes.queue(waiting("x", "a", 0));
        lanes.take(0);
        lanes.done(&"a".into(), Some(false), 999_990);
        lanes.queue(waiting("y", "a", 0));
        assert_eq!(lanes.take(999_999), []);
        assert_eq!(lanes.next_at(), Some(1_000_000));
        assert_eq!(keys(&lanes.take(1_000_000)), ["-y"]);
        assert_eq!(lanes.in_flight(), 0);
    }

    #[test]
    fn partitions_that_are_given_up_wait_no_longer() {
        let mut lanes = lanes();
        lanes.queue(waiting("x", "a", 0));
        lanes.forget(&[1]);
        assert_eq!(lanes.waiting(), 1);
        lanes.forget(&[0]);
        assert_eq!((lanes.waiting(), lanes.take(0).len()), (0, 0));
    }
}
