//! Outbox rows and the chain over them (R6).

use sha2::{Digest, Sha256};

/// SHA-256 over a row and the hash of the row before it.
pub type RowHash = [u8; 32];

/// What the first row of a partition is chained to.
pub const GENESIS: RowHash = [0; 32];

/// Names and values of record headers, in order.
pub type Headers = Vec<(String, Vec<u8>)>;

/// Which input a record was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// The commands themselves.
    Command,
    /// Dead letters on their way back.
    Redo,
}

impl Input {
    pub(crate) fn to_column(self) -> i64 {
        match self {
            Self::Command => 0,
            Self::Redo => 1,
        }
    }

    pub(crate) fn from_column(value: i64) -> Option<Self> {
        match value {
            0 => Some(Self::Command),
            1 => Some(Self::Redo),
            _ => None,
        }
    }
}

/// The record that a row was decided from; its partition is that of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub input: Input,
    pub offset: u64,
}

/// A record to be published, before it has its place in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowDraft {
    pub source: Source,
    pub topic: String,
    /// `None`: by the record key.
    pub target_partition: Option<u32>,
    pub record_key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

/// A row of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    pub sequence: u64,
    pub draft: RowDraft,
    pub row_hash: RowHash,
}

/// The hash of a row: over what was decided, in whose place. Headers are left out: they say nothing that is not here.
pub fn row_hash(before: &RowHash, sequence: u64, draft: &RowDraft) -> RowHash {
    let mut hash = Sha256::new();
    hash.update(b"countersign/outbox/v1\0");
    hash.update(before);
    hash.update(sequence.to_be_bytes());
    hash.update(draft.source.input.to_column().to_be_bytes());
    hash.update(draft.source.offset.to_be_bytes());
    for part in [Some(draft.topic.as_bytes()), draft.record_key.as_deref(), draft.value.as_deref()] {
        match part {
            // Lengths go before the bytes, so that no two rows spell the same.
            Some(bytes) => {
                hash.update([1]);
                hash.update((bytes.len() as u64).to_be_bytes());
                hash.update(bytes);
            }
            None => hash.update([0]),
        }
    }
    hash.finalize().into()
}

/// One column for all headers: each name and value after its 4-byte big-endian length. `None`: a length past 32 bits.
pub(crate) fn encode_headers(headers: &Headers) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (name, value) in headers {
        for part in [name.as_bytes(), value.as_slice()] {
            out.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
            out.extend_from_slice(part);
        }
    }
    Some(out)
}

/// Reads the column back; `None` where it is damaged.
pub(crate) fn decode_headers(mut bytes: &[u8]) -> Option<Headers> {
    fn part<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        *bytes = rest;
        Some(part)
    }
    let mut headers = Headers::new();
    while !bytes.is_empty() {
        let name = String::from_utf8(part(&mut bytes)?.to_vec()).ok()?;
        headers.push((name, part(&mut bytes)?.to_vec()));
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> RowDraft {
        RowDraft {
            source: Source { input: Input::Command, offset: 7 },
            topic: "settlement.posted.v1".into(),
            target_partition: None,
            record_key: Some(b"acme".to_vec()),
            value: Some(b"value".to_vec()),
            headers: vec![],
        }
    }

    #[test]
    fn headers_come_back_and_damage_is_seen() {
        let headers: Headers = vec![("cause".into(), b"0:7:0".to_vec()), ("empty".into(), vec![])];
        let bytes = encode_headers(&headers).unwrap();
        assert_eq!(decode_headers(&bytes), Some(headers));
        assert_eq!(decode_headers(&[]), Some(vec![]));
        for cut in 1..bytes.len() {
            let read = decode_headers(&bytes[..cut]);
            assert!(read.is_none() || read.is_some_and(|some| some.len() == 1), "cut at {cut}");
        }
    }

    #[test]
    fn every_part_of_a_row_changes_its_hash() {
        let plain = row_hash(&GENESIS, 1, &draft());
        let mut others = vec![row_hash(&[1; 32], 1, &draft()), row_hash(&GENESIS, 2, &draft())];
        let changes: [fn(&mut RowDraft); 6] = [
            |row| row.source.input = Input::Redo,
            |row| row.source.offset = 8,
            |row| row.topic.push('x'),
            |row| row.record_key = None,
            |row| row.value = None,
            |row| row.value = Some(vec![]),
        ];
        for change in changes {
            let mut changed = draft();
            change(&mut changed);
            others.push(row_hash(&GENESIS, 1, &changed));
        }
        others.push(plain);
        let count = others.len();
        others.sort_unstable();
        others.dedup();
        assert_eq!(others.len(), count);
    }
}
