//! One process of the binary: the whole pipeline or a role of it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::exactly_once::pipeline::binary;

const READY_DEADLINE: Duration = Duration::from_secs(120);
const STARTS_MAX: usize = 4;
const END_DEADLINE: Duration = Duration::from_secs(60);

pub(super) struct Process {
    data: PathBuf,
    child: Child,
    /// `http://host:port` of its API; empty where it has none.
    pub(super) base: String,
}

/// A command of the binary in a data directory, of which nothing is inherited from whoever runs the tests.
fn command(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COUNTERSIGN_")) {
        command.env_remove(name);
    }
    command.args(words).arg("--data").arg(data);
    command
}

/// Runs a command to its end.
pub(super) fn end_of(data: &Path, words: &[&str]) -> Output {
    command(data, words).stdin(Stdio::null()).output().expect("the binary runs")
}

/// Runs a command to its success and answers its stdout.
pub(super) fn run(data: &Path, words: &[&str]) -> String {
    let done = end_of(data, words);
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "countersign {words:?}: {}: {told}", done.status);
    String::from_utf8(done.stdout).expect("UTF-8")
}

/// Runs `verify` over lines on its stdin.
pub(super) fn verify(words: &[&str], lines: &str) -> Output {
    let mut command = Command::new(binary());
    command.arg("verify").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("its stdin");
    let lines = lines.to_owned();
    let writing = std::thread::spawn(move || drop(stdin.write_all(lines.as_bytes())));
    let done = child.wait_with_output().expect("it ends");
    writing.join().expect("the writer ends");
    done
}

impl Process {
    /// Starts a role and waits until it is ready. One that gives up because its broker is only just starting is started
    /// again, as an orchestrator does.
    pub(super) fn start(data: &Path, role: &str) -> Self {
        let mut said = String::new();
        for _ in 0..STARTS_MAX {
            match Self::start_once(data, role) {
                Ok(process) => return process,
                Err(ended) => said = ended,
            }
        }
        panic!("{role} does not start: {said}")
    }

    /// What it said, where it ended instead of being ready.
    fn start_once(data: &Path, role: &str) -> Result<Self, String> {
        let stderr = File::create(data.join(format!("{role}.log"))).expect("a file for its stderr");
        let mut command = command(data, &[role, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("its stdout");
        let (told, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more once it is ready.
                drop(told.send(line));
            }
        });
        let mut process = Self { data: data.to_owned(), child, base: String::new() };
        loop {
            let line = match lines.recv_timeout(READY_DEADLINE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return Err(process.said(role)),
                Err(RecvTimeoutError::Timeout) => panic!("not ready: {}", process.said(role)),
            };
            if let Some(rest) = line.strip_prefix("ready ") {
                let base = rest.split(' ').find_map(|word| word.strip_prefix("http="));
                process.base = base.unwrap_or_default().to_owned();
                return Ok(process);
            }
        }
    }

    /// What it said on stderr.
    pub(super) fn said(&self, role: &str) -> String {
        std::fs::read_to_string(self.data.join(format!("{role}.log"))).expect("its stderr")
    }

    /// SIGTERM, and its clean end.
    pub(super) fn stop(mut self, role: &str) {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(told.success());
        let deadline = std::time::Instant::now() + END_DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("its state is known") {
                assert!(status.success(), "{role}: {status} after SIGTERM: {}", self.said(role));
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{role}: no end after SIGTERM: {}", self.said(role));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
