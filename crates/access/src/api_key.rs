//! API keys: `csk_`, 256 random bits in base62, and a checksum so that secret scanners find them.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "csk_";
const RANDOM_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key as its owner presents it. Exists in memory only; what is kept is its [`KeyDigest`].
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// SHA-256 of a whole key, prefix included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest([u8; 32]);

/// Not a key of ours: told before anything is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    #[error("an API key is csk_ followed by 49 letters and digits")]
    Form,
    #[error("the API key's checksum does not agree: it is mistyped or cut short")]
    Checksum,
}

impl ApiKey {
    pub fn generate() -> Self {
        Self::of(crate::secret::random_bytes())
    }

    fn of(random: [u8; 32]) -> Self {
        let random = base62_256(random);
        let checksum = checksum(&random);
        Self(format!("{PREFIX}{random}{checksum}"))
    }

    /// Reads a key and checks its checksum.
    ///
    /// # Errors
    /// If it has another form, or the checksum does not agree.
    pub fn parse(text: &str) -> Result<Self, ApiKeyError> {
        let digits = text.strip_prefix(PREFIX).ok_or(ApiKeyError::Form)?;
        if digits.len() != RANDOM_DIGITS + CHECKSUM_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ApiKeyError::Form);
        }
        let (random, given) = digits.split_at(RANDOM_DIGITS);
        if bool::from(checksum(random).as_bytes().ct_eq(given.as_bytes())) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ApiKeyError::Checksum)
        }
    }

    /// The key itself, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn digest(&self) -> KeyDigest {
        KeyDigest(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(csk_…)")
    }
}

impl KeyDigest {
    /// In constant time.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The bucket it is looked up in. What the time of a lookup tells is about a hash of 256 random bits.
    pub(crate) fn bucket(&self) -> [u8; 8] {
        let mut bucket = [0; 8];
        bucket.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        bucket
    }

    /// From 64 lower-case hex digits.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// 64 lower-case hex digits: the id of the key.
impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

/// Six base62 digits of the CRC-32 of the 43 before.
fn checksum(random: &str) -> String {
    let mut rest = crc32fast::hash(random.as_bytes());
    let mut digits = [b'0'; CHECKSUM_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = digit_of(rest % 62);
        rest /= 62;
    }
    digits.iter().copied().map(char::from).collect()
}

/// 43 base62 digits of a 256-bit number, most significant first.
pub(crate) fn base62_256(mut number: [u8; 32]) -> String {
    let mut digits = [b'0'; RANDOM_DIGITS];
    for digit in digits.iter_mut().rev() {
        // One step of long division by 62.
        let mut remainder = 0;
        for byte in &mut number {
            let dividend = remainder * 256 + u32::from(*byte);
            *byte = u8::try_from(dividend / 62).unwrap_or(u8::MAX);
            remainder = dividend % 62;
        }
        *digit = digit_of(remainder);
    }
    digits.iter().copied().map(char::from).collect()
}

fn digit_of(value: u32) -> u8 {
    usize::try_from(value).ok().and_then(|index| DIGITS.get(index)).copied().unwrap_or(b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_form_and_reads_back() {
        let key = ApiKey::generate();
        assert_eq!(key.expose().len(), 4 + 43 + 6);
        assert_eq!(ApiKey::parse(key.expose()).unwrap(), key);
        assert_ne!(ApiKey::generate(), key);
    }

    #[test]
    fn the_number_is_written_in_full() {
        assert_eq!(base62_256([0; 32]), "0".repeat(43));
        let mut sixty_three = [0; 32];
        sixty_three[31] = 63;
        assert_eq!(base62_256(sixty_three), format!("{}11", "0".repeat(41)));
        // 2^256 - 1 in base 62, computed elsewhere.
        assert_eq!(base62_256([255; 32]), "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
    }

    #[test]
    fn one_changed_character_fails_the_checksum() {
        let key = ApiKey::of([7; 32]);
        for place in 4..key.expose().len() {
            let mut wrong = key.expose().as_bytes().to_vec();
            wrong[place] = if wrong[place] == b'a' { b'b' } else { b'a' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert_eq!(ApiKey::parse(&wrong), Err(ApiKeyError::Checksum), "at {place}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let key = ApiKey::of([7; 32]);
        for wrong in
            ["", "csk_", "sk_live_abc", &key.expose()[..52], &format!("{}a", key.expose()), &"csk_é".repeat(10)]
        {
            assert_eq!(ApiKey::parse(wrong), Err(ApiKeyError::Form), "{wrong}");
        }
    }

    #[test]
    fn a_key_hides_itself_and_its_digest_reads_back() {
        let key = ApiKey::generate();
        assert!(!format!("{key:?}").contains(&key.expose()[4..]));
        let digest = key.digest();
        assert_eq!(KeyDigest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(KeyDigest::from_hex("zz"), None);
    }
}
