//! What a large state costs after a kill: the time until a step has its partitions again, and the memory at the peak,
//! once with the local disk intact and once without it (Kafka only: the embedded log keeps state in the log itself).
//!
//! `cargo run --release -p countersign-log --example state_rebuild -- [--cells N] [--brokers HOST:PORT] [--dir DIR]`
//!
//! The cells have the shape of used keys: 31 bytes, with 96 bytes of value. Each measurement is a process of its own, so
//! that its memory is its own; the one that writes is ended by SIGKILL.

#![allow(clippy::print_stdout, reason = "this is its output")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use countersign_log::embedded::EmbeddedLog;
use countersign_log::kafka::{KafkaConfig, KafkaLog};
use countersign_log::{Batch, Cleanup, Group, Log, Member, Polled, Position, Session, Topic, TopicSpec};

const CELLS: u64 = 10_000_000;
const CELLS_A_COMMIT: u64 = 10_000;
const PARTITIONS: u32 = 4;
const VALUE_BYTES: usize = 96;
/// Nothing is opened for so long: it hangs.
const OPEN_MAX: Duration = Duration::from_secs(1_800);
const FILLED: &str = "filled";

type Failed = Box<dyn std::error::Error>;

#[derive(Clone)]
struct Asked {
    cells: u64,
    brokers: Option<String>,
    dir: PathBuf,
    /// Which part this process is; the first one starts the others.
    part: Option<String>,
}

fn asked() -> Result<Asked, Failed> {
    let dir = std::env::temp_dir().join(format!("state-rebuild-{}", std::process::id()));
    let mut asked = Asked { cells: CELLS, brokers: None, dir, part: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--cells" => asked.cells = value.parse()?,
            "--brokers" => asked.brokers = Some(value),
            "--dir" => asked.dir = value.into(),
            "--part" => asked.part = Some(value),
            _ => return Err(format!("what is {word}? --cells, --brokers and --dir are known").into()),
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let done = asked().and_then(|asked| match asked.part.as_deref() {
        None => measure(&asked),
        Some("fill") => fill(&asked),
        Some(_) => open(&asked),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn measure(asked: &Asked) -> Result<(), Failed> {
    std::fs::create_dir_all(&asked.dir)?;
    println!(
        "{} cells in {PARTITIONS} partitions, {}",
        asked.cells,
        asked.brokers.as_deref().unwrap_or("embedded log")
    );
    let mut filling = part(asked, "fill")?;
    while !asked.dir.join(FILLED).exists() {
        if filling.try_wait()?.is_some() {
            return Err("the process that fills ended".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    filling.kill()?;
    filling.wait()?;
    finish(asked, "after kill -9, disk intact")?;
    finish(asked, "started again")?;
    if asked.brokers.is_some() {
        std::fs::remove_dir_all(asked.dir.join("state"))?;
        finish(asked, "state directory lost")?;
    }
    std::fs::remove_dir_all(&asked.dir)?;
    Ok(())
}

fn part(asked: &Asked, name: &str) -> Result<Child, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--part", name, "--cells", &asked.cells.to_string(), "--dir"]).arg(&asked.dir);
    if let Some(brokers) = &asked.brokers {
        command.args(["--brokers", brokers]);
    }
    Ok(command.stdin(Stdio::null()).spawn()?)
}

fn finish(asked: &Asked, what: &str) -> Result<(), Failed> {
    if part(asked, what)?.wait()?.success() { Ok(()) } else { Err(format!("{what}: failed").into()) }
}

fn log(asked: &Asked) -> Result<Box<dyn Log>, Failed> {
    Ok(match &asked.brokers {
        Some(brokers) => Box::new(KafkaLog::open(KafkaConfig::new(brokers, asked.dir.join("state")))?),
        None => Box::new(EmbeddedLog::open(&asked.dir.join("log"))?),
    })
}

/// Topics of one run have a name of its own: a broker may be used for several.
fn topic(asked: &Asked, name: &str) -> Topic {
    let run = asked.dir.file_name().map_or_else(String::new, |run| run.to_string_lossy().into_owned());
    Topic::new(&format!("{run}.{name}"))
}

fn member(asked: &Asked) -> Member {
    Member {
        group: topic(asked, "step").to_string(),
        slot: "0".into(),
        inputs: vec![topic(asked, "in")],
        state: Some(topic(asked, "state")),
    }
}

/// Joins and waits until all partitions are ours, with their state.
fn assigned<'a>(log: &'a dyn Log, asked: &Asked) -> Result<(Box<dyn Session + 'a>, Vec<Position>), Failed> {
    let began = Instant::now();
    let mut session = log.join(&member(asked))?;
    let mut batch = Batch::default();
    while began.elapsed() < OPEN_MAX {
        if let Polled::Assigned(positions) = session.poll(Duration::from_millis(100), &mut batch)? {
            return Ok((session, positions));
        }
    }
    Err("no partitions were assigned".into())
}

fn fill(asked: &Asked) -> Result<(), Failed> {
    let log = log(asked)?;
    let spec = |name: &str, cleanup| TopicSpec {
        topic: topic(asked, name),
        partitions: PARTITIONS,
        cleanup,
        log_append_time: false,
    };
    let group = Group { name: topic(asked, "step").to_string(), inputs: vec![topic(asked, "in")] };
    log.apply(&[spec("in", Cleanup::Delete { retention: None }), spec("state", Cleanup::Compact)], &[group])?;
    let (mut session, positions) = assigned(log.as_ref(), asked)?;
    let began = Instant::now();
    for index in 0..asked.cells {
        let partition = u32::try_from(index % u64::from(PARTITIONS))?;
        session.put(partition, &key(index), Some(&value(index)))?;
        if (index + 1) % CELLS_A_COMMIT == 0 || index + 1 == asked.cells {
            session.commit(&positions)?;
        }
    }
    println!("  filled in {:.1} s", began.elapsed().as_secs_f64());
    std::fs::write(asked.dir.join(FILLED), b"")?;
    loop {
        // Alive as a step is, until the kill.
        session.poll(Duration::from_millis(100), &mut Batch::default())?;
    }
}

fn open(asked: &Asked) -> Result<(), Failed> {
    let began = Instant::now();
    let log = log(asked)?;
    let opened = began.elapsed();
    let (session, _) = assigned(log.as_ref(), asked)?;
    let took = began.elapsed();
    let mut cell = Vec::new();
    for index in [0, asked.cells / 2, asked.cells - 1] {
        if !session.get(u32::try_from(index % u64::from(PARTITIONS))?, &key(index), &mut cell)? || cell != value(index)
        {
            return Err(format!("cell {index} is not what was put").into());
        }
    }
    println!(
        "  {:<28} {:>7.2} s until its partitions are there with their state ({:.2} s of it to open the log), at most {} MiB of memory, {} MiB of files",
        asked.part.as_deref().unwrap_or_default(),
        took.as_secs_f64(),
        opened.as_secs_f64(),
        peak_mib()?,
        bytes_under(&asked.dir)? >> 20,
    );
    Ok(())
}

/// As ids are: no order that would help the store.
fn key(index: u64) -> [u8; 31] {
    let mut key = [0; 31];
    for (place, chunk) in key.chunks_mut(8).enumerate() {
        for (byte, mixed) in chunk.iter_mut().zip(mixed(index ^ (place as u64) << 56).to_be_bytes()) {
            *byte = mixed;
        }
    }
    key
}

fn value(index: u64) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    for (place, chunk) in value.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&mixed(!index ^ (place as u64) << 48).to_be_bytes());
    }
    value
}

/// The finaliser of splitmix64: a bijection without visible order.
fn mixed(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn peak_mib() -> Result<u64, Failed> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
}

fn bytes_under(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_under(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
