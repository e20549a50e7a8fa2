//! What kind of document was given, and where its receipts stand in its canonical form.

use std::ops::Range;

use event::door::{DoorCode, Limits, Refusal, canonicalise, elements, has_member};

use crate::bundle::BundleText;
use crate::exact::Exact;
use crate::jws::Detached;
use crate::verdict::{Code, Failure, check};

/// Whether the receipts claim to be neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Alone,
    /// All of one chain.
    InChain,
    /// Each of some chain.
    InStream,
}

/// A document that passed the JSON door, or lines that have yet to.
pub(crate) struct Document {
    /// Canonical, but for lines.
    text: Vec<u8>,
    pub(crate) place: Place,
    /// In `text`.
    pub(crate) receipts: Vec<Range<usize>>,
    /// In `text`, where it is a bundle.
    pub(crate) bundle: Option<Range<usize>>,
}

/// Depth is bounded as for payloads; the size is that of what the caller holds already.
pub(crate) const LIMITS: Limits = Limits { depth_max: 64, canonical_bytes_max: usize::MAX };
/// Members that tell a bundle from a receipt.
const BUNDLE_ONLY: [&str; 4] = ["receipts", "bundle_cid", "exported_at", "keys"];

impl Document {
    /// Finds out what it is. A failure names the receipt where the place tells which.
    pub(crate) fn read(document: &[u8]) -> Result<Self, (Option<usize>, Failure)> {
        if is_lines(document) {
            return Ok(Self::read_lines(document));
        }
        let mut canonical = Vec::new();
        canonicalise(document, &LIMITS, &mut canonical)
            .map_err(|refusal| (receipt_of(document, &refusal), refused(&refusal)))?;
        let whole = 0..canonical.len();
        let shape = |detail| (None, Failure::new(Code::Malformed, check::SHAPE, detail));
        match canonical.first() {
            Some(b'{') if is_bundle(&canonical) => {
                let receipts = receipts_of_bundle(&canonical).map_err(|failure| (None, failure))?;
                Ok(Self { text: canonical, place: Place::InChain, receipts, bundle: Some(whole) })
            }
            Some(b'{') => Ok(Self { text: canonical, place: Place::Alone, receipts: vec![whole], bundle: None }),
            Some(b'[') => {
                let receipts = elements(&canonical).map_err(|refusal| (None, refused(&refusal)))?;
                if receipts.is_empty() {
                    return Err(shape("the chain has no receipts"));
                }
                Ok(Self { text: canonical, place: Place::InChain, receipts, bundle: None })
            }
            _ => Err(shape("the document is no receipt, no chain and no bundle")),
        }
    }

    /// Each line is a document of its own, judged where it stands.
    fn read_lines(document: &[u8]) -> Self {
        let (mut text, mut receipts) = (Vec::with_capacity(document.len()), Vec::new());
        for line in lines(document) {
            let start = text.len();
            text.extend_from_slice(line);
            receipts.push(start..text.len());
        }
        Self { text, place: Place::InStream, receipts, bundle: None }
    }

    /// The text of each receipt.
    pub(crate) fn receipt_texts(&self) -> impl Iterator<Item = &[u8]> {
        self.receipts.iter().map(|range| self.text.get(range.clone()).unwrap_or(&[]))
    }

    /// The bundle's own members, its jws header checked; none where it is no bundle.
    pub(crate) fn read_bundle(&self) -> Result<Option<(BundleText, Exact<'_>, Detached)>, Failure> {
        let Some(canonical) = self.bundle.clone().and_then(|range| self.text.get(range)) else { return Ok(None) };
        let (text, exact) = BundleText::from_canonical(canonical)?;
        let jws = text.jws()?;
        Ok(Some((text, exact, jws)))
    }
}

pub(crate) fn refused(refusal: &Refusal) -> Failure {
    let check = if refusal.code == DoorCode::Malformed { check::SYNTAX } else { check::DOOR };
    Failure::new(Code::Malformed, check, refusal.to_string())
}

/// Lines that are not blank, without white space around them.
fn lines(document: &[u8]) -> impl Iterator<Item = &[u8]> {
    document.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

/// JSON lines: more than one, and the first is an object by itself. Of a document laid out over lines it is not.
fn is_lines(document: &[u8]) -> bool {
    let mut lines = lines(document);
    let (Some(first), Some(_)) = (lines.next(), lines.next()) else { return false };
    is_line(first)
}

/// Whether this, the first line of several, is an object by itself, so that what follows are lines too.
pub fn is_line(first: &[u8]) -> bool {
    let first = first.trim_ascii();
    let outcome = canonicalise(first, &LIMITS, &mut Vec::new());
    first.starts_with(b"{") && outcome.map_or_else(|refusal| refusal.code != DoorCode::Malformed, |()| true)
}

fn is_bundle(document: &[u8]) -> bool {
    has_member(document, &BUNDLE_ONLY)
}

/// Where the receipts of a bundle stand. A bundle without the member is told so when its members are read.
fn receipts_of_bundle(canonical: &[u8]) -> Result<Vec<Range<usize>>, Failure> {
    let (_, exact) = BundleText::from_canonical(canonical)?;
    let at = exact.range("receipts");
    let receipts = elements(exact.value("receipts")).map_err(|refusal| refused(&refusal))?;
    if receipts.is_empty() {
        return Err(Failure::malformed("the bundle has no receipts"));
    }
    Ok(receipts.into_iter().map(|range| at.start + range.start..at.start + range.end).collect())
}

/// Which receipt a refusal at the door lies in.
fn receipt_of(document: &[u8], refusal: &Refusal) -> Option<usize> {
    if refusal.code == DoorCode::Malformed {
        return None;
    }
    let mut steps = refusal.pointer.split('/').skip(1);
    let first = steps.next();
    match document.trim_ascii_start().first() {
        Some(b'[') => first?.parse().ok(),
        Some(b'{') if first == Some("receipts") => steps.next()?.parse().ok(),
        Some(b'{') if first.is_some_and(|name| BUNDLE_ONLY.contains(&name)) || is_bundle(document) => None,
        Some(b'{') => Some(0),
        _ => None,
    }
}
