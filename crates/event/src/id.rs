//! Names that are checked once, at the edge: inside, holding one means that it is well formed (docs/contracts/receipt.md
//! section 2).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A name that breaks the rule of its kind. It does not repeat the name, which may be personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {rule}")]
pub struct InvalidId {
    /// What was being read: "a tenant id".
    pub kind: &'static str,
    /// What it must look like.
    pub rule: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $is_valid:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The rule in words, as errors give it.
            pub const RULE: &'static str = $rule;

            /// Reads one at the edge; refused where it breaks the rule.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                if $is_valid(&text) { Ok(Self(text)) } else { Err(InvalidId { kind: $kind, rule: $rule }) }
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

text_id!(
    /// Who pays and who may read.
    TenantId,
    "a tenant id",
    "[a-z0-9][a-z0-9-]{0,62}",
    is_tenant
);
text_id!(
    /// The caller's name for one request; unique within its tenant.
    IdempotencyKey,
    "an idempotency key",
    "1 to 255 bytes of visible ASCII (0x21 to 0x7E)",
    is_idempotency_key
);
text_id!(
    /// What ties the exchanges of one undertaking together (docs/contracts/receipt.md section 3).
    TraceId,
    "a trace id",
    "1 to 128 characters of A-Z a-z 0-9 . _ : -",
    is_trace
);
text_id!(
    /// The name of an exchange, derived so that every replica, replay and retry computes the same one.
    ExchangeId,
    "an exchange id",
    "ex_ and 26 characters of lower-case Crockford base32",
    is_exchange
);
text_id!(
    /// An account's name within its tenant (docs/contracts/program.md, Names).
    Payee,
    "a payee",
    "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    is_payee
);
text_id!(
    /// A ledger account: `<tenant>:main`, `<tenant>:<payee>` or `countersign:fees`.
    AccountName,
    "an account name",
    "<tenant>:<name>",
    is_account
);

/// Crockford base32 in lower case: no `i`, `l`, `o`, `u`.
const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const EXCHANGE_PREFIX: &str = "ex_";
const EXCHANGE_CHARACTERS: usize = 26;
const EXCHANGE_DOMAIN: &[u8] = b"countersign/exchange/v1";

impl ExchangeId {
    /// The exchange that this tenant means by this key (docs/contracts/receipt.md section 2).
    pub fn derive(tenant: &TenantId, idempotency_key: &IdempotencyKey) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(EXCHANGE_DOMAIN);
        hasher.update([0]);
        hasher.update(tenant.as_str());
        hasher.update([0]);
        hasher.update(idempotency_key.as_str());
        let hash: [u8; 32] = hasher.finalize().into();
        let mut text = String::with_capacity(EXCHANGE_PREFIX.len() + EXCHANGE_CHARACTERS);
        text.push_str(EXCHANGE_PREFIX);
        text.extend(base32_digits(&hash).take(EXCHANGE_CHARACTERS));
        Self(text)
    }
}

impl TraceId {
    /// The trace of an exchange whose caller named none.
    pub fn of_exchange(exchange_id: &ExchangeId) -> Self {
        // `ex_` and base32 digits are all trace characters, and there are 29 of them.
        Self(exchange_id.as_str().to_owned())
    }
}

impl AccountName {
    /// The account a tenant pays from.
    pub fn main(tenant: &TenantId) -> Self {
        Self(format!("{tenant}:main"))
    }

    /// The account of somebody that a tenant pays.
    pub fn of_payee(tenant: &TenantId, payee: &Payee) -> Self {
        Self(format!("{tenant}:{payee}"))
    }

    /// Where our own fees go.
    pub fn fees() -> Self {
        Self("countersign:fees".to_owned())
    }
}

/// Five bits a digit, most significant first.
fn base32_digits(bytes: &[u8]) -> impl Iterator<Item = char> + '_ {
    let bit = |index: usize| bytes.get(index / 8).map_or(0, |byte| byte >> (7 - index % 8) & 1);
    (0..bytes.len() * 8 / 5).map(move |digit| {
        let value = (0..5).fold(0_u8, |value, offset| value << 1 | bit(digit * 5 + offset));
        CROCKFORD.get(usize::from(value)).map_or('0', |&byte| char::from(byte))
    })
}

/// One byte that satisfies `first`, then at most `more_max` that satisfy `rest`.
fn is_word(text: &str, more_max: usize, first: fn(u8) -> bool, rest: fn(u8) -> bool) -> bool {
    match text.as_bytes().split_first() {
        Some((&head, tail)) => first(head) && tail.len() <= more_max && tail.iter().all(|&byte| rest(byte)),
        None => false,
    }
}

fn is_tenant(text: &str) -> bool {
    let lower_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    is_word(text, 62, lower_or_digit, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_idempotency_key(text: &str) -> bool {
    is_word(text, 254, |byte| byte.is_ascii_graphic(), |byte| byte.is_ascii_graphic())
}

fn is_trace(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
    is_word(text, 127, allowed, allowed)
}

fn is_exchange(text: &str) -> bool {
    text.strip_prefix(EXCHANGE_PREFIX).is_some_and(|digits| {
        digits.len() == EXCHANGE_CHARACTERS && digits.bytes().all(|byte| CROCKFORD.contains(&byte))
    })
}

fn is_payee(text: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    is_word(text, 63, |byte| byte.is_ascii_alphanumeric(), rest)
}

fn is_account(text: &str) -> bool {
    text.split_once(':').is_some_and(|(tenant, name)| is_tenant(tenant) && is_payee(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(tenant: &str, idempotency_key: &str) -> String {
        let tenant = TenantId::parse(tenant).unwrap();
        ExchangeId::derive(&tenant, &IdempotencyKey::parse(idempotency_key).unwrap()).to_string()
    }

    #[test]
    fn exchange_ids_are_those_of_the_published_vectors() {
        assert_eq!(derived("acme", "key-0"), "ex_a46f1z1wmbq2pds9zabtvhng7b");
        assert_eq!(derived("acme", "key-1"), "ex_jkmktb9csr11frgjnt6mpy79jv");
        assert_eq!(derived("zurich-7", "order/2026-11-21#0001"), "ex_8nmg8kf2wf8v6rc7g7rntbdqey");
        assert!(ExchangeId::parse(derived("acme", "key-0")).is_ok());
    }

    #[test]
    fn tenants_have_no_colon_and_at_most_63_characters() {
        assert!(TenantId::parse("0-a").is_ok());
        assert!(TenantId::parse("a".repeat(63)).is_ok());
        for bad in ["", "-a", "A", "a:b", "a_b", "ä", &"a".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn idempotency_keys_are_visible_ascii() {
        assert!(IdempotencyKey::parse("!~").is_ok());
        assert!(IdempotencyKey::parse("k".repeat(255)).is_ok());
        for bad in ["", "a b", "a\n", "\u{7f}", "é", &"k".repeat(256)] {
            assert!(IdempotencyKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn traces_accounts_payees_and_exchanges_keep_their_alphabets() {
        assert!(TraceId::parse("a.B_0:-").is_ok());
        assert!(TraceId::parse("t".repeat(129)).is_err());
        assert!(TraceId::parse("a/b").is_err());
        assert!(Payee::parse("agent-7").is_ok());
        assert!(Payee::parse(".agent").is_err());
        assert!(Payee::parse("a".repeat(65)).is_err());
        assert!(AccountName::parse("acme:main").is_ok());
        for bad in ["acme", "acme:", ":main", "acme:a:b", "Acme:main"] {
            assert!(AccountName::parse(bad).is_err(), "{bad}");
        }
        for bad in
            ["ex_", "ex_i46f1z1wmbq2pds9zabtvhng7b", "ex_A46f1z1wmbq2pds9zabtvhng7b", "a46f1z1wmbq2pds9zabtvhng7b"]
        {
            assert!(ExchangeId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn serde_reads_no_name_that_parse_refuses() {
        assert_eq!(serde_json::from_str::<TenantId>(r#""acme""#).unwrap().as_str(), "acme");
        assert!(serde_json::from_str::<TenantId>(r#""Acme""#).is_err());
        assert_eq!(serde_json::to_string(&AccountName::fees()).unwrap(), r#""countersign:fees""#);
    }
}
