//! Objects of canonical text that must have exactly the members that docs/contracts/receipt.md lists, and what remains
//! without some.

use std::ops::Range;

use event::door;

use crate::verdict::{Code, Failure, check};

/// The members of one object in canonical text.
pub(crate) struct Exact<'a> {
    canonical: &'a [u8],
    members: Vec<(String, Range<usize>)>,
}

impl<'a> Exact<'a> {
    /// `what` is named in the detail; `expected` are the names, all of them required.
    pub(crate) fn read(canonical: &'a [u8], what: &str, expected: &[&str]) -> Result<Self, Failure> {
        let members = door::members(canonical).map_err(|_| Failure::malformed(format!("{what} is not an object")))?;
        if let Some((name, _)) = members.iter().find(|(name, _)| !expected.contains(&name.as_str())) {
            let detail = format!("{what} has a member {name:?} that version 1 does not have");
            return Err(Failure::new(Code::UnknownMember, check::MEMBERS, detail));
        }
        if let Some(name) = expected.iter().find(|name| !members.iter().any(|(found, _)| found == *name)) {
            let detail = format!("{what} lacks the member {name:?}");
            return Err(Failure::new(Code::MissingMember, check::MEMBERS, detail));
        }
        Ok(Self { canonical, members })
    }

    /// Where a member's value stands.
    pub(crate) fn range(&self, name: &str) -> Range<usize> {
        self.members.iter().find(|(found, _)| found == name).map_or(0..0, |(_, range)| range.clone())
    }

    /// A member's value.
    pub(crate) fn value(&self, name: &str) -> &'a [u8] {
        self.canonical.get(self.range(name)).unwrap_or(&[])
    }

    /// The canonical form of the object without these members: cut out, not written anew.
    pub(crate) fn without(&self, left_out: &[&str]) -> Vec<u8> {
        let mut kept = vec![b'{'];
        // Each member begins after the bracket or the comma that follows the one before.
        let mut start = 1;
        for (name, range) in &self.members {
            if !left_out.contains(&name.as_str()) {
                if kept.len() > 1 {
                    kept.push(b',');
                }
                kept.extend_from_slice(self.canonical.get(start..range.end).unwrap_or(&[]));
            }
            start = range.end + 1;
        }
        kept.push(b'}');
        kept
    }
}
