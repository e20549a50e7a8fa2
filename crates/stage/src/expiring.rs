//! State that expires: cells that are found for a window of time after they were put, at no cost per record.
//!
//! A cell belongs to the generation of its time. A lookup asks the generations that the window reaches into (two, as
//! shipped); older ones can only hold expired cells and are forgotten whole. Time is the records', never a clock's.

use log::{Cause, Fault};

use crate::Effects;

/// How long a cell is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    Forever,
    /// At least 1.
    Millis(i64),
}

/// The length of a generation never changes, so that a window may: cells stay where they are found.
const GENERATION_MS: i64 = 35 * 86_400_000;
/// The time that the partition has reached.
const TIME_CELL: &[u8] = b"t";
/// Whether cells of this partition are kept by generation or for ever.
const KIND_CELL: &[u8] = b"w";

impl Window {
    /// `None` for ever.
    pub fn of_days(days: Option<u32>) -> Self {
        match days {
            None => Self::Forever,
            Some(days) => Self::Millis(i64::from(days.max(1)) * 86_400_000),
        }
    }

    /// True while something that happened at `at` is within the window.
    pub fn covers(self, at: i64, now: i64) -> bool {
        match self {
            Self::Forever => true,
            Self::Millis(window) => now.saturating_sub(at) < window,
        }
    }

    fn generation(self, at: i64) -> u32 {
        match self {
            Self::Forever => 0,
            Self::Millis(_) => u32::try_from(at.max(0) / GENERATION_MS).unwrap_or(u32::MAX),
        }
    }

    /// The oldest generation in which something within the window can lie.
    fn oldest(self, now: i64) -> u32 {
        match self {
            Self::Forever => 0,
            Self::Millis(window) => self.generation(now.saturating_sub(window)),
        }
    }

    fn kind(self) -> &'static [u8] {
        match self {
            Self::Forever => b"forever",
            Self::Millis(_) => b"finite",
        }
    }
}

/// Prefix of every cell of one kind and generation.
fn prefix(kind: u8, generation: u32) -> [u8; 5] {
    let [a, b, c, d] = generation.to_be_bytes();
    [kind, a, b, c, d]
}

fn cell(kind: u8, generation: u32, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + name.len());
    key.extend_from_slice(&prefix(kind, generation));
    key.extend_from_slice(name);
    key
}

/// The newest cell of that kind and name in a generation that the window reaches into. Whether it is itself still
/// within the window, the caller asks with [`Window::covers`] and the time that it keeps in the value.
///
/// `kind` is any byte but `t` and `w`.
pub fn find(window: Window, kind: u8, name: &[u8], now: i64, effects: &dyn Effects) -> Result<Option<Vec<u8>>, Fault> {
    for generation in (window.oldest(now)..=window.generation(now)).rev() {
        if let Some(value) = effects.get(&cell(kind, generation, name))? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Puts a cell into the generation of `at`.
pub fn put(
    window: Window,
    kind: u8,
    name: &[u8],
    at: i64,
    value: &[u8],
    effects: &mut dyn Effects,
) -> Result<(), Fault> {
    effects.put(&cell(kind, window.generation(at), name), Some(value))
}

/// The time that the partition has reached; 0 for a new one.
///
/// # Errors
/// Fatal `window_kind_changed` where cells were kept the other way before: changing it would forget them.
fn time_reached(window: Window, effects: &dyn Effects) -> Result<i64, Fault> {
    match effects.get(KIND_CELL)? {
        None => {}
        Some(kind) if kind == window.kind() => {}
        Some(_) => {
            let detail =
                "dedup_window_days went from a number to forever or back; what was kept so far would be forgotten";
            return Err(Fault::Fatal(Cause::new("window_kind_changed", detail)));
        }
    }
    let bytes = effects.get(TIME_CELL)?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_be_bytes))
}

/// Moves the time on, and forgets the generations of these kinds that have expired with it.
fn advance(window: Window, kinds: &[u8], from: i64, to: i64, effects: &mut dyn Effects) -> Result<(), Fault> {
    if from == 0 {
        // Once for a partition: its first time and the kind of its cells begin together.
        effects.put(KIND_CELL, Some(window.kind()))?;
    }
    effects.put(TIME_CELL, Some(&to.to_be_bytes()))?;
    // Cells lie in generations up to that of `from`; what lay below its oldest is gone already.
    let end = window.oldest(to).min(window.generation(from).saturating_add(1));
    for expired in window.oldest(from)..end {
        for kind in kinds {
            effects.forget(&prefix(*kind, expired))?;
        }
    }
    Ok(())
}

/// The time of the partitions in the batch that is being filled: it never runs backwards (R2).
#[derive(Debug, Default)]
pub struct Clocks(std::collections::BTreeMap<u32, Clock>);

#[derive(Clone, Copy, Debug)]
struct Clock {
    stored: i64,
    now: i64,
}

impl Clocks {
    /// The later of `time_ms` and the time reached.
    pub fn observe(
        &mut self,
        window: Window,
        partition: u32,
        time_ms: i64,
        effects: &dyn Effects,
    ) -> Result<i64, Fault> {
        let clock = match self.0.get(&partition) {
            Some(clock) => *clock,
            None => {
                let stored = time_reached(window, effects)?;
                Clock { stored, now: stored }
            }
        };
        let now = clock.now.max(time_ms);
        self.0.insert(partition, Clock { now, ..clock });
        Ok(now)
    }

    /// Stores the time reached, once a batch.
    pub fn finish(
        &mut self,
        window: Window,
        kinds: &[u8],
        partition: u32,
        effects: &mut dyn Effects,
    ) -> Result<(), Fault> {
        if let Some(clock) = self.0.get_mut(&partition)
            && clock.now > clock.stored
        {
            advance(window, kinds, clock.stored, clock.now, effects)?;
            clock.stored = clock.now;
        }
        Ok(())
    }

    /// Forgets what was observed since the last commit.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryEffects;

    const DAY: i64 = 86_400_000;
    const KIND: u8 = b'd';

    fn found(window: Window, name: &str, now: i64, effects: &MemoryEffects) -> bool {
        let value = find(window, KIND, name.as_bytes(), now, effects).unwrap();
        value.is_some_and(|at| window.covers(i64::from_be_bytes(at.try_into().unwrap()), now))
    }

    fn keep(window: Window, name: &str, at: i64, effects: &mut MemoryEffects) {
        put(window, KIND, name.as_bytes(), at, &at.to_be_bytes(), effects).unwrap();
    }

    #[test]
    fn a_cell_is_found_for_the_window_and_not_longer() {
        let window = Window::of_days(Some(35));
        let mut effects = MemoryEffects::default();
        let at = 1_000 * DAY + 5;
        keep(window, "k", at, &mut effects);
        for (now, expected) in [(at, true), (at + 35 * DAY - 1, true), (at + 35 * DAY, false)] {
            assert_eq!(found(window, "k", now, &effects), expected, "{now}");
        }
        assert!(!found(window, "other", at, &effects));
    }

    #[test]
    fn a_longer_window_still_finds_what_a_shorter_one_kept() {
        let mut effects = MemoryEffects::default();
        keep(Window::of_days(Some(35)), "k", 1_000 * DAY, &mut effects);
        assert!(found(Window::of_days(Some(90)), "k", 1_080 * DAY, &effects));
    }

    #[test]
    fn expired_generations_go_whole_and_living_ones_stay() {
        let window = Window::of_days(Some(35));
        let mut effects = MemoryEffects::default();
        let mut clocks = Clocks::default();
        for day in (0..200).step_by(5) {
            let now = clocks.observe(window, 0, day * DAY + 1, &effects).unwrap();
            keep(window, &format!("k{day}"), now, &mut effects);
            clocks.finish(window, &[KIND], 0, &mut effects).unwrap();
            for past in (0..=day).step_by(5) {
                assert_eq!(
                    found(window, &format!("k{past}"), now, &effects),
                    day - past < 35,
                    "day {day}, key of day {past}"
                );
            }
        }
        assert!(effects.cells.len() < 20, "{} cells", effects.cells.len());
    }

    #[test]
    fn time_never_runs_backwards_also_after_a_restart() {
        let window = Window::of_days(Some(35));
        let mut effects = MemoryEffects::default();
        let mut clocks = Clocks::default();
        assert_eq!(clocks.observe(window, 0, 100, &effects).unwrap(), 100);
        assert_eq!(clocks.observe(window, 0, 90, &effects).unwrap(), 100);
        clocks.finish(window, &[KIND], 0, &mut effects).unwrap();
        let mut restarted = Clocks::default();
        assert_eq!(restarted.observe(window, 0, 50, &effects).unwrap(), 100);
    }

    #[test]
    fn a_window_does_not_silently_become_another_kind() {
        let mut effects = MemoryEffects::default();
        let mut clocks = Clocks::default();
        clocks.observe(Window::of_days(Some(35)), 0, 5, &effects).unwrap();
        clocks.finish(Window::of_days(Some(35)), &[KIND], 0, &mut effects).unwrap();
        assert!(time_reached(Window::of_days(Some(7)), &effects).is_ok());
        assert!(matches!(time_reached(Window::Forever, &effects), Err(Fault::Fatal(_))));
    }
}
