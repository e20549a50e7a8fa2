//! What is counted for one tenant and hour, and the equations of R10 over it.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one tenant and one hour of admission.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Counts { $($(#[$doc])* pub $name: i64,)* }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counts! {
    requested,
    /// re-emitted to the partition where their key belongs
    moved,
    admitted,
    /// refused by canonicalise
    rejected,
    replayed,
    /// dead letters of canonicalise, less those redone
    dead,
    sealed,
    /// refused by sign
    refused,
    /// dead letters of sign, less those redone
    dead_in_sign,
    metered,
    /// sealed with a price
    priced,
    /// commands written
    owed,
    posted,
    parked,
    deliveries_owed,
    deliveries_recorded,
}

/// One equation over some counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Equation {
    pub name: &'static str,
    pub left: i64,
    pub right: i64,
    /// On the left and beyond the cut: on its way, not missing.
    pub in_flight: i64,
    pub holds: bool,
}

/// Sources beyond the cut whose successor is not there yet, one number for each equation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InFlight(pub(crate) [i64; EQUATIONS]);

impl AddAssign for InFlight {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

pub(crate) const EQUATIONS: usize = 6;
/// Which equation an edge closes.
pub(crate) const DECIDED: usize = 0;
pub(crate) const SIGNED: usize = 1;
pub(crate) const METERED: usize = 2;
pub(crate) const CHARGED: usize = 3;
pub(crate) const SETTLED: usize = 4;
pub(crate) const DELIVERED: usize = 5;

impl Counts {
    pub(crate) fn equations(&self, in_flight: &InFlight) -> [Equation; EQUATIONS] {
        let [decided, signed, metered, charged, settled, delivered] = in_flight.0;
        let equation = |name, left: i64, right: i64, in_flight: i64| Equation {
            name,
            left,
            right,
            in_flight,
            holds: left == right + in_flight,
        };
        [
            equation(
                "requested = admitted + rejected + replayed + moved + dead",
                self.requested,
                self.admitted + self.rejected + self.replayed + self.moved + self.dead,
                decided,
            ),
            equation(
                "admitted = sealed + refused + dead",
                self.admitted,
                self.sealed + self.refused + self.dead_in_sign,
                signed,
            ),
            equation("sealed = metered", self.sealed, self.metered, metered),
            equation("priced = owed", self.priced, self.owed, charged),
            equation("owed = posted + parked", self.owed, self.posted + self.parked, settled),
            equation("deliveries owed = recorded", self.deliveries_owed, self.deliveries_recorded, delivered),
        ]
    }
}
