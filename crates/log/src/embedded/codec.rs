//! How records and the few facts beside them lie in the store: bytes, lengths checked on the way in.
//!
//! Records are kept in *chunks*: what one round wrote to one partition, under the offset of its last record. One value
//! in the store then carries hundreds of records, is written once, and is handed on in slices.
//!
//! ```text
//! chunk   version u8, flags u8, count u32, base u64, time_ms i64, [sparse: count x delta u32], frame*
//! frame   length u32, key, value, headers varint, (name, value)*       (key, value: 0 = none, else length + 1)
//! ```
//! Fixed integers are little-endian, except in keys, where order matters.

use bytes::Bytes;

use crate::{Batch, Output, Record, Topic};

/// The format of everything in the store; a newer one is refused.
pub(super) const FORMAT: u16 = 1;

/// Room at the front of a chunk under construction.
pub(super) const CHUNK_HEADER_BYTES: usize = 22;

/// A chunk is closed when it has reached this, so that a record that is kept pins no more than this much beside it.
pub(super) const CHUNK_BYTES_MAX: usize = 128 * 1024;

/// The largest record, all parts together.
pub(super) const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

const CHUNK_VERSION: u8 = 1;
const FLAG_SPARSE: u8 = 1;

/// What is wrong with bytes that this module wrote itself once.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Frames under construction, with room for the header of the chunk that they become.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Vec<u8>,
    pub(super) count: u32,
}

impl Default for Piece {
    fn default() -> Self {
        Self { bytes: vec![0; CHUNK_HEADER_BYTES], count: 0 }
    }
}

impl Piece {
    pub(super) fn frames(&self) -> &[u8] {
        self.bytes.get(CHUNK_HEADER_BYTES..).unwrap_or_default()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK_BYTES_MAX
    }

    pub(super) fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// Adds one record; false if it is larger than a record may be (then nothing is added).
    pub(super) fn push(&mut self, out: &Output<'_>) -> bool {
        let body_bytes = out.key.map_or(0, <[u8]>::len)
            + out.value.map_or(0, <[u8]>::len)
            + out.headers.iter().map(|(name, value)| name.len() + value.len() + 16).sum::<usize>();
        if body_bytes > RECORD_BYTES_MAX {
            return false;
        }
        self.bytes.reserve(body_bytes + 32);
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        put_optional(&mut self.bytes, out.key);
        put_optional(&mut self.bytes, out.value);
        put_varint(&mut self.bytes, out.headers.len());
        for (name, value) in out.headers {
            put_varint(&mut self.bytes, name.len());
            self.bytes.extend_from_slice(name.as_bytes());
            put_varint(&mut self.bytes, value.len());
            self.bytes.extend_from_slice(value);
        }
        self.seal_frame(at);
        true
    }

    /// Adds the frames of another piece behind our own.
    pub(super) fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(other.frames());
        self.count += other.count;
    }

    /// Adds a frame that was read from a chunk, unchanged.
    pub(super) fn push_frame(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.count += 1;
    }

    /// The finished chunk: offsets `base` and up, without gaps.
    pub(super) fn into_chunk(mut self, base: u64, time_ms: i64) -> Bytes {
        let header = header_bytes(0, self.count, base, time_ms);
        if let Some(room) = self.bytes.get_mut(..CHUNK_HEADER_BYTES) {
            room.copy_from_slice(&header);
        }
        Bytes::from(self.bytes)
    }

    /// The finished chunk of what compaction left: each record at `base` plus its delta.
    pub(super) fn into_sparse_chunk(self, base: u64, time_ms: i64, deltas: &[u32]) -> Bytes {
        let mut bytes = header_bytes(FLAG_SPARSE, self.count, base, time_ms).to_vec();
        for delta in deltas {
            bytes.extend_from_slice(&delta.to_le_bytes());
        }
        bytes.extend_from_slice(self.frames());
        Bytes::from(bytes)
    }

    fn seal_frame(&mut self, at: usize) {
        let length = u32::try_from(self.bytes.len() - at - 4).unwrap_or(u32::MAX);
        if let Some(room) = self.bytes.get_mut(at..at + 4) {
            room.copy_from_slice(&length.to_le_bytes());
        }
        self.count += 1;
    }
}

fn header_bytes(flags: u8, count: u32, base: u64, time_ms: i64) -> [u8; CHUNK_HEADER_BYTES] {
    let mut header = [0; CHUNK_HEADER_BYTES];
    let mut fields = [CHUNK_VERSION, flags].into_iter();
    let rest = count.to_le_bytes().into_iter().chain(base.to_le_bytes()).chain(time_ms.to_le_bytes());
    header.iter_mut().zip(fields.by_ref().chain(rest)).for_each(|(room, byte)| *room = byte);
    header
}

/// A chunk as it was read.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    bytes: Bytes,
    pub(super) base: u64,
    pub(super) time_ms: i64,
    pub(super) count: u32,
    sparse: bool,
}

impl Chunk {
    pub(super) fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let mut header = Reader::new(&bytes);
        if header.array::<1>()? != [CHUNK_VERSION] {
            return Err(Malformed("chunk of an unknown version"));
        }
        let [flags] = header.array()?;
        let count = u32::from_le_bytes(header.array()?);
        let base = u64::from_le_bytes(header.array()?);
        let time_ms = i64::from_le_bytes(header.array()?);
        Ok(Self { base, time_ms, count, sparse: flags & FLAG_SPARSE != 0, bytes })
    }

    /// Visits offset and frame (with its length) of every record, until `visit` answers false.
    pub(super) fn frames(
        &self,
        mut visit: impl FnMut(u64, Frame<'_>) -> Result<bool, Malformed>,
    ) -> Result<(), Malformed> {
        let mut reader = Reader::new(&self.bytes);
        reader.take(CHUNK_HEADER_BYTES)?;
        let count = usize::try_from(self.count).map_err(|_| Malformed("count of a chunk"))?;
        let mut deltas =
            if self.sparse { Reader::new(reader.take(count.saturating_mul(4))?) } else { Reader::new(&[]) };
        for index in 0..u64::from(self.count) {
            let delta = if self.sparse { u64::from(u32::from_le_bytes(deltas.array()?)) } else { index };
            let at = reader.at;
            let length = u32::from_le_bytes(reader.array()?);
            reader.take(usize::try_from(length).map_err(|_| Malformed("length of a frame"))?)?;
            let offset = self.base.checked_add(delta).ok_or(Malformed("offset of a record"))?;
            if !visit(offset, Frame { chunk: &self.bytes, at, end: reader.at })? {
                return Ok(());
            }
        }
        if reader.at == self.bytes.len() { Ok(()) } else { Err(Malformed("bytes behind the last frame")) }
    }

    /// Adds the records from offset `from` on to `into`.
    pub(super) fn read(&self, place: (&Topic, u32), from: u64, into: &mut Batch) -> Result<usize, Malformed> {
        let mut byte_count = 0;
        self.frames(|offset, frame| {
            if offset >= from {
                byte_count += frame.bytes().len();
                into.records.push(frame.record(place, offset, self.time_ms)?);
            }
            Ok(true)
        })?;
        Ok(byte_count)
    }
}

/// One record inside a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    chunk: &'a Bytes,
    at: usize,
    end: usize,
}

impl Frame<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        self.chunk.get(self.at..self.end).unwrap_or_default()
    }

    /// The key, and whether there is a value.
    pub(super) fn key(&self) -> Result<(Option<&[u8]>, bool), Malformed> {
        let mut reader = Reader::new(self.bytes());
        reader.take(4)?;
        let key = reader.optional()?;
        let has_value = reader.optional()?.is_some();
        Ok((key, has_value))
    }

    fn record(&self, (topic, partition): (&Topic, u32), offset: u64, time_ms: i64) -> Result<Record, Malformed> {
        let mut reader = Reader::new(self.bytes());
        reader.take(4)?;
        let key = reader.optional()?.map(|key| self.chunk.slice_ref(key));
        let value = reader.optional()?.map(|value| self.chunk.slice_ref(value));
        let header_count = reader.varint()?;
        let mut headers = Vec::with_capacity(header_count.min(64));
        for _ in 0..header_count {
            let name_bytes = reader.varint()?;
            let name = std::str::from_utf8(reader.take(name_bytes)?).map_err(|_| Malformed("name of a header"))?;
            let value_bytes = reader.varint()?;
            headers.push((name.to_owned(), self.chunk.slice_ref(reader.take(value_bytes)?)));
        }
        if reader.at != reader.bytes.len() {
            return Err(Malformed("bytes behind the last header"));
        }
        Ok(Record { topic: topic.clone(), partition, offset, time_ms, key, value, headers })
    }
}

fn put_optional(into: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => put_varint(into, 0),
        Some(part) => {
            put_varint(into, part.len() + 1);
            into.extend_from_slice(part);
        }
    }
}

fn put_varint(into: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = number.to_le_bytes().first().copied().unwrap_or(0) & 0x7f;
        number >>= 7;
        if number == 0 {
            into.push(low);
            return;
        }
        into.push(low | 0x80);
    }
}

/// Takes bytes from the front, never past the end.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed("length overflows"))?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed("shorter than its lengths say"))?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed("shorter than its fields"))
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }

    fn varint(&mut self) -> Result<usize, Malformed> {
        let mut number = 0_usize;
        for shift in (0..63).step_by(7) {
            let [byte] = self.array()?;
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed("number without an end"))
    }

    fn optional(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.varint()?.checked_sub(1) {
            None => Ok(None),
            Some(length) => self.take(length).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(topic: &Topic, count: usize) -> Piece {
        let mut piece = Piece::default();
        for index in 0..count {
            let value = vec![b'v'; index * 70];
            let key = index.to_string();
            let out = Output {
                topic,
                partition: None,
                key: (index != 1).then_some(key.as_bytes()),
                value: (index != 2).then_some(&value),
                headers: &[("a", b"1"), ("a", b"")],
            };
            assert!(piece.push(&out));
        }
        piece
    }

    #[test]
    fn a_chunk_comes_back_as_it_was_written() {
        let topic = Topic::new("t");
        let chunk = Chunk::parse(piece(&topic, 5).into_chunk(100, 7)).unwrap();
        let mut batch = Batch::default();
        chunk.read((&topic, 3), 101, &mut batch).unwrap();
        assert_eq!(batch.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [101, 102, 103, 104]);
        let [first, second, ..] = &batch.records[..] else { panic!("four records") };
        assert_eq!((first.key.as_deref(), first.value.as_deref().map(<[u8]>::len)), (None, Some(70)));
        assert_eq!((second.key.as_deref(), second.value.as_deref()), (Some(&b"2"[..]), None));
        assert_eq!((first.partition, first.time_ms, first.header("a")), (3, 7, Some(&b""[..])));
    }

    #[test]
    fn what_compaction_left_keeps_its_offsets() {
        let topic = Topic::new("t");
        let chunk = Chunk::parse(piece(&topic, 3).into_sparse_chunk(10, 7, &[0, 4, 9])).unwrap();
        let mut batch = Batch::default();
        chunk.read((&topic, 0), 0, &mut batch).unwrap();
        assert_eq!(batch.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [10, 14, 19]);
    }

    #[test]
    fn a_chunk_cut_short_or_grown_is_refused_and_never_panics() {
        let topic = Topic::new("t");
        let whole = piece(&topic, 4).into_chunk(0, 0);
        for length in 0..whole.len() {
            let read =
                Chunk::parse(whole.slice(..length)).and_then(|chunk| chunk.read((&topic, 0), 0, &mut Batch::default()));
            assert!(read.is_err(), "{length} of {} bytes", whole.len());
        }
        let mut grown = whole.to_vec();
        grown.push(0);
        assert!(Chunk::parse(grown.into()).unwrap().read((&topic, 0), 0, &mut Batch::default()).is_err());
    }

    #[test]
    fn offsets_beyond_the_last_are_refused() {
        let topic = Topic::new("t");
        let chunk = Chunk::parse(piece(&topic, 2).into_chunk(u64::MAX, 0)).unwrap();
        assert!(chunk.read((&topic, 0), 0, &mut Batch::default()).is_err());
    }

    #[test]
    fn any_changed_byte_is_read_or_refused_but_never_panics() {
        let topic = Topic::new("t");
        let whole = piece(&topic, 3).into_chunk(0, 0);
        for at in 0..whole.len() {
            for change in [1, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[at] ^= change;
                let _ = Chunk::parse(bytes.into()).and_then(|chunk| chunk.read((&topic, 0), 0, &mut Batch::default()));
            }
        }
    }
}
