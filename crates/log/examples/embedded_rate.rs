//! What a commit of the embedded log costs: records/s and bytes on the disk, by records a transaction.
//!
//! `cargo run --release -p countersign-log --example embedded_rate [DIR]`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use countersign_log::embedded::EmbeddedLog;
use countersign_log::{Batch, Cleanup, Fault, Group, Log, Member, Output, Polled, Topic, TopicSpec};

const RECORDS: usize = 200_000;
const VALUE_BYTES: usize = 512;
const PARTITIONS: u32 = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for per_commit in [10, 100, 1_000, 5_000] {
        let dir = base.join(format!("embedded-rate-{}", std::process::id()));
        measure(&dir, per_commit)?;
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn measure(dir: &Path, per_commit: usize) -> Result<(), Box<dyn std::error::Error>> {
    let log = EmbeddedLog::open(dir)?;
    let topic = |name: &str| TopicSpec {
        topic: Topic::new(name),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete { retention: None },
        log_append_time: true,
    };
    let (input, output, state) = (Topic::new("in"), Topic::new("out"), Topic::new("state"));
    let group = Group { name: "step".into(), inputs: vec![input.clone()] };
    log.apply(&[topic("in"), topic("out"), topic("state")], &[group])?;
    let records = if per_commit < 100 { RECORDS / 10 } else { RECORDS };

    let appending = Instant::now();
    append_all(&log, &input, records)?;
    let appended = appending.elapsed();

    // Read, copy, one cell of state for each record, commit: what a step does, without its own work.
    let member = Member { group: "step".into(), slot: "0".into(), inputs: vec![input], state: Some(state) };
    let mut session = log.join(&member)?;
    let (mut batch, mut done, mut commits) = (Batch::default(), 0, Vec::new());
    let stepping = Instant::now();
    while done < records {
        batch.records.clear();
        if !matches!(session.poll(Duration::from_secs(1), &mut batch)?, Polled::Records { .. }) {
            continue;
        }
        for part in batch.records.chunks(per_commit) {
            for record in part {
                let value = record.value.as_deref();
                let key = record.key.as_deref();
                session.emit(&Output {
                    topic: &output,
                    partition: None,
                    key,
                    value,
                    headers: &[("cause", b"0:1:0")],
                })?;
                session.put(record.partition, key.unwrap_or_default(), Some(b"done"))?;
            }
            let next = session.positions();
            let committing = Instant::now();
            session.commit(&next)?;
            commits.push(committing.elapsed());
            done += part.len();
        }
    }
    let stepped = stepping.elapsed();
    commits.sort();
    let at = |percent: usize| commits.get(commits.len() * percent / 100).copied().unwrap_or_default();
    drop(session);
    let rate = |elapsed: Duration| records as f64 / elapsed.as_secs_f64();
    println!(
        "{per_commit:>5} a commit: {:>9.0} records/s ({:>7.0} commits/s, p50 {:?}, p99 {:?}); appended {:>9.0}/s; {} bytes a record on disk",
        rate(stepped),
        commits.len() as f64 / stepped.as_secs_f64(),
        at(50),
        at(99),
        rate(appended),
        disk_bytes(dir)? / records as u64,
    );
    Ok(())
}

fn append_all(log: &EmbeddedLog, topic: &Topic, records: usize) -> Result<(), Fault> {
    let (done, acked) = std::sync::mpsc::channel();
    for index in 0..records {
        let key = index.to_string();
        // Half of it does not compress, as signatures and digests do not.
        let mut value = vec![b'{'; VALUE_BYTES];
        let mut seed = index as u64 + 1;
        for byte in value.iter_mut().step_by(2) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = seed.to_be_bytes()[0];
        }
        let out = Output { topic, partition: None, key: Some(key.as_bytes()), value: Some(&value), headers: &[] };
        loop {
            let done = done.clone();
            match log.append(&out, Box::new(move |result| drop(done.send(result.map(drop))))) {
                Err(Fault::Retry(_)) => std::thread::yield_now(),
                sent => break sent?,
            }
        }
    }
    drop(done);
    acked.into_iter().collect()
}

/// What the files take, without the part of the journal that is reserved and not yet written.
fn disk_bytes(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { blocks(&metadata) };
    }
    Ok(bytes)
}

#[cfg(unix)]
fn blocks(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn blocks(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}
