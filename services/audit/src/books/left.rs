//! What has not met its other half yet.

use event::topic;

use super::{Books, Cell};
use crate::gap::Gap;
use crate::place::Place;

/// An open source: where it lies, where it counts, and which equation waits for it.
pub(crate) struct Unmatched<'a> {
    pub(crate) place: &'a Place,
    pub(crate) cell: &'a Cell,
    pub(crate) equation: usize,
    pub(crate) lacks: &'static str,
}

/// A successor without its source; without a cell it is not counted anywhere yet.
pub(crate) struct Orphan<'a> {
    pub(crate) source: &'a Place,
    pub(crate) successor: &'a Place,
    pub(crate) cell: Option<&'a Cell>,
    pub(crate) equation: usize,
}

impl Books {
    /// Every source without its successor.
    pub(crate) fn unmatched(&self) -> impl Iterator<Item = Unmatched<'_>> {
        use crate::counts::{CHARGED, DECIDED, DELIVERED, METERED, SETTLED, SIGNED};
        let open = &self.open;
        let of = |equation, lacks| move |(place, cell)| Unmatched { place, cell, equation, lacks };
        let requested = open.requested.open().iter().map(|(place, open)| (place, &open.cell));
        let admitted = open.admitted.open().iter();
        let metered = open.metered.open().iter().map(|(place, open)| (place, &open.cell));
        let settled = open.settled.open().iter().map(|(place, open)| (place, &open.cell));
        requested
            .map(of(DECIDED, "an admission, refusal, replay or dead letter"))
            .chain(admitted.map(of(SIGNED, "a seal, refusal or dead letter")))
            .chain(metered.map(of(METERED, topic::USAGE_RECORDED)))
            .chain(open.charged.open().iter().map(of(CHARGED, topic::LEDGER_COMMAND)))
            .chain(settled.map(of(SETTLED, "a posting or a parked settlement")))
            .chain(open.delivered.open().iter().map(of(DELIVERED, topic::DELIVERED)))
    }

    /// Every successor whose source is not read.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = Orphan<'_>> {
        use crate::counts::{CHARGED, DECIDED, DELIVERED, METERED, SETTLED, SIGNED};
        let open = &self.open;
        let edges = [
            (DECIDED, open.requested.early()),
            (SIGNED, open.admitted.early()),
            (METERED, open.metered.early()),
            (CHARGED, open.charged.early()),
            (SETTLED, open.settled.early()),
            (DELIVERED, open.delivered.early()),
        ];
        edges.into_iter().flat_map(|(equation, early)| {
            early.iter().map(move |(source, (successor, after))| Orphan {
                source,
                successor,
                cell: after.cell(),
                equation,
            })
        })
    }

    pub(crate) fn wrongs(&self) -> impl Iterator<Item = &Gap> {
        self.open.wrong.values()
    }
}
