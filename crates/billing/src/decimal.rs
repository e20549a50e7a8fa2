//! Exact decimals, and amounts of a currency that come as one.

use std::cmp::Ordering;

use crate::currency::Currency;
use crate::money::{Minor, MoneyError};

/// Digits after the point that are read.
const PLACES_MAX: usize = 18;
/// Digits in all that are read.
const DIGITS_MAX: usize = 36;

/// A decimal number, exact: so many units of 10 to the minus `places`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// Not a multiple of ten where `places` is above zero.
    units: i128,
    places: u32,
}

/// Why a text or a number was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("not a number as JSON writes them")]
    Malformed,
    #[error("more than {DIGITS_MAX} digits, or more than {PLACES_MAX} after the point")]
    TooLong,
    #[error("more decimals than the currency has")]
    TooManyDecimals,
    #[error("the amount cannot be computed")]
    Money(#[source] MoneyError),
}

impl Decimal {
    /// Reads a number by the grammar of JSON. `1.50`, `1.5` and `15e-1` are the same.
    ///
    /// # Errors
    /// `Malformed` for another grammar, `TooLong` for more digits than are kept.
    pub fn parse(text: &str) -> Result<Self, DecimalError> {
        let written = Grammar::read(text).ok_or(DecimalError::Malformed)?;
        let mut digits = [written.whole, written.fraction].concat();
        let leading = digits.bytes().take_while(|digit| *digit == b'0').count();
        digits.drain(..leading);
        digits.truncate(digits.trim_end_matches('0').len());
        if digits.is_empty() {
            return Ok(Self { units: 0, places: 0 });
        }
        let signed = |length: usize| i64::try_from(length).map_err(|_| DecimalError::TooLong);
        // Where the point stands, counted from the first digit.
        let point = signed(written.whole.len())?.saturating_sub(signed(leading)?).saturating_add(written.exponent);
        let length = signed(digits.len())?;
        let places = usize::try_from(length.saturating_sub(point).max(0)).unwrap_or(usize::MAX);
        let zeros = usize::try_from(point.saturating_sub(length).max(0)).unwrap_or(usize::MAX);
        if places > PLACES_MAX || digits.len().saturating_add(zeros) > DIGITS_MAX {
            return Err(DecimalError::TooLong);
        }
        digits.extend(std::iter::repeat_n('0', zeros));
        let size: i128 = digits.parse().map_err(|_| DecimalError::TooLong)?;
        let units = if written.is_negative { size.checked_neg() } else { Some(size) };
        let places = u32::try_from(places).map_err(|_| DecimalError::TooLong)?;
        Ok(Self { units: units.ok_or(DecimalError::TooLong)?, places })
    }

    /// Numerator and denominator, the latter a power of ten.
    pub(crate) fn fraction(self) -> Option<(i128, i128)> {
        Some((self.units, 10_i128.checked_pow(self.places)?))
    }

    /// Whether it is less than zero, zero, or more.
    pub fn sign(self) -> Ordering {
        self.units.cmp(&0)
    }
}

/// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
struct Grammar<'a> {
    is_negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Grammar<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Self::exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if is_digits(fraction) => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        let is_whole = is_digits(whole) && (whole == "0" || !whole.starts_with('0'));
        is_whole.then_some(Self { is_negative, whole, fraction, exponent })
    }

    /// Past 64 bits it is as good as infinite.
    fn exponent(text: &str) -> Option<i64> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if !is_digits(digits) {
            return None;
        }
        let size = digits.parse::<i64>().unwrap_or(i64::MAX);
        if is_negative { size.checked_neg() } else { Some(size) }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// An amount in minor units, from the number in which a payload gives it. Nothing is rounded or cut off.
///
/// A payload's number is read from its canonical form, so that amount and cid agree.
///
/// # Errors
/// `TooManyDecimals` for `1.005` USD or `1.5` JPY; `Money` where the amount does not fit 64 bits.
pub fn minor_units(currency: Currency, number: Decimal) -> Result<Minor, DecimalError> {
    let exponent = u32::from(currency.exponent());
    let missing = exponent.checked_sub(number.places).ok_or(DecimalError::TooManyDecimals)?;
    let units = 10_i128.checked_pow(missing).and_then(|factor| number.units.checked_mul(factor));
    units.ok_or(MoneyError::Overflow).and_then(Minor::try_from).map_err(DecimalError::Money)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minor(currency: &str, text: &str) -> Result<i64, DecimalError> {
        minor_units(Currency::of(currency).unwrap(), Decimal::parse(text)?).map(Minor::units)
    }

    #[test]
    fn a_number_is_read_exactly_however_it_is_written() {
        for text in ["12.5", "12.50", "125e-1", "1.25E1", "0.125e+2", "1250e-2"] {
            assert_eq!(Decimal::parse(text), Ok(Decimal { units: 125, places: 1 }), "{text}");
        }
        for text in ["0", "-0", "0.000", "0e999999999999999999999", "-0e-5"] {
            assert_eq!(Decimal::parse(text), Ok(Decimal { units: 0, places: 0 }), "{text}");
        }
        assert_eq!(Decimal::parse("1e3"), Ok(Decimal { units: 1_000, places: 0 }));
        assert_eq!(Decimal::parse("-0.000000000000000001"), Ok(Decimal { units: -1, places: 18 }));
        assert_eq!(Decimal::parse("-1").unwrap().sign(), Ordering::Less);
    }

    #[test]
    fn other_grammars_and_endless_numbers_are_refused() {
        for text in
            ["", "-", "+1", "01", ".5", "1.", "1e", "1e+", "0x1", " 1", "1 ", "1_0", "1,5", "NaN", "--1", "1e5.5", "١"]
        {
            assert_eq!(Decimal::parse(text), Err(DecimalError::Malformed), "{text}");
        }
        for text in [
            "1e36",
            "1e-19",
            "1e9999999999999999999999",
            "1e-9999999999999999999999",
            &"9".repeat(37),
            &"9".repeat(100_000),
        ] {
            assert_eq!(Decimal::parse(text), Err(DecimalError::TooLong), "{text}");
        }
        assert!(Decimal::parse(&"9".repeat(36)).is_ok());
        let many_zeros = format!("1{}e-{}", "0".repeat(100_000), 100_000);
        assert_eq!(Decimal::parse(&many_zeros), Ok(Decimal { units: 1, places: 0 }));
    }

    #[test]
    fn minor_units_follow_the_currency_and_nothing_is_cut_off() {
        assert_eq!(minor("USD", "12.5"), Ok(1_250));
        assert_eq!(minor("USD", "1e3"), Ok(100_000));
        assert_eq!(minor("JPY", "500"), Ok(500));
        assert_eq!(minor("KWD", "1.234"), Ok(1_234));
        assert_eq!(minor("CLF", "0.0001"), Ok(1));
        assert_eq!(minor("USD", "-12.34"), Ok(-1_234));
        assert_eq!(minor("USD", "0.000"), Ok(0));
        assert_eq!(minor("USD", "1.005"), Err(DecimalError::TooManyDecimals));
        assert_eq!(minor("JPY", "0.5"), Err(DecimalError::TooManyDecimals));
        assert_eq!(minor("USD", "92233720368547758.07"), Ok(i64::MAX));
        assert_eq!(minor("USD", "92233720368547758.08"), Err(DecimalError::Money(MoneyError::Overflow)));
        assert_eq!(minor("USD", "1e30"), Err(DecimalError::Money(MoneyError::Overflow)));
    }
}
