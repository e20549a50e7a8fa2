//! The seven rules that hold between what was sent and what a repair made of it. A repair may change how a
//! document is written, never what it says.

use std::cmp::Ordering;

use event::door::{Limits, canonicalise, push_pointer};
use serde_json::Value;

use crate::lenient::{Scalar, sketch};
use crate::tree::number_text;

/// Faults that are told.
const TOLD_MAX: usize = 3;

/// A rule that a repair broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// Stable.
    pub(crate) rule: &'static str,
    /// Where, as a JSON pointer into the repaired text.
    pub(crate) pointer: String,
}

/// What a member's name says about its value.
struct Kind {
    is_amount: bool,
    is_currency: bool,
    is_id: bool,
    is_enumeration: bool,
}

impl Kind {
    fn of(name: &str) -> Self {
        const AMOUNTS: [&str; 10] =
            ["amount", "total", "price", "fee", "tax", "cost", "sum", "balance", "discount", "charge"];
        const IDS: [&str; 5] = ["id", "uuid", "reference", "number", "code"];
        const ENUMERATIONS: [&str; 3] = ["status", "type", "payment_method"];
        let name = name.to_ascii_lowercase();
        let contains = |words: &[&str]| words.iter().any(|word| name.contains(word));
        Self {
            is_amount: contains(&AMOUNTS),
            is_currency: name.contains("currency"),
            is_id: contains(&IDS),
            is_enumeration: ENUMERATIONS.contains(&name.as_str()),
        }
    }

    /// A member that must not vanish.
    fn is_critical(&self) -> bool {
        self.is_amount || self.is_currency || self.is_id || self.is_enumeration
    }
}

/// Compares the text that was sent with the repaired document; at most three faults.
pub(crate) fn broken(original: &str, repaired: &Value) -> Vec<Broken> {
    let mut found = Vec::new();
    for (path, was) in sketch(original) {
        // An element of an array is what its array is called.
        let name = path.iter().rev().find(|step| step.parse::<usize>().is_err()).map_or("", String::as_str);
        let is = path.iter().try_fold(repaired, |value, step| match value {
            Value::Array(elements) => elements.get(step.parse::<usize>().ok()?),
            other => other.get(step),
        });
        if let Some(rule) = rule_broken(&Kind::of(name), &was, is) {
            let mut pointer = String::new();
            path.iter().for_each(|step| push_pointer(&mut pointer, step));
            found.push(Broken { rule, pointer });
        }
    }
    found.truncate(TOLD_MAX);
    found
}

fn rule_broken(kind: &Kind, was: &Scalar, is: Option<&Value>) -> Option<&'static str> {
    let Some(is) = is else { return (kind.is_critical() || looks_like_date(was)).then_some("member_removed") };
    let was_text = text_of(was);
    let is_text = match is {
        Value::String(text) => text.clone(),
        Value::Number(number) => number_text(number),
        other => other.to_string(),
    };
    let is_same = was_text == is_text && matches!(was, Scalar::Text(_)) == is.is_string();
    if is_same {
        return None;
    }
    if kind.is_currency {
        return Some("currency_changed");
    }
    if kind.is_id {
        return Some("id_changed");
    }
    if kind.is_enumeration {
        return Some("enumeration_changed");
    }
    if looks_like_date(was) && !is_date(&is_text) {
        return Some("date_lost");
    }
    match (Decimal::read(&was_text), Decimal::read(&is_text)) {
        (Some(was), Some(is)) if kind.is_amount && !was.is_kept_by(&is) => Some("amount_changed"),
        (Some(was), Some(is)) if !was.is_of_the_size_of(&is) => Some("number_changed"),
        (Some(_), None) if kind.is_amount => Some("amount_changed"),
        (Some(_), None) => Some("number_changed"),
        _ => None,
    }
}

/// A number as its canonical form, everything else as it is.
fn text_of(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Text(text) => text.clone(),
        Scalar::Bare(word) => {
            let mut canonical = Vec::new();
            match canonicalise(word.as_bytes(), &Limits::default(), &mut canonical) {
                Ok(()) => String::from_utf8_lossy(&canonical).into_owned(),
                Err(_) => word.clone(),
            }
        }
    }
}

fn looks_like_date(scalar: &Scalar) -> bool {
    matches!(scalar, Scalar::Text(text) if is_date(text))
}

/// Begins like a date of RFC 3339.
fn is_date(text: &str) -> bool {
    const SHAPE: &[u8; 10] = b"0000-00-00";
    let begins = text.as_bytes().get(..SHAPE.len());
    begins.is_some_and(|begins| {
        begins.iter().zip(SHAPE).all(|(byte, shape)| match shape {
            b'-' => byte == shape,
            _ => byte.is_ascii_digit(),
        })
    })
}

/// A decimal number, exactly: `units` times ten to the minus `decimals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimal {
    units: i128,
    decimals: i64,
}

impl Decimal {
    /// More digits than any binary64 needs are not read.
    const DIGITS_MAX: usize = 20;

    fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if digits.is_empty()
            || digits.len() + fraction.len() > Self::DIGITS_MAX
            || !are_digits(digits)
            || !are_digits(fraction)
        {
            return None;
        }
        let units = format!("{whole}{fraction}").parse().ok()?;
        Some(Self { units, decimals: i64::try_from(fraction.len()).ok()?.checked_sub(i64::from(exponent))? })
    }

    /// Both as integers of the same unit; `None` where they are too far apart for that.
    fn aligned(self, other: Self) -> Option<(i128, i128)> {
        let finest = self.decimals.max(other.decimals);
        let scaled = |number: Self| {
            let power = u32::try_from(finest.checked_sub(number.decimals)?).ok()?;
            number.units.checked_mul(10_i128.checked_pow(power)?)
        };
        Some((scaled(self)?, scaled(other)?))
    }

    /// At most one percent away, and with no fewer decimals.
    fn is_kept_by(self, other: &Self) -> bool {
        let is_near = self.aligned(*other).is_some_and(|(was, is)| {
            let away = was.checked_sub(is).and_then(i128::checked_abs).and_then(|away| away.checked_mul(100));
            away.is_some_and(|away| away <= was.unsigned_abs().cast_signed())
        });
        is_near && other.decimals.cmp(&self.decimals) != Ordering::Less
    }

    /// Of the same sign, and within a tenth and ten times.
    fn is_of_the_size_of(self, other: &Self) -> bool {
        self.aligned(*other).is_some_and(|(was, is)| {
            let (Some(ten_was), Some(ten_is)) = (was.unsigned_abs().checked_mul(10), is.unsigned_abs().checked_mul(10))
            else {
                return false;
            };
            was.signum() == is.signum() && is.unsigned_abs() <= ten_was && ten_is >= was.unsigned_abs()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rules(original: &str, repaired: &Value) -> Vec<&'static str> {
        broken(original, repaired).into_iter().map(|broken| broken.rule).collect()
    }

    #[test]
    fn what_says_the_same_breaks_nothing() {
        let original = r#"{'invoice_id': 'INV-1', "amount": 12.50, 'currency': 'EUR', "due": "2026-03-01", "n": [1e2, 3,], "type": "a\u0062",}"#;
        let repaired = json!({"invoice_id": "INV-1", "amount": 12.5, "currency": "EUR", "due": "2026-03-01", "n": [100, 3], "type": "ab"});
        assert_eq!(rules(original, &repaired), [""; 0]);
    }

    #[test]
    fn each_rule_holds() {
        for (original, repaired, rule) in [
            (r#"{"amount": 100}"#, json!({"amount": 101.5}), "amount_changed"),
            (r#"{"amount": "12.50"}"#, json!({"amount": "12.5"}), "amount_changed"),
            (r#"{"unit_price": 10}"#, json!({"unit_price": "ten"}), "amount_changed"),
            (r#"{"total_amount": 10}"#, json!({"total_amount": -10}), "amount_changed"),
            (r#"{"currency": "EUR"}"#, json!({"currency": "USD"}), "currency_changed"),
            (r#"{"invoice_id": "INV-1"}"#, json!({"invoice_id": "INV-2"}), "id_changed"),
            (r#"{"order_number": 7}"#, json!({"order_number": "7"}), "id_changed"),
            (r#"{"a": {"reference": "x"}}"#, json!({"a": {}}), "member_removed"),
            (r#"{"amount": 5}"#, json!({}), "member_removed"),
            (r#"{"quantity": 3}"#, json!({"quantity": 31}), "number_changed"),
            (r#"{"quantity": 30}"#, json!({"quantity": 2}), "number_changed"),
            (r#"{"quantity": 0}"#, json!({"quantity": 1}), "number_changed"),
            (r#"{"due": "2026-03-01"}"#, json!({"due": "March"}), "date_lost"),
            (r#"{"status": "paid"}"#, json!({"status": "open"}), "enumeration_changed"),
            (r#"{"payment_method": "card"}"#, json!({"payment_method": "cash"}), "enumeration_changed"),
        ] {
            assert_eq!(rules(original, &repaired), [rule], "{original} {repaired}");
        }
    }

    #[test]
    fn what_the_rules_leave_open_may_change() {
        for (original, repaired) in [
            (r#"{"amount": 100}"#, json!({"amount": 100.5})),
            (r#"{"quantity": 3}"#, json!({"quantity": 30})),
            (r#"{"note": "a\qb"}"#, json!({"note": "ab"})),
            (r#"{"note": "x", "due": "2026-03-01"}"#, json!({"due": "2026-03-02T00:00:00Z"})),
        ] {
            assert_eq!(rules(original, &repaired), [""; 0], "{original} {repaired}");
        }
    }

    #[test]
    fn at_most_three_are_told_and_each_names_its_place() {
        let found = broken(r#"{"x": [{"a/id": 1}, {"id": 2}, {"id": 3}, {"id": 4}]}"#, &json!({}));
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], Broken { rule: "member_removed", pointer: "/x/0/a~1id".into() });
    }
}
