//! Amounts with two decimals, as `str(Decimal(value).quantize(Decimal("0.01")))` makes them: to the nearest, an exact
//! half to the even neighbour, at most 28 digits.

use crate::python::Value;

/// Digits that Python's decimals keep.
const DIGITS_MAX: usize = 28;

/// The amount's text; `None` for what is no amount, or has too many digits.
pub(crate) fn two_decimals(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => of_text(text),
        Value::Int(digits) => of_text(digits),
        Value::Bool(truth) => Some(if *truth { "1.00" } else { "0.00" }.to_owned()),
        Value::Float(number) => of_float(*number),
        Value::None | Value::List(_) | Value::Dict(_) => None,
    }
}

/// Python reads `" +1_000.5e1 "` too.
fn of_text(text: &str) -> Option<String> {
    let text = text.trim().replace('_', "");
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(&text)),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The hundredths end so many digits after the first.
    let whole_digits = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let kept = whole_digits.checked_add(2)?;
    let cents = if digits.bytes().all(|digit| digit == b'0') { 0 } else { rounded(&digits, kept)? };
    text_of(sign, cents)
}

/// The first `kept` digits, rounded by those behind them.
fn rounded(digits: &str, kept: i64) -> Option<u128> {
    let digits = digits.as_bytes();
    let Ok(kept) = usize::try_from(kept) else {
        // Everything stands behind at least one zero that is cut off: less than a half.
        return Some(0);
    };
    let zeros = kept.saturating_sub(digits.len());
    let (head, tail) = digits.split_at_checked(kept).unwrap_or((digits, &[]));
    let significant = head.iter().skip_while(|digit| **digit == b'0').count();
    if significant > 0 && significant.saturating_add(zeros) > DIGITS_MAX {
        return None;
    }
    let mut units: u128 = 0;
    for digit in head.iter().copied().chain(std::iter::repeat_n(b'0', if significant > 0 { zeros } else { 0 })) {
        units = units.checked_mul(10)?.checked_add(u128::from(digit - b'0'))?;
    }
    let is_up = match tail.split_first() {
        None | Some((b'0'..=b'4', _)) => false,
        Some((b'5', rest)) if rest.iter().all(|digit| *digit == b'0') => units % 2 == 1,
        Some(_) => true,
    };
    units.checked_add(u128::from(is_up))
}

/// A float is the binary fraction that it is: 0.285 lies below 0.285.
fn of_float(number: f64) -> Option<String> {
    let bits = number.to_bits();
    let sign = if bits >> 63 == 1 { "-" } else { "" };
    let (raw_exponent, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
    if raw_exponent == 0x7ff {
        return None;
    }
    let mantissa = if raw_exponent == 0 { fraction } else { fraction | 1 << 52 };
    // The number is mantissa x 2^exponent.
    let exponent = i64::try_from(raw_exponent.max(1)).ok()? - 1_075;
    let hundredfold = u128::from(mantissa) * 100;
    let cents = match u32::try_from(exponent) {
        Ok(up) if mantissa == 0 || up > hundredfold.leading_zeros() => (mantissa == 0).then_some(0)?,
        Ok(up) => hundredfold << up,
        Err(_) => {
            let down = u32::try_from(-exponent).ok()?;
            // Below 2^60, and divided by more than twice that: less than a half.
            if down > 62 { 0 } else { halves_to_even(hundredfold, down) }
        }
    };
    text_of(sign, cents)
}

fn halves_to_even(number: u128, down: u32) -> u128 {
    let (whole, rest) = (number >> down, number & ((1 << down) - 1));
    let half = 1_u128 << (down - 1);
    whole + u128::from(rest > half || (rest == half && whole % 2 == 1))
}

fn text_of(sign: &str, cents: u128) -> Option<String> {
    let is_kept = cents < 10_u128.pow(u32::try_from(DIGITS_MAX).ok()?);
    is_kept.then(|| format!("{sign}{}.{:02}", cents / 100, cents % 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Option<String> {
        two_decimals(&Value::read(json.as_bytes()).unwrap())
    }

    #[test]
    fn amounts_are_rounded_as_python_rounds_them() {
        // Computed with CPython's decimal module.
        let cases = [
            (r#""0""#, "0.00"),
            (r#""96.920""#, "96.92"),
            (r#""0.005""#, "0.00"),
            (r#""0.015""#, "0.02"),
            (r#""0.025""#, "0.02"),
            (r#""0.0250000000000000000000000000000000000001""#, "0.03"),
            (r#""-0.001""#, "-0.00"),
            (r#""-0""#, "-0.00"),
            (r#""1e3""#, "1000.00"),
            (r#""1E-3""#, "0.00"),
            (r#""1e-999999""#, "0.00"),
            (r#""0e100""#, "0.00"),
            (r#"" +1_000.5 ""#, "1000.50"),
            (r#"".5""#, "0.50"),
            (r#""5.""#, "5.00"),
            (r#""00012.345""#, "12.34"),
            (r#""99999999999999999999999999.994""#, "99999999999999999999999999.99"),
            ("0", "0.00"),
            ("-0", "0.00"),
            ("100", "100.00"),
            ("99999999999999999999999999", "99999999999999999999999999.00"),
            ("true", "1.00"),
            ("0.285", "0.28"),
            ("0.125", "0.12"),
            ("0.375", "0.38"),
            ("2.675", "2.67"),
            ("1.005", "1.00"),
            ("100.0", "100.00"),
            ("-0.0", "-0.00"),
            ("-12.345", "-12.35"),
            ("1e20", "100000000000000000000.00"),
            ("5e-324", "0.00"),
            ("1e-18", "0.00"),
        ];
        for (json, expected) in cases {
            assert_eq!(of(json).as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn what_python_cannot_make_an_amount_of_is_refused() {
        let none = [
            r#""""#,
            r#""abc""#,
            r#""1,5""#,
            r#""1e""#,
            r#""--1""#,
            r#"".""#,
            r#""NaN""#,
            r#""Infinity""#,
            "null",
            "[]",
            "{}",
            r#""1e26""#,
            "1e300",
            "1e27",
            "100000000000000000000000000",
            r#""99999999999999999999999999.995""#,
            r#""1e99999999999999999999""#,
        ];
        for json in none {
            assert_eq!(of(json), None, "{json}");
        }
    }
}
