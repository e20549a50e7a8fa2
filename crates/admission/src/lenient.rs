//! Reading what is almost JSON: enough to say which text is a string, and what stands where.

use std::collections::BTreeMap;

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    Outside(&'t str),
    /// A string with its quotes taken off and its escapes as they are written.
    Text {
        quote: char,
        inside: &'t str,
    },
}

/// Cuts a text into strings and what lies between. A string that does not end is no string.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((at, quote)) = rest.char_indices().find(|(_, character)| matches!(character, '"' | '\'')) {
        let inside = rest.get(at + 1..).unwrap_or_default();
        let Some(length) = end_of_string(inside, quote) else { break };
        if at > 0 {
            found.push(Piece::Outside(rest.get(..at).unwrap_or_default()));
        }
        found.push(Piece::Text { quote, inside: inside.get(..length).unwrap_or_default() });
        rest = inside.get(length + 1..).unwrap_or_default();
    }
    if !rest.is_empty() {
        found.push(Piece::Outside(rest));
    }
    found
}

fn end_of_string(inside: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, character) in inside.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ending if ending == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// A value that is no container, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// A string; escapes that JSON knows are read, others are kept as they stand.
    Text(String),
    /// A number, or a word.
    Bare(String),
}

/// The scalars of a text by where they stand: member names and indices from the outside in.
pub(crate) type Sketch = BTreeMap<Vec<String>, Scalar>;

/// What an almost-JSON text says.
pub(crate) fn sketch(text: &str) -> Sketch {
    let mut sketcher = Sketcher { open: Vec::new(), found: Sketch::new() };
    for piece in pieces(text) {
        match piece {
            Piece::Text { inside, .. } => sketcher.scalar(Scalar::Text(unescaped(inside))),
            Piece::Outside(outside) => sketcher.outside(outside),
        }
    }
    sketcher.found
}

/// Escapes of JSON but those of surrogates, which matter to nobody here.
fn unescaped(inside: &str) -> String {
    match serde_json::from_str::<String>(&format!("\"{inside}\"")) {
        Ok(read) => read,
        Err(_) => inside.to_owned(),
    }
}

struct Sketcher {
    open: Vec<Open>,
    found: Sketch,
}

enum Open {
    Object { name: Option<String> },
    Array { index: usize },
}

impl Sketcher {
    fn outside(&mut self, outside: &str) {
        let is_mark =
            |character: char| matches!(character, '{' | '}' | '[' | ']' | ',' | ':') || character.is_whitespace();
        let mut rest = outside;
        while let Some(mark) = rest.chars().next() {
            if !is_mark(mark) {
                let length = rest.find(is_mark).unwrap_or(rest.len());
                let (word, after) = rest.split_at(length);
                self.scalar(Scalar::Bare(word.to_owned()));
                rest = after;
                continue;
            }
            match mark {
                '{' => self.open.push(Open::Object { name: None }),
                '[' => self.open.push(Open::Array { index: 0 }),
                '}' | ']' => drop(self.open.pop()),
                ',' => match self.open.last_mut() {
                    Some(Open::Object { name }) => *name = None,
                    Some(Open::Array { index }) => *index += 1,
                    None => {}
                },
                _ => {}
            }
            rest = rest.get(mark.len_utf8()..).unwrap_or_default();
        }
    }

    /// In an object the first is a name and the next its value.
    fn scalar(&mut self, scalar: Scalar) {
        if let Some(Open::Object { name: name @ None }) = self.open.last_mut() {
            let (Scalar::Text(text) | Scalar::Bare(text)) = scalar;
            *name = Some(text);
            return;
        }
        let path = self.open.iter().map(|open| match open {
            Open::Object { name } => name.clone().unwrap_or_default(),
            Open::Array { index } => index.to_string(),
        });
        self.found.insert(path.collect(), scalar);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_cut_where_strings_begin_and_end() {
        let text = r#"{'a"': "b\"'", 1"#;
        let expected = [
            Piece::Outside("{"),
            Piece::Text { quote: '\'', inside: "a\"" },
            Piece::Outside(": "),
            Piece::Text { quote: '"', inside: "b\\\"'" },
            Piece::Outside(", 1"),
        ];
        assert_eq!(pieces(text), expected);
        assert_eq!(pieces("{\"open"), [Piece::Outside("{\"open")]);
    }

    #[test]
    fn a_sketch_names_every_scalar_by_its_place() {
        let found = sketch(r#"{'a': {"b": [1.50, true,], c: 'x\n\q'}, "d": "e\n",}"#);
        let path = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>();
        let expected = Sketch::from([
            (path(&["a", "b", "0"]), Scalar::Bare("1.50".into())),
            (path(&["a", "b", "1"]), Scalar::Bare("true".into())),
            (path(&["a", "c"]), Scalar::Text("x\\n\\q".into())),
            (path(&["d"]), Scalar::Text("e\n".into())),
        ]);
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn pieces_together_are_the_text(text in any::<String>()) {
            let whole: String = pieces(&text).iter().map(|piece| match piece {
                Piece::Outside(outside) => (*outside).to_owned(),
                Piece::Text { quote, inside } => format!("{quote}{inside}{quote}"),
            }).collect();
            prop_assert_eq!(whole, text);
        }
    }
}
