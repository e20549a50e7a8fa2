//! What a verifier answers: one verdict and the first failing check (docs/contracts/receipt.md section 4).

use serde::{Serialize, Serializer};

/// The stable codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    Ok,
    Malformed,
    UnknownMember,
    MissingMember,
    HashMismatch,
    BadSignature,
    UnknownKey,
    KeyExpired,
    CidMismatch,
    WrongTrace,
    WrongTenant,
    WrongChain,
    HopGap,
    BrokenLink,
    TimeReversed,
}

impl Code {
    /// The code as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Malformed => "malformed",
            Self::UnknownMember => "unknown_member",
            Self::MissingMember => "missing_member",
            Self::HashMismatch => "hash_mismatch",
            Self::BadSignature => "bad_signature",
            Self::UnknownKey => "unknown_key",
            Self::KeyExpired => "key_expired",
            Self::CidMismatch => "cid_mismatch",
            Self::WrongTrace => "wrong_trace",
            Self::WrongTenant => "wrong_tenant",
            Self::WrongChain => "wrong_chain",
            Self::HopGap => "hop_gap",
            Self::BrokenLink => "broken_link",
            Self::TimeReversed => "time_reversed",
        }
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The answer, with the members of `verify --json` (docs/contracts/receipt.md section 4) in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub verdict: Code,
    /// Which receipt failed, from 0; null for what concerns the bundle or the document.
    pub index: Option<usize>,
    /// Which check failed; null where none did.
    pub check: Option<&'static str>,
    /// The same for people; null where none did.
    pub detail: Option<String>,
    /// How many receipts the document holds, as far as it could be read.
    pub receipts: usize,
    /// Whose keys were trusted: `given`, `embedded` or `given+embedded`.
    pub trusted: &'static str,
}

impl Verdict {
    /// `outcome` names the receipt that failed, where one did; `receipts` were read.
    pub fn new(outcome: Result<(), (Option<usize>, Failure)>, receipts: usize, trusted: &'static str) -> Self {
        match outcome {
            Ok(()) => Self { verdict: Code::Ok, index: None, check: None, detail: None, receipts, trusted },
            Err((index, Failure { code, check, detail })) => {
                Self { verdict: code, index, check: Some(check), detail: Some(detail), receipts, trusted }
            }
        }
    }

    /// 0 for `ok`, 1 for a failed check, 2 for input that is no receipt, chain or bundle at all.
    pub fn exit_code(&self) -> u8 {
        match (self.verdict, self.check) {
            (Code::Ok, _) => 0,
            (_, Some(check::SYNTAX | check::SHAPE)) => 2,
            _ => 1,
        }
    }
}

/// Names of the checks.
pub(crate) mod check {
    /// RFC 8259.
    pub(crate) const SYNTAX: &str = "syntax";
    /// A receipt, an array of them, lines of them, or a bundle.
    pub(crate) const SHAPE: &str = "shape";
    /// The JSON door: duplicates, unsafe integers.
    pub(crate) const DOOR: &str = "door";
    pub(crate) const MEMBERS: &str = "members";
    pub(crate) const RECEIPT_HASH: &str = "receipt_hash";
    pub(crate) const BUNDLE_CID: &str = "bundle_cid";
    pub(crate) const SIGNATURE: &str = "signature";
    pub(crate) const KEY_TIME: &str = "key_time";
    pub(crate) const PAYLOAD: &str = "payload";
    pub(crate) const TENANT: &str = "tenant";
    pub(crate) const TRACE: &str = "trace_id";
    pub(crate) const CHAIN: &str = "chain";
    pub(crate) const HOP: &str = "hop";
    pub(crate) const LINK: &str = "prev_receipt_hash";
    pub(crate) const TIME: &str = "ts";
}

/// A check that failed, before it is known for which receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Failure {
    pub code: Code,
    pub check: &'static str,
    pub detail: String,
}

impl Failure {
    pub(crate) fn new(code: Code, check: &'static str, detail: impl Into<String>) -> Self {
        Self { code, check, detail: detail.into() }
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Code::Malformed, check::MEMBERS, detail)
    }
}
