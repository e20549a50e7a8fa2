//! What a tenant pays a payee: integer minor units of a currency (docs/contracts/receipt.md section 3).

use serde::{Deserialize, Serialize};

use crate::canonical::write_string;
use crate::id::Payee;

/// A money value that breaks its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmount {
    /// Not three upper-case letters.
    #[error("a currency is three upper-case letters")]
    Currency,
    /// Not a whole number of minor units in its one spelling.
    #[error("minor units are written 0 or [1-9][0-9]*, at most 9223372036854775807")]
    Minor,
}

/// An ISO 4217 code by its form; whether there is a schedule for it is the tariff's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// Minor units, 0 to 2^63-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Minor(i64);

/// What is paid by the tenant to a payee.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amount {
    pub currency: Currency,
    pub minor: Minor,
    pub payee: Payee,
}

impl Amount {
    /// Appends the canonical form: `{"currency":"USD","minor":"1250","payee":"agent-7"}`.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"currency\":");
        write_string(self.currency.as_str(), out);
        out.extend_from_slice(b",\"minor\":");
        write_string(&self.minor.to_string(), out);
        out.extend_from_slice(b",\"payee\":");
        write_string(self.payee.as_str(), out);
        out.push(b'}');
    }
}

impl Currency {
    /// Reads a code; lower case is refused, not folded (features.md line 15).
    pub fn parse(text: &str) -> Result<Self, InvalidAmount> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(InvalidAmount::Currency),
        }
    }

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl Minor {
    /// From a ledger's or a record's number; negative ones are refused.
    pub fn new(units: i64) -> Result<Self, InvalidAmount> {
        if units >= 0 { Ok(Self(units)) } else { Err(InvalidAmount::Minor) }
    }

    /// The number of minor units, never negative.
    pub fn get(self) -> i64 {
        self.0
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, InvalidAmount> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || (text.len() > 1 && text.starts_with('0')) {
            return Err(InvalidAmount::Minor);
        }
        text.parse().map(Self).map_err(|_| InvalidAmount::Minor)
    }
}

impl std::fmt::Display for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for Minor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl std::str::FromStr for $name {
            type Err = InvalidAmount;
            fn from_str(text: &str) -> Result<Self, InvalidAmount> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidAmount;
            fn try_from(text: String) -> Result<Self, InvalidAmount> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    };
}

as_text!(Currency);
as_text!(Minor);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_units_have_one_spelling_each() {
        assert_eq!(Minor::parse("0").unwrap().get(), 0);
        assert_eq!(Minor::parse("9223372036854775807").unwrap().get(), i64::MAX);
        for bad in ["", "-1", "+1", "01", "00", "1.0", "1e3", " 1", "9223372036854775808", "١"] {
            assert_eq!(Minor::parse(bad), Err(InvalidAmount::Minor), "{bad}");
        }
        assert_eq!(Minor::new(-1), Err(InvalidAmount::Minor));
    }

    #[test]
    fn currencies_are_three_upper_case_letters() {
        assert_eq!(Currency::parse("EUR").unwrap().to_string(), "EUR");
        for bad in ["", "EU", "EURO", "eur", "EU1", "ÄÖ"] {
            assert_eq!(Currency::parse(bad), Err(InvalidAmount::Currency), "{bad}");
        }
    }

    #[test]
    fn the_canonical_form_is_the_json_form_and_unknown_members_are_refused() {
        let text = r#"{"currency":"USD","minor":"1250","payee":"agent-7"}"#;
        let amount: Amount = serde_json::from_str(text).unwrap();
        let mut canonical = Vec::new();
        amount.write_canonical(&mut canonical);
        assert_eq!(canonical, text.as_bytes());
        assert_eq!(serde_json::to_string(&amount).unwrap(), text);
        assert!(serde_json::from_str::<Amount>(r#"{"currency":"USD","minor":1250,"payee":"a"}"#).is_err());
        assert!(serde_json::from_str::<Amount>(r#"{"currency":"USD","minor":"1","payee":"a","x":1}"#).is_err());
    }
}
