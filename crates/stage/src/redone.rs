//! What was redone once is not done again (R4, R9): the guard of steps whose state does not show it by itself.
//!
//! A dead letter may go back twice: by two operators, or because nobody knew whether the first time had come to anything.
//! A step that has refused a record has made nothing of it, so the first redo that succeeds is the only one that may. It
//! leaves a mark, in the transaction of what it led to; whoever meets the mark is refused as [`ALREADY_DECIDED`], where
//! everybody sees it. Records of the step's own input are read once anyway and pay nothing.
//!
//! [`ALREADY_DECIDED`]: crate::dead_letter::ALREADY_DECIDED

use std::collections::BTreeMap;

use log::{Fault, Record};

use crate::dead_letter::ALREADY_DECIDED;
use crate::expiring::{self, Clocks, Window};
use crate::{Effects, Reject, StepError};

/// How long a mark is found after it was made or last met. A dead letter lives for 45 days, the record that redoes it for
/// as long again, and what is refused once more is a letter of its own: this outlives them.
const KEPT: Window = Window::Millis(180 * 86_400_000);
/// Every cell of this module begins so: the time of redos is not the step's own time, which may expire otherwise.
const REDONE: u8 = b'r';
/// The kind of cell that holds a mark.
const MARK: u8 = b'm';

/// The marks of the partitions in the batch that is being filled.
#[derive(Debug, Default)]
pub struct Redone {
    clocks: Clocks,
    /// Marks that were met, by partition and name, and when: they are kept from then on.
    met: BTreeMap<(u32, Vec<u8>), i64>,
}

/// What a record of a redo topic asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub record: &'a Record,
    /// The same for every record that asks for the same, and for no other.
    pub name: &'a str,
    /// The tenant that a refusal counts under.
    pub tenant: &'a str,
}

impl Redone {
    /// Marks it as done. To be called before anything is staged for a record of a redo topic.
    ///
    /// # Errors
    /// `Reject` where it was done before.
    pub fn claim(&mut self, asked: Asked<'_>, effects: &mut dyn Effects) -> Result<(), StepError> {
        let Asked { record, name, tenant } = asked;
        let effects = &mut Apart(effects);
        let now = self.clocks.observe(KEPT, record.partition, record.time_ms, effects)?;
        if expiring::find(KEPT, MARK, name.as_bytes(), now, effects)?.is_none() {
            return Ok(expiring::put(KEPT, MARK, name.as_bytes(), now, &now.to_be_bytes(), effects)?);
        }
        // A refusal stages nothing, so the mark is moved on with the batch.
        self.met.insert((record.partition, name.as_bytes().to_vec()), now);
        Err(StepError::Reject(Reject {
            reason: ALREADY_DECIDED,
            detail: format!("{name} was redone before"),
            tenant: tenant.to_owned(),
        }))
    }

    /// Before the commit of a batch, once for each partition touched.
    pub fn finish(&mut self, partition: u32, effects: &mut dyn Effects) -> Result<(), Fault> {
        let effects = &mut Apart(effects);
        for ((_, name), at) in self.met.iter().filter(|((of, _), _)| *of == partition) {
            expiring::put(KEPT, MARK, name, *at, &at.to_be_bytes(), effects)?;
        }
        self.met.retain(|(of, _), _| *of != partition);
        self.clocks.finish(KEPT, &[MARK], partition, effects)
    }

    /// Forgets what was observed since the last commit.
    pub fn clear(&mut self) {
        self.clocks.clear();
        self.met.clear();
    }
}

/// The cells of this module within the step's own.
struct Apart<'a>(&'a mut dyn Effects);

fn apart(key: &[u8]) -> Vec<u8> {
    [&[REDONE], key].concat()
}

impl Effects for Apart<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.0.get(&apart(key))
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        self.0.put(&apart(key), value)
    }

    fn forget(&mut self, prefix: &[u8]) -> Result<(), Fault> {
        self.0.forget(&apart(prefix))
    }

    fn emit(&mut self, emit: crate::Emit) -> Result<(), Fault> {
        self.0.emit(emit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemoryEffects, record};

    const DAY: i64 = 86_400_000;

    fn claim(redone: &mut Redone, name: &str, day: i64, effects: &mut MemoryEffects) -> bool {
        let record = record("step.redo.v1", 0, 0, day * DAY, "k", Vec::new());
        match redone.claim(Asked { record: &record, name, tenant: "acme" }, effects) {
            Ok(()) => true,
            Err(StepError::Reject(reject)) => {
                assert_eq!((reject.reason, reject.tenant.as_str()), (ALREADY_DECIDED, "acme"));
                false
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_was_claimed_is_claimed_also_after_a_restart() {
        let mut effects = MemoryEffects::default();
        let mut redone = Redone::default();
        assert!(claim(&mut redone, "a", 1_000, &mut effects));
        assert!(!claim(&mut redone, "a", 1_000, &mut effects), "in the same batch");
        assert!(claim(&mut redone, "b", 1_000, &mut effects));
        redone.finish(0, &mut effects).unwrap();
        let mut restarted = Redone::default();
        assert!(!claim(&mut restarted, "a", 1_001, &mut effects));
        assert!(claim(&mut restarted, "c", 1_001, &mut effects));
    }

    #[test]
    fn a_mark_outlives_the_letters_and_is_kept_while_it_is_met() {
        let mut effects = MemoryEffects::default();
        let mut redone = Redone::default();
        for day in (1_000..2_000).step_by(100) {
            assert_eq!(claim(&mut redone, "met", day, &mut effects), day == 1_000, "day {day}");
            redone.finish(0, &mut effects).unwrap();
        }
    }

    #[test]
    fn a_step_whose_own_state_never_expires_has_marks_beside_it() {
        let mut effects = MemoryEffects::default();
        let mut clocks = Clocks::default();
        clocks.observe(Window::Forever, 0, DAY, &effects).unwrap();
        clocks.finish(Window::Forever, b"d", 0, &mut effects).unwrap();
        let mut redone = Redone::default();
        assert!(claim(&mut redone, "a", 1_000, &mut effects));
        redone.finish(0, &mut effects).unwrap();
        assert_eq!(Clocks::default().observe(Window::Forever, 0, 0, &effects).unwrap(), DAY);
    }

    #[test]
    fn marks_that_nobody_meets_leave_with_their_generation() {
        let mut effects = MemoryEffects::default();
        let mut redone = Redone::default();
        for day in 1_000..2_000 {
            assert!(claim(&mut redone, &format!("of day {day}"), day, &mut effects));
            redone.finish(0, &mut effects).unwrap();
        }
        assert!(effects.cells.len() < 260, "{} cells", effects.cells.len());
    }
}
