//! Where a type says that strings hold JSON: a JSON pointer in which `*` stands for every element of an array or object.

use event::door::push_pointer;
use serde_json::Value;

/// A text that is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a path is a JSON pointer like /tool_calls/*/arguments: it begins with / and escapes ~ and / as ~0 and ~1")]
pub(crate) struct PathError;

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Every,
    Named(String),
}

impl Path {
    pub(crate) fn parse(text: &str) -> Result<Self, PathError> {
        let steps = text.strip_prefix('/').ok_or(PathError)?;
        let step = |text: &str| match text {
            "*" => Ok(Step::Every),
            text if text.replace("~0", "").replace("~1", "").contains('~') => Err(PathError),
            text => Ok(Step::Named(text.replace("~1", "/").replace("~0", "~"))),
        };
        steps.split('/').map(step).collect::<Result<_, _>>().map(Self)
    }

    /// The pointers of what lies there, in the order of the document.
    pub(crate) fn find(&self, document: &Value) -> Vec<String> {
        let mut found = vec![(String::new(), document)];
        for step in &self.0 {
            found = found.into_iter().flat_map(|(pointer, value)| below(step, &pointer, value)).collect();
        }
        found.into_iter().map(|(pointer, _)| pointer).collect()
    }
}

fn below<'v>(step: &Step, pointer: &str, value: &'v Value) -> Vec<(String, &'v Value)> {
    let to = |name: &str| {
        let mut pointer = pointer.to_owned();
        push_pointer(&mut pointer, name);
        pointer
    };
    match (step, value) {
        (Step::Every, Value::Array(elements)) => {
            elements.iter().enumerate().map(|(index, element)| (to(&index.to_string()), element)).collect()
        }
        (Step::Every, Value::Object(members)) => members.iter().map(|(name, member)| (to(name), member)).collect(),
        (Step::Named(name), value) => {
            let mut pointer = String::new();
            push_pointer(&mut pointer, name);
            value.pointer(&pointer).map(|found| (to(name), found)).into_iter().collect()
        }
        (Step::Every, _) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_finds_every_place_that_it_names() {
        let document = json!({"a": [{"b~/": "x"}, {"b~/": "y"}, 1], "c": {"d": {"b~/": 1}}, "0": ["z"]});
        let find = |path: &str| Path::parse(path).unwrap().find(&document);
        assert_eq!(find("/a/*/b~0~1"), ["/a/0/b~0~1", "/a/1/b~0~1"]);
        assert_eq!(find("/a/1/b~0~1"), ["/a/1/b~0~1"]);
        assert_eq!(find("/c/*/*"), ["/c/d/b~0~1"]);
        assert_eq!(find("/0/0"), ["/0/0"]);
        assert_eq!(find("/nowhere/*"), [""; 0]);
    }

    #[test]
    fn other_texts_are_no_paths() {
        for bad in ["", "a", "a/b", "/a~b", "/a~2"] {
            assert_eq!(Path::parse(bad), Err(PathError), "{bad}");
        }
    }
}
