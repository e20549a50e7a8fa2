//! ISO 4217: which codes exist and how many digits their minor unit has.

use std::fmt;

/// A currency that has a minor unit: three upper-case letters of ISO 4217.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: &'static str,
    exponent: u8,
}

/// Why a code is no currency that an amount can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CurrencyError {
    /// Not in the list (the code must be upper case).
    #[error("not a code of ISO 4217")]
    Unknown,
    /// Gold, drawing rights, test codes: an integer amount of them means nothing.
    #[error("this code of ISO 4217 has no minor unit")]
    NoMinorUnit,
}

impl Currency {
    /// Looks a code up.
    ///
    /// # Errors
    /// `Unknown` for codes that are not in the list, `NoMinorUnit` for those that cannot carry an amount.
    pub fn of(code: &str) -> Result<Self, CurrencyError> {
        for (exponent, codes) in WITH_MINOR_UNIT {
            if let Some(known) = codes.split_ascii_whitespace().find(|known| *known == code) {
                return Ok(Self { code: known, exponent: *exponent });
            }
        }
        if WITHOUT_MINOR_UNIT.split_ascii_whitespace().any(|known| known == code) {
            Err(CurrencyError::NoMinorUnit)
        } else {
            Err(CurrencyError::Unknown)
        }
    }

    /// The three letters.
    pub const fn code(self) -> &'static str {
        self.code
    }

    /// Digits of the minor unit: 2 for USD, 0 for JPY, 3 for KWD.
    pub const fn exponent(self) -> u8 {
        self.exponent
    }

    /// Every currency with a minor unit.
    pub fn all() -> impl Iterator<Item = Self> {
        WITH_MINOR_UNIT
            .iter()
            .flat_map(|(exponent, codes)| codes.split_ascii_whitespace().map(|code| Self { code, exponent: *exponent }))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

/// ISO 4217 list one as of January 2026, by digits of the minor unit. The commonest comes first: it is searched in order.
const WITH_MINOR_UNIT: &[(u8, &str)] = &[
    (
        2,
        "USD EUR GBP \
         AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW \
         CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB FJD FKP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS \
         INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV \
         MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS \
         SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW \
         ZWG",
    ),
    (0, "JPY BIF CLP DJF GNF ISK KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

const WITHOUT_MINOR_UNIT: &str = "XAG XAU XBA XBB XBC XBD XDR XPD XPT XSU XTS XUA XXX";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_are_those_of_the_list() {
        for (code, exponent) in [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("ISK", 0), ("UGX", 0)] {
            assert_eq!(Currency::of(code).map(Currency::exponent), Ok(exponent), "{code}");
        }
    }

    #[test]
    fn codes_without_a_minor_unit_are_refused() {
        assert_eq!(Currency::of("XAU"), Err(CurrencyError::NoMinorUnit));
        assert_eq!(Currency::of("XXX"), Err(CurrencyError::NoMinorUnit));
    }

    #[test]
    fn other_text_is_no_currency() {
        for code in ["", "usd", "US", "USDX", "ABC", " USD", "USD EUR"] {
            assert_eq!(Currency::of(code), Err(CurrencyError::Unknown), "{code:?}");
        }
    }

    #[test]
    fn every_code_is_listed_once() {
        let mut codes: Vec<&str> = Currency::all().map(Currency::code).collect();
        codes.extend(WITHOUT_MINOR_UNIT.split_ascii_whitespace());
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
        assert!(codes.iter().all(|code| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())));
        assert!(count > 170, "{count}");
    }
}
