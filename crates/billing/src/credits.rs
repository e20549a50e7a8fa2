//! Compute credits: what a node's work is worth.

use std::cmp::Ordering;
use std::fmt;

use crate::decimal::Decimal;
use crate::money::{MoneyError, round_half_up};

/// How long the benchmark takes on the hardware that counts as one.
const BASELINE_SECONDS: i128 = 35;
/// However fast a node is, it earns no more than so many times its time.
const MULTIPLIER_MAX: i128 = 20;
/// Two decimals.
const HUNDREDTHS: i128 = 100;

/// How many times its time a node earns, with two decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Multiplier {
    hundredths: i128,
}

/// Why there are no credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditsError {
    #[error("a duration is above zero")]
    NotPositive,
    #[error("the credits cannot be computed")]
    Money(#[source] MoneyError),
}

impl Multiplier {
    /// `min(35 s / benchmark, 20)`, rounded half up to two decimals.
    ///
    /// # Errors
    /// `NotPositive` for a benchmark that took no time.
    pub fn of_benchmark(seconds: Decimal) -> Result<Self, CreditsError> {
        let (numerator, denominator) = positive(seconds)?;
        let times = BASELINE_SECONDS.checked_mul(HUNDREDTHS).and_then(|times| times.checked_mul(denominator));
        let times = times.ok_or(MoneyError::Overflow).and_then(|times| round_half_up(times, numerator));
        let hundredths = times.map_err(CreditsError::Money)?.min(MULTIPLIER_MAX.saturating_mul(HUNDREDTHS));
        Ok(Self { hundredths })
    }

    /// `floor(duration x multiplier)`.
    ///
    /// # Errors
    /// `NotPositive` for a job that took no time, `Money` where the credits do not fit 64 bits.
    pub fn credits(self, duration_seconds: Decimal) -> Result<i64, CreditsError> {
        let (numerator, denominator) = positive(duration_seconds)?;
        let credits = numerator.checked_mul(self.hundredths).zip(denominator.checked_mul(HUNDREDTHS));
        let credits = credits.and_then(|(worth, whole)| worth.checked_div(whole));
        let credits = credits.and_then(|credits| i64::try_from(credits).ok());
        credits.ok_or(CreditsError::Money(MoneyError::Overflow))
    }
}

fn positive(seconds: Decimal) -> Result<(i128, i128), CreditsError> {
    if seconds.sign() != Ordering::Greater {
        return Err(CreditsError::NotPositive);
    }
    seconds.fraction().ok_or(CreditsError::Money(MoneyError::Overflow))
}

impl fmt::Display for Multiplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.hundredths.checked_div(HUNDREDTHS), self.hundredths.checked_rem(HUNDREDTHS));
        write!(f, "{}.{:02}", whole.unwrap_or_default(), rest.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multiplier(seconds: &str) -> Multiplier {
        Multiplier::of_benchmark(Decimal::parse(seconds).unwrap()).unwrap()
    }

    fn credits(benchmark: &str, duration: &str) -> Result<i64, CreditsError> {
        multiplier(benchmark).credits(Decimal::parse(duration).unwrap())
    }

    #[test]
    fn the_tested_multipliers_come_out() {
        // T-13.
        let cases = [
            ("35", "1.00"),
            ("17.5", "2.00"),
            ("70", "0.50"),
            ("3", "11.67"),
            ("6", "5.83"),
            ("1", "20.00"),
            ("3500", "0.01"),
            ("1.75", "20.00"),
            ("0.000000000000000001", "20.00"),
            ("7000", "0.01"),
            ("7000.1", "0.00"),
            ("999999999999999999999999999999", "0.00"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(multiplier(seconds).to_string(), expected, "{seconds}");
        }
    }

    #[test]
    fn credits_are_whole_and_rounded_down() {
        // T-12.
        assert_eq!(credits("17.5", "120"), Ok(240));
        assert_eq!(credits("3", "10"), Ok(116));
        assert_eq!(credits("70", "7"), Ok(3));
        assert_eq!(credits("70", "1"), Ok(0));
        assert_eq!(credits("35", "0.999999999999999999"), Ok(0));
        assert_eq!(credits("35", "9223372036854775807"), Ok(i64::MAX));
    }

    #[test]
    fn what_took_no_time_earns_nothing() {
        for seconds in ["0", "-1", "-0.5", "0.0"] {
            let seconds = Decimal::parse(seconds).unwrap();
            assert_eq!(Multiplier::of_benchmark(seconds), Err(CreditsError::NotPositive));
            assert_eq!(multiplier("35").credits(seconds), Err(CreditsError::NotPositive));
        }
        assert_eq!(credits("35", "9223372036854775808"), Err(CreditsError::Money(MoneyError::Overflow)));
        assert_eq!(credits("1", &"9".repeat(36)), Err(CreditsError::Money(MoneyError::Overflow)));
    }
}
