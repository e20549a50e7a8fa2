//! What a payload type may do to string values before anything else looks at them. Names are never touched.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One rule; a type names those that it wants, and they are applied in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rule {
    /// CRLF and CR become LF.
    LineEnds,
    /// U+0000 to U+001F but tab and LF, and U+007F, are left out.
    ControlCharacters,
}

/// Applies the rules to every string value, however deep.
pub(crate) fn sanitise(rules: &[Rule], value: &mut Value) {
    match value {
        Value::String(text) => {
            for rule in rules {
                if let Some(changed) = rule.applied_to(text) {
                    *text = changed;
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| sanitise(rules, element)),
        Value::Object(members) => members.values_mut().for_each(|member| sanitise(rules, member)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Rule {
    /// `None` where nothing changes.
    fn applied_to(self, text: &str) -> Option<String> {
        match self {
            Self::LineEnds => text.contains('\r').then(|| text.replace("\r\n", "\n").replace('\r', "\n")),
            Self::ControlCharacters => text.contains(is_removed).then(|| text.replace(is_removed, "")),
        }
    }
}

fn is_removed(character: char) -> bool {
    matches!(character, '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn control_characters_go_line_ends_become_one_and_names_stay() {
        let mut value = json!({"a\r\u{1}": ["x\r\ny\rz\n\tt\u{0}\u{1b}\u{7f}\u{80}", 1, null, {"b": "\u{c}"}]});
        sanitise(&[Rule::LineEnds, Rule::ControlCharacters], &mut value);
        assert_eq!(value, json!({"a\r\u{1}": ["x\ny\nz\n\tt\u{80}", 1, null, {"b": ""}]}));
    }

    #[test]
    fn only_the_rules_that_are_named_are_applied() {
        let mut value = json!("a\r\n\u{1}");
        sanitise(&[Rule::LineEnds], &mut value);
        assert_eq!(value, json!("a\n\u{1}"));
        sanitise(&[Rule::ControlCharacters], &mut value);
        assert_eq!(value, json!("a\n"));
        let mut untouched = json!("\u{1}");
        sanitise(&[], &mut untouched);
        assert_eq!(untouched, json!("\u{1}"));
    }
}
