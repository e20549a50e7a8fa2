//! SHA-256 digests and their one text form: `sha256:` and 64 lower-case hex digits (docs/contracts/receipt.md section 2).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "sha256:";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// A SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

/// A text that is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is sha256: and 64 lower-case hex digits")]
pub struct InvalidDigest;

/// The digest of some bytes; of canonical bytes it is their `cid`.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

impl Digest {
    /// Length of the text form.
    pub const TEXT_BYTES: usize = PREFIX.len() + 64;

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the text form; upper-case hex is refused, for a digest has one spelling.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let hex = text.strip_prefix(PREFIX).ok_or(InvalidDigest)?.as_bytes();
        let mut bytes = [0; 32];
        let (pairs, rest) = hex.as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(InvalidDigest);
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(hex: u8) -> Result<u8, InvalidDigest> {
    match hex {
        b'0'..=b'9' => Ok(hex - b'0'),
        b'a'..=b'f' => Ok(hex - b'a' + 10),
        _ => Err(InvalidDigest),
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Digest {
    type Err = InvalidDigest;
    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;
    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        let mut text = String::with_capacity(Digest::TEXT_BYTES);
        text.push_str(PREFIX);
        for byte in digest.0 {
            for index in [byte >> 4, byte & 15] {
                text.push(HEX.get(usize::from(index)).map_or('0', |&hex| char::from(hex)));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one_and_comes_back() {
        assert_eq!(digest_of(b"").to_string(), EMPTY);
        assert_eq!(String::from(digest_of(b"")), EMPTY);
        assert_eq!(Digest::parse(EMPTY), Ok(digest_of(b"")));
    }

    #[test]
    fn other_spellings_are_refused() {
        let upper = EMPTY.replace('e', "E");
        for bad in ["", "sha256:", &EMPTY[7..], &EMPTY[..70], &upper, &format!("{EMPTY}0"), &EMPTY.replace('e', "é")] {
            assert_eq!(Digest::parse(bad), Err(InvalidDigest), "{bad}");
        }
    }
}
