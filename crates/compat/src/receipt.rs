//! The older receipt, whose `canon` is the text of the payload (S-43).

use event::canonical::write_string;
use event::digest::{Digest, digest_of};
use event::door::{Limits, canonicalise, members};

use crate::recipe::{Hashed, Refusal};

/// What is computed here, and so not covered by itself.
const RECEIPT_HASH: &str = "receipt_hash";
/// The payload's canonical form, as a text.
const CANON: &str = "canon";

/// `receipt_hash` over the canonical form of every other member, and `cid` of the text in `canon`.
pub(crate) fn hash(input: &[u8]) -> Result<Hashed, Refusal> {
    let mut canonical = Vec::new();
    canonicalise(input, &Limits::default(), &mut canonical).map_err(Refusal::Document)?;
    let members = members(&canonical).map_err(|_| Refusal::input("", "a receipt is an object"))?;
    let mut preimage = vec![b'{'];
    let mut cid = None;
    for (name, range) in &members {
        let value = canonical.get(range.clone()).unwrap_or_default();
        if name == CANON {
            let text: String = serde_json::from_slice(value).map_err(|_| Refusal::input("/canon", "a text"))?;
            cid = Some(digest_of(text.as_bytes()));
        }
        if name == RECEIPT_HASH {
            continue;
        }
        if preimage.len() > 1 {
            preimage.push(b',');
        }
        write_string(name, &mut preimage);
        preimage.push(b':');
        preimage.extend_from_slice(value);
    }
    preimage.push(b'}');
    let cid: Digest = cid.ok_or_else(|| Refusal::input("/canon", "the member is missing"))?;
    let hash = digest_of(&preimage).to_string();
    let preimage = String::from_utf8_lossy(&preimage).into_owned();
    Ok(Hashed { hash, preimage, cid: Some(cid) })
}
