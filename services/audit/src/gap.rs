//! What is missing or wrong, named by the record that shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::books::Cell;
use crate::place::Place;

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapKind {
    /// A source record without its successor.
    Missing,
    /// A successor without its source.
    Orphan,
    /// A second successor of one source, or a cause that does not rise.
    Repeat,
    /// A dead letter where the equations allow none.
    Dead,
    /// Usage that is not what the receipt says.
    UsageDiffers,
    /// A total that is not the sum of what was recorded.
    TotalDiffers,
    /// A posting that is not what was owed, or does not balance.
    Unbalanced,
    /// A successor under another tenant or hour than its source.
    Misplaced,
}

impl GapKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Orphan => "orphan",
            Self::Repeat => "repeat",
            Self::Dead => "dead",
            Self::UsageDiffers => "usage_differs",
            Self::TotalDiffers => "total_differs",
            Self::Unbalanced => "unbalanced",
            Self::Misplaced => "misplaced",
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    pub kind: GapKind,
    pub tenant: String,
    /// start of the hour, ms since the epoch
    pub hour: i64,
    /// the record concerned
    pub at: Place,
    pub detail: String,
}

impl Gap {
    pub(crate) fn new(kind: GapKind, cell: &Cell, at: Place, detail: String) -> Self {
        Self { kind, tenant: cell.tenant.clone(), hour: cell.hour, at, detail }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.detail)
    }
}
