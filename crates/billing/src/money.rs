//! Amounts in minor units. There is no `Default`: an amount that nobody named is not zero.

use std::fmt;

/// An amount in the minor units of some currency, negative for a reversal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minor(i64);

/// Why an amount could not be computed or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The result does not fit 64 bits.
    #[error("the amount does not fit 64 bits")]
    Overflow,
    /// Not `0`, and not an integer without leading zeros.
    #[error("not an integer in minor units")]
    Malformed,
}

impl Minor {
    /// Nothing at all.
    pub const ZERO: Self = Self(0);

    /// An amount of so many minor units.
    pub const fn new(units: i64) -> Self {
        Self(units)
    }

    /// The number of minor units.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// Reads `0` or `[1-9][0-9]*`, with one `-` before it for a reversal.
    ///
    /// # Errors
    /// `Malformed` for any other spelling, `Overflow` past 64 bits.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let spelt = match digits.as_bytes() {
            [b'0'] => digits.len() == text.len(),
            [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        if !spelt {
            return Err(MoneyError::Malformed);
        }
        text.parse().map(Self).map_err(|_| MoneyError::Overflow)
    }

    /// Sum. Errors: `Overflow`.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_add(other.0).map(Self).ok_or(MoneyError::Overflow)
    }

    /// Difference. Errors: `Overflow`.
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        self.0.checked_sub(other.0).map(Self).ok_or(MoneyError::Overflow)
    }

    /// The same amount the other way round. Errors: `Overflow`.
    pub fn mirrored(self) -> Result<Self, MoneyError> {
        self.0.checked_neg().map(Self).ok_or(MoneyError::Overflow)
    }
}

impl TryFrom<i128> for Minor {
    type Error = MoneyError;

    fn try_from(units: i128) -> Result<Self, MoneyError> {
        i64::try_from(units).map(Self).map_err(|_| MoneyError::Overflow)
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The only rounding there is: to the nearest integer, an exact half upwards. Negative amounts are mirrored by the caller.
///
/// # Errors
/// `Overflow` where a side is negative, the denominator is zero, or the sum does not fit 128 bits.
pub fn round_half_up(numerator: i128, denominator: i128) -> Result<i128, MoneyError> {
    if numerator < 0 || denominator <= 0 {
        return Err(MoneyError::Overflow);
    }
    let whole = numerator.checked_div(denominator).ok_or(MoneyError::Overflow)?;
    let rest = numerator.checked_rem(denominator).ok_or(MoneyError::Overflow)?;
    // rest >= denominator - rest says "at least a half" without doubling.
    let missing = denominator.checked_sub(rest).ok_or(MoneyError::Overflow)?;
    if rest >= missing { whole.checked_add(1).ok_or(MoneyError::Overflow) } else { Ok(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_half_goes_up_and_less_goes_down() {
        assert_eq!(round_half_up(5, 10), Ok(1));
        assert_eq!(round_half_up(4, 10), Ok(0));
        assert_eq!(round_half_up(15, 10), Ok(2));
        assert_eq!(round_half_up(1, 3), Ok(0));
        assert_eq!(round_half_up(2, 3), Ok(1));
        assert_eq!(round_half_up(0, 1), Ok(0));
        assert_eq!(round_half_up(1, 0), Err(MoneyError::Overflow));
        assert_eq!(round_half_up(-1, 2), Err(MoneyError::Overflow));
    }

    #[test]
    fn sums_past_64_bits_are_errors() {
        assert_eq!(Minor::new(i64::MAX).plus(Minor::new(1)), Err(MoneyError::Overflow));
        assert_eq!(Minor::new(i64::MIN).minus(Minor::new(1)), Err(MoneyError::Overflow));
        assert_eq!(Minor::new(i64::MIN).mirrored(), Err(MoneyError::Overflow));
        assert_eq!(Minor::new(2).minus(Minor::new(3)), Ok(Minor::new(-1)));
    }

    #[test]
    fn an_amount_has_one_spelling() {
        assert_eq!(Minor::parse("0"), Ok(Minor::ZERO));
        assert_eq!(Minor::parse("9223372036854775807"), Ok(Minor::new(i64::MAX)));
        assert_eq!(Minor::parse("-9223372036854775808"), Ok(Minor::new(i64::MIN)));
        assert_eq!(Minor::parse("9223372036854775808"), Err(MoneyError::Overflow));
        for text in ["", "-", "-0", "00", "01", "+1", "1.0", "1e3", " 1", "1 ", "--1", "١"] {
            assert_eq!(Minor::parse(text), Err(MoneyError::Malformed), "{text:?}");
        }
    }
}
