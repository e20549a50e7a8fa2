//! The effects of a record: held back until the step has accepted it, or made in the session at once.

use log::{Cause, Fault, Session};

use crate::{Effects, Emit};

#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) puts: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) forgets: Vec<Vec<u8>>,
    pub(crate) emits: Vec<Emit>,
}

pub(crate) struct Staging<'a> {
    session: &'a dyn Session,
    partition: u32,
    staged: Staged,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(session: &'a dyn Session, partition: u32) -> Self {
        Self { session, partition, staged: Staged::default() }
    }

    pub(crate) fn into_staged(self) -> Staged {
        self.staged
    }
}

impl Effects for Staging<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        // A record stages a handful of cells at most, so the newest is found by looking back.
        if let Some((_, value)) = self.staged.puts.iter().rev().find(|(known, _)| known == key) {
            return Ok(value.clone());
        }
        let mut value = Vec::new();
        Ok(self.session.get(self.partition, key, &mut value)?.then_some(value))
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        self.staged.puts.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        Ok(())
    }

    fn forget(&mut self, prefix: &[u8]) -> Result<(), Fault> {
        self.staged.forgets.push(prefix.to_vec());
        Ok(())
    }

    fn emit(&mut self, emit: Emit) -> Result<(), Fault> {
        self.staged.emits.push(emit);
        Ok(())
    }
}

/// The state of one partition, changed in the session at once: for steps with a loop of their own. Records go out by
/// [`emit_caused`](crate::dead_letter::emit_caused), with the cause that only the loop knows.
pub struct Cells<'a> {
    session: &'a mut dyn Session,
    partition: u32,
}

impl<'a> Cells<'a> {
    pub fn new(session: &'a mut dyn Session, partition: u32) -> Self {
        Self { session, partition }
    }
}

impl Effects for Cells<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let mut value = Vec::new();
        Ok(self.session.get(self.partition, key, &mut value)?.then_some(value))
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Fault> {
        self.session.put(self.partition, key, value)
    }

    fn forget(&mut self, prefix: &[u8]) -> Result<(), Fault> {
        self.session.forget(self.partition, prefix)
    }

    fn emit(&mut self, emit: Emit) -> Result<(), Fault> {
        Err(Fault::Fatal(Cause::new("cause_missing", format!("a record for {} would name no cause", emit.topic))))
    }
}
