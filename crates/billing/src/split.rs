//! Dividing a total among parties.

use std::cmp::Reverse;

use crate::money::{Minor, MoneyError};
use crate::schedule::PPM;

/// Why a total was not divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("the shares do not sum to 1,000,000 parts per million")]
    NotWhole,
    #[error("the parts cannot be computed")]
    Money(#[source] MoneyError),
}

/// What a party gets before the units that are left over are given out.
struct Part {
    units: i128,
    /// What was cut off, in millionths of a unit.
    rest: i128,
}

/// Divides a total by shares in parts per million, to the unit: largest remainder, where a tie goes to the party listed
/// first. A negative total mirrors the positive one.
///
/// # Errors
/// `NotWhole` where the shares do not sum to 1,000,000: somebody would be forgotten, or money made up.
pub fn split(total: Minor, shares_ppm: &[u32]) -> Result<Vec<Minor>, SplitError> {
    let shares: u64 = shares_ppm.iter().try_fold(0_u64, |sum, share| sum.checked_add(u64::from(*share))).unwrap_or(0);
    if shares != u64::from(PPM) {
        return Err(SplitError::NotWhole);
    }
    let overflow = SplitError::Money(MoneyError::Overflow);
    let size = i128::from(total.units()).checked_abs().ok_or(overflow)?;
    let parts = parts_of(size, shares_ppm).ok_or(overflow)?;
    let parts = parts.into_iter().map(|part| {
        let units = if total < Minor::ZERO { part.units.checked_neg() } else { Some(part.units) };
        units.ok_or(MoneyError::Overflow).and_then(Minor::try_from).map_err(SplitError::Money)
    });
    parts.collect()
}

fn parts_of(size: i128, shares_ppm: &[u32]) -> Option<Vec<Part>> {
    let whole = i128::from(PPM);
    let mut parts = Vec::with_capacity(shares_ppm.len());
    let mut left = size;
    for share in shares_ppm {
        let exact = size.checked_mul(i128::from(*share))?;
        let part = Part { units: exact.checked_div(whole)?, rest: exact.checked_rem(whole)? };
        left = left.checked_sub(part.units)?;
        parts.push(part);
    }
    // Fewer units are left than parties lost a rest, so nobody gets two and a share of nothing gets none.
    let mut by_rest: Vec<&mut Part> = parts.iter_mut().collect();
    by_rest.sort_by_key(|part| Reverse(part.rest));
    for part in by_rest.into_iter().take(usize::try_from(left).ok()?) {
        part.units = part.units.checked_add(1)?;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(total: i64, shares_ppm: &[u32]) -> Vec<i64> {
        split(Minor::new(total), shares_ppm).unwrap().into_iter().map(Minor::units).collect()
    }

    #[test]
    fn a_tie_goes_to_the_party_listed_first() {
        assert_eq!(units(1, &[500_000, 500_000]), [1, 0]);
        assert_eq!(units(3, &[0, 500_000, 500_000]), [0, 2, 1]);
        assert_eq!(units(2, &[333_333, 333_333, 333_334]), [1, 0, 1]);
    }

    #[test]
    fn a_negative_total_mirrors_the_positive_one() {
        assert_eq!(units(-1, &[500_000, 500_000]), [-1, 0]);
        assert_eq!(units(i64::MIN, &[1_000_000]), [i64::MIN]);
        assert_eq!(units(i64::MIN, &[500_000, 500_000]), [i64::MIN / 2, i64::MIN / 2]);
        assert_eq!(units(0, &[400_000, 600_000]), [0, 0]);
    }

    #[test]
    fn shares_that_are_not_a_whole_are_refused() {
        for shares in [&[][..], &[999_999], &[1_000_001], &[600_000, 300_000], &[u32::MAX; 3]] {
            assert_eq!(split(Minor::new(100), shares), Err(SplitError::NotWhole), "{shares:?}");
        }
    }
}
