//! Long runs of the simulation: `cargo run --release -p countersign-log --features hostile --example hostile -- --schedules 10000 --seed 1`.
//!
//! With `--removed` a rule is taken out from beneath the log, to see at which seed that is found.

#![allow(clippy::print_stdout, reason = "this is its output")]

#[path = "../tests/hostile/oracle.rs"]
mod oracle;
#[path = "../tests/hostile/step.rs"]
mod step;
#[path = "../tests/hostile/story.rs"]
mod story;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use countersign_log::kafka::hostile::{REMOVED, Removed};
use parking_lot::Mutex;

struct Asked {
    schedules: u64,
    seed: u64,
    threads: usize,
    removed: Option<Removed>,
}

fn asked() -> Result<Asked, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut asked = Asked { schedules: 1_000, seed: 0, threads, removed: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{word} {value}: {error}"));
        match word.as_str() {
            "--schedules" => asked.schedules = number()?,
            "--seed" => asked.seed = number()?,
            "--threads" => asked.threads = usize::try_from(number()?).unwrap_or(1),
            "--removed" => {
                let found = REMOVED.iter().find(|removed| format!("{removed:?}") == value);
                asked.removed = Some(*found.ok_or_else(|| format!("the rules are {REMOVED:?}"))?);
            }
            _ => return Err(format!("what is {word}? --schedules, --seed, --threads and --removed are known")),
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(why) => {
            println!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let began = Instant::now();
    let next = AtomicU64::new(asked.seed);
    let end = asked.seed.saturating_add(asked.schedules);
    let failed = Mutex::new(Vec::new());
    let sum = Mutex::new(story::Told::default());
    std::thread::scope(|scope| {
        for _ in 0..asked.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    match story::tell(seed, asked.removed) {
                        Ok(told) => {
                            let mut sum = sum.lock();
                            sum.simulated += told.simulated;
                            sum.processes += told.processes;
                            sum.faults += told.faults;
                            sum.inputs += told.inputs;
                        }
                        Err(why) => {
                            println!("seed {seed}: {why}");
                            failed.lock().push(seed);
                        }
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let (sum, mut failed) = (*sum.lock(), failed.into_inner());
    failed.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_minute = asked.schedules as f64 * 60.0 / seconds;
    println!(
        "{} schedules in {seconds:.1} s, {per_minute:.0} a minute; {} s simulated, {} processes, {} faults, {} inputs",
        asked.schedules,
        sum.simulated.as_secs(),
        sum.processes,
        sum.faults,
        sum.inputs
    );
    println!("{} failed: {:?}", failed.len(), failed.iter().take(20).collect::<Vec<_>>());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
