//! The files of the embedded log: chunks of records, small values, and a journal whose last batch may be torn. Whatever lies
//! there is read or refused, never more than lies there, and what was read is written and read again as the same.
#![no_main]
#![allow(dead_code, reason = "files of the product are taken in whole")]

#[path = "../../crates/log/src/embedded/codec.rs"]
mod codec;
#[path = "../../crates/log/src/embedded/keys.rs"]
mod keys;
mod seam;
#[path = "../../crates/log/src/embedded/torn.rs"]
mod torn;

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

use codec::{Chunk, Piece};
pub(crate) use seam::{Batch, Cleanup, Output, Record, Topic, TopicSpec};

/// A directory of this process, in memory where there is such a place: the journal is synced, as it is in earnest.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let directory = parent.join(format!("countersign-fuzz-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    directory
});

fn chunk(bytes: &[u8]) {
    let topic = Topic::new("t");
    let Ok(chunk) = Chunk::parse(Bytes::copy_from_slice(bytes)) else { return };
    let mut batch = Batch::default();
    if chunk.read((&topic, 3), 0, &mut batch).is_err() {
        return;
    }
    let held: usize = batch.records.iter().map(byte_count).sum();
    assert!(held <= bytes.len(), "no more is read than lies there");
    let mut piece = Piece::default();
    for record in &batch.records {
        let headers: Vec<(&str, &[u8])> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        assert!(piece.push(&Output { topic: &topic, partition: None, key, value, headers: &headers }));
    }
    let again = Chunk::parse(piece.into_chunk(0, chunk.time_ms)).expect("what was written is read");
    let mut read = Batch::default();
    again.read((&topic, 3), 0, &mut read).expect("whole");
    let content = |record: &Record| (record.key.clone(), record.value.clone(), record.headers.clone(), record.time_ms);
    assert!(read.records.iter().map(content).eq(batch.records.iter().map(content)));
}

fn byte_count(record: &Record) -> usize {
    let part = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.len());
    part(&record.key) + part(&record.value) + headers.sum::<usize>()
}

fn values(bytes: &[u8]) {
    let _ = (keys::decode_end(bytes), keys::last_offset_of(bytes), keys::name_of(bytes));
    let (key, value) = bytes.split_at(bytes.len().min(9));
    if let Ok((id, spec)) = keys::decode_topic(key, value) {
        let written = keys::encode_topic(id, &spec);
        let read = keys::decode_topic(&keys::meta_key::topic(spec.topic.as_str()), &written);
        assert_eq!(read.expect("what was written is read"), (id, spec));
    }
}

fn journal(bytes: &[u8]) {
    let journal = DIRECTORY.join("0.jnl");
    fs::write(&journal, bytes).expect("a journal");
    let cut = torn::Cut::last_batch(&DIRECTORY).expect("a journal of any kind is looked through");
    let kept = fs::read(&journal).expect("it is still there");
    assert!(bytes.starts_with(&kept), "only an end is cut off");
    match cut {
        Some(cut) => {
            assert!(kept.len() < bytes.len());
            cut.undo().expect("it is put back");
            assert_eq!(fs::read(&journal).expect("it is there again"), bytes);
        }
        None => assert_eq!(kept, bytes),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first() else { return };
    match which % 8 {
        0 => journal(rest),
        1 => values(rest),
        _ => chunk(rest),
    }
});
