//! Points in time as records and receipts have them: UTC, RFC 3339, exactly three decimals, `Z`
//! (docs/contracts/receipt.md section 3).
//!
//! The proleptic Gregorian calendar without leap seconds, years 0000 to 9999. The clock is somebody else's.

use serde::{Deserialize, Serialize};

const MILLIS_A_SECOND: i64 = 1_000;
const MILLIS_A_DAY: i64 = 86_400 * MILLIS_A_SECOND;
const DAYS_AN_ERA: i64 = 146_097;
const YEAR_MAX: i64 = 9_999;
/// `0000-01-01T00:00:00.000Z`.
const MILLIS_MIN: i64 = -62_167_219_200_000;
/// `9999-12-31T23:59:59.999Z`.
const MILLIS_MAX: i64 = 253_402_300_799_999;

/// A text or number that is no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTime {
    /// A time in another form, or one that the calendar does not have.
    #[error("a time is written 2026-11-21T10:00:00.123Z: UTC, three decimals")]
    Timestamp,
    /// A month in another form.
    #[error("a month is written 2026-11")]
    Month,
    /// Outside the years 0000 to 9999.
    #[error("the time is outside the years 0000 to 9999")]
    Range,
}

/// Milliseconds since the Unix epoch, within the years that RFC 3339 can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

/// A calendar month in UTC: meters and invoices are by month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: i64,
    month: i64,
}

impl Timestamp {
    /// From a record's milliseconds.
    pub fn from_millis(millis: i64) -> Result<Self, InvalidTime> {
        if (MILLIS_MIN..=MILLIS_MAX).contains(&millis) { Ok(Self(millis)) } else { Err(InvalidTime::Range) }
    }

    /// Milliseconds since the epoch, as records hold them.
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(MILLIS_A_SECOND)
    }

    /// The month that this point lies in.
    pub fn month(self) -> Month {
        let (year, month, _) = civil_from_days(self.0.div_euclid(MILLIS_A_DAY));
        Month { year, month }
    }

    /// Reads the one spelling that receipts use.
    pub fn parse(text: &str) -> Result<Self, InvalidTime> {
        let shape = b"dddd-dd-ddTdd:dd:dd.dddZ";
        let fits =
            |(byte, expected): (u8, &u8)| if *expected == b'd' { byte.is_ascii_digit() } else { byte == *expected };
        if text.len() != shape.len() || !text.bytes().zip(shape).all(fits) {
            return Err(InvalidTime::Timestamp);
        }
        let field = |at: std::ops::Range<usize>| text.get(at).and_then(|digits| digits.parse::<i64>().ok());
        let read = || {
            let (year, month, day) = (field(0..4)?, field(5..7)?, field(8..10)?);
            let (hour, minute, second) = (field(11..13)?, field(14..16)?, field(17..19)?);
            let on_the_clock = hour < 24 && minute < 60 && second < 60;
            let on_the_calendar = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
            let seconds = (days_from_civil(year, month, day) * 24 + hour) * 3_600 + minute * 60 + second;
            (on_the_clock && on_the_calendar).then_some(seconds * MILLIS_A_SECOND + field(20..23)?)
        };
        read().map(Self).ok_or(InvalidTime::Timestamp)
    }
}

impl Month {
    /// Reads `2026-11`.
    pub fn parse(text: &str) -> Result<Self, InvalidTime> {
        let first_instant = format!("{text}-01T00:00:00.000Z");
        Timestamp::parse(&first_instant).map(Timestamp::month).map_err(|_| InvalidTime::Month)
    }

    /// The first instant of the month: months are half-open windows.
    pub fn start(self) -> Timestamp {
        Timestamp(days_from_civil(self.year, self.month, 1) * MILLIS_A_DAY)
    }

    /// The month after this one; none after 9999-12.
    pub fn next(self) -> Option<Self> {
        match self {
            Self { year: YEAR_MAX, month: 12 } => None,
            Self { year, month: 12 } => Some(Self { year: year + 1, month: 1 }),
            Self { year, month } => Some(Self { year, month: month + 1 }),
        }
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = civil_from_days(self.0.div_euclid(MILLIS_A_DAY));
        let of_day = self.0.rem_euclid(MILLIS_A_DAY);
        let (seconds, millis) = (of_day / MILLIS_A_SECOND, of_day % MILLIS_A_SECOND);
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// Days since the epoch of a date. Years are counted from 1 March, so that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * DAYS_AN_ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date (year, month, day) so many days after the epoch.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(DAYS_AN_ERA), days.rem_euclid(DAYS_AN_ERA));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl std::str::FromStr for $name {
            type Err = InvalidTime;
            fn from_str(text: &str) -> Result<Self, InvalidTime> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidTime;
            fn try_from(text: String) -> Result<Self, InvalidTime> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(time: $name) -> String {
                time.to_string()
            }
        }
    };
}

as_text!(Timestamp);
as_text!(Month);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_are_written_and_read() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (1_795_255_200_123, "2026-11-21T10:00:00.123Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (MILLIS_MIN, "0000-01-01T00:00:00.000Z"),
            (MILLIS_MAX, "9999-12-31T23:59:59.999Z"),
        ];
        for (millis, text) in cases {
            assert_eq!(Timestamp::from_millis(millis).unwrap().to_string(), text);
            assert_eq!(Timestamp::parse(text).unwrap().as_millis(), millis);
        }
        assert_eq!(Timestamp::from_millis(MILLIS_MAX + 1), Err(InvalidTime::Range));
        assert_eq!(Timestamp::from_millis(MILLIS_MIN - 1), Err(InvalidTime::Range));
    }

    #[test]
    fn other_spellings_and_impossible_dates_are_refused() {
        let bad = [
            "2026-11-21T10:00:00Z",
            "2026-11-21T10:00:00.12Z",
            "2026-11-21T10:00:00.1234Z",
            "2026-11-21t10:00:00.123z",
            "2026-11-21T10:00:00.123+00:00",
            "2026-11-21 10:00:00.123Z",
            "2026-02-29T10:00:00.123Z",
            "1900-02-29T10:00:00.123Z",
            "2026-13-01T10:00:00.123Z",
            "2026-00-01T10:00:00.123Z",
            "2026-01-00T10:00:00.123Z",
            "2026-11-21T24:00:00.000Z",
            "2026-11-21T23:59:60.000Z",
            "+026-11-21T10:00:00.123Z",
            "2026-11-21T10:00:00.12éZ",
        ];
        for text in bad {
            assert_eq!(Timestamp::parse(text), Err(InvalidTime::Timestamp), "{text}");
        }
    }

    #[test]
    fn a_month_knows_its_start_and_its_successor() {
        let month = Month::parse("2026-12").unwrap();
        assert_eq!(month.start().to_string(), "2026-12-01T00:00:00.000Z");
        assert_eq!(month.next().unwrap().to_string(), "2027-01");
        assert_eq!(Month::parse("9999-12").unwrap().next(), None);
        for bad in ["2026-13", "2026-1", "26-01", "2026-11-21"] {
            assert_eq!(Month::parse(bad), Err(InvalidTime::Month), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_instant_comes_back_and_lies_in_its_month(millis in MILLIS_MIN..=MILLIS_MAX) {
            let instant = Timestamp::from_millis(millis).unwrap();
            prop_assert_eq!(Timestamp::parse(&instant.to_string()), Ok(instant));
            prop_assert!(instant.month().start() <= instant);
            prop_assert!(instant.month().next().is_none_or(|next| instant < next.start()));
        }
    }
}
