//! One edge of the pipeline: which record of its source has met what followed from it, in whichever order they are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::place::Place;

/// `O`: what is remembered of a source record until its successor is seen. `S`: what is remembered of a successor that
/// was read before its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(serialize = "O: Serialize, S: Serialize", deserialize = "O: DeserializeOwned, S: DeserializeOwned"))]
pub(crate) struct Edge<O, S> {
    open: BTreeMap<Place, O>,
    early: BTreeMap<Place, (Place, S)>,
}

impl<O, S> Default for Edge<O, S> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), early: BTreeMap::new() }
    }
}

/// What a successor found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<O, S> {
    /// Its source, which has no other successor.
    Source(O, S),
    /// The source is not read yet.
    Waits,
    /// The source has had its successor, or was owed none.
    Repeat,
}

impl<O, S> Edge<O, S> {
    /// A source record is read; answers the successor that was read before it.
    pub(crate) fn source(&mut self, at: Place, open: O) -> Option<(O, Place, S)> {
        match self.early.remove(&at) {
            Some((successor, seen)) => Some((open, successor, seen)),
            None => {
                self.open.insert(at, open);
                None
            }
        }
    }

    /// A successor is read. `source_read` says whether its source has been read already.
    pub(crate) fn successor(&mut self, source: Place, at: Place, seen: S, source_read: bool) -> Found<O, S> {
        if let Some(open) = self.open.remove(&source) {
            return Found::Source(open, seen);
        }
        if source_read || self.early.contains_key(&source) {
            return Found::Repeat;
        }
        self.early.insert(source, (at, seen));
        Found::Waits
    }

    /// This source is owed nothing: a successor that was read before it has none.
    pub(crate) fn forget_early(&mut self, at: &Place) -> Option<(Place, S)> {
        self.early.remove(at)
    }

    pub(crate) fn open(&self) -> &BTreeMap<Place, O> {
        &self.open
    }

    pub(crate) fn open_mut(&mut self, at: &Place) -> Option<&mut O> {
        self.open.get_mut(at)
    }

    pub(crate) fn take_open(&mut self, at: &Place) -> Option<O> {
        self.open.remove(at)
    }

    /// Successors without a source so far, by source.
    pub(crate) fn early(&self) -> &BTreeMap<Place, (Place, S)> {
        &self.early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> Place {
        Place { topic: "t".into(), partition: 0, offset }
    }

    #[test]
    fn source_and_successor_meet_once_in_either_order() {
        let mut edge: Edge<u8, u8> = Edge::default();
        assert_eq!(edge.source(place(1), 10), None);
        assert_eq!(edge.successor(place(1), place(100), 1, true), Found::Source(10, 1));
        assert_eq!(edge.successor(place(1), place(101), 1, true), Found::Repeat);

        assert_eq!(edge.successor(place(2), place(102), 2, false), Found::Waits);
        assert_eq!(edge.successor(place(2), place(103), 2, false), Found::Repeat);
        assert_eq!(edge.source(place(2), 20), Some((20, place(102), 2)));
        assert!(edge.open().is_empty() && edge.early().is_empty());
    }
}
