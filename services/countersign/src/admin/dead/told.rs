//! The answers, for people.

use super::{Letters, Replayed, Shown};
use crate::admin::print;

impl Letters {
    /// For people.
    pub(crate) fn told(&self) -> String {
        if self.letters.is_empty() {
            return "no dead letters\n".to_owned();
        }
        let mut rows = vec![print::row(["letter", "time", "tenant", "reason", "replayed as", "detail"])];
        for letter in &self.letters {
            let (at, replayed) =
                (letter.at.as_deref().unwrap_or_default(), letter.replayed_as.as_deref().unwrap_or("-"));
            rows.push(print::row([&letter.letter, at, &letter.tenant, &letter.reason, replayed, &letter.detail]));
        }
        let mut text = print::table(&rows);
        if self.left_out > 0 {
            text.push_str(&format!("and {} more\n", self.left_out));
        }
        text
    }
}

impl Shown {
    /// For people.
    pub(crate) fn told(&self) -> String {
        let letter = &self.letter;
        let mut rows = vec![
            print::row(["letter", &letter.letter]),
            print::row(["time", letter.at.as_deref().unwrap_or("-")]),
            print::row(["tenant", &letter.tenant]),
            print::row(["reason", &letter.reason]),
            print::row(["detail", &letter.detail]),
            print::row(["source", &letter.source]),
            print::row(["record key", letter.record_key.as_deref().unwrap_or("-")]),
            print::row(["replayed as", letter.replayed_as.as_deref().unwrap_or("-")]),
        ];
        for (name, value) in &self.headers {
            rows.push(vec![format!("header {name}"), value.clone()]);
        }
        let value = self.value.as_ref().map_or_else(|| "none".to_owned(), |value| format!("{value:#}"));
        format!("{}value\n{value}\n", print::table(&rows))
    }
}

impl Replayed {
    /// For people.
    pub(crate) fn told(&self) -> String {
        let mut text = String::new();
        for (letter, at) in &self.replayed {
            text.push_str(&format!("{letter} -> {at}\n"));
        }
        text.push_str(&format!("replayed: {}, replayed before: {}\n", self.replayed.len(), self.before));
        text
    }
}
