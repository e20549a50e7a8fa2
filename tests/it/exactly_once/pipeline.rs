//! `countersign up` as a process that is killed and started again.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;

/// From the start of the process to `ready`, with everything that a restart has to take up.
const READY_DEADLINE: Duration = Duration::from_secs(120);
const END_DEADLINE: Duration = Duration::from_secs(60);
/// How much of what it said is shown when it fails.
const TAIL_BYTES: u64 = 6_000;

/// The binary of the same build as this test.
pub(crate) fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    let binary = test.parent().and_then(Path::parent).expect("target/<profile>/deps").join("countersign");
    assert!(binary.is_file(), "{} is not built: run `scripts/test pipeline`, or `cargo build` first", binary.display());
    binary
}

pub(super) struct Pipeline {
    data: PathBuf,
    child: Option<Child>,
    base: watch::Sender<Option<String>>,
    starts: usize,
}

impl Pipeline {
    pub(super) fn new(data: &Path) -> Self {
        Self { data: data.to_owned(), child: None, base: watch::Sender::new(None), starts: 0 }
    }

    /// Where the API is at the moment; `None` while it is not.
    pub(super) fn base(&self) -> watch::Receiver<Option<String>> {
        self.base.subscribe()
    }

    /// A command of the binary, of which nothing is inherited from whoever runs the tests.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COUNTERSIGN_")) {
            command.env_remove(name);
        }
        command.args(words).arg("--data").arg(&self.data).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end and answers its exit status and stdout.
    pub(super) fn run(&self, words: &[&str]) -> (ExitStatus, String) {
        let done = self.command(words).output().expect("the binary runs");
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code().is_some_and(|code| code < 2), "countersign {words:?}: {}: {told}", done.status);
        (done.status, String::from_utf8(done.stdout).expect("UTF-8"))
    }

    fn stderr(&self) -> PathBuf {
        self.data.join(format!("up.{}.log", self.starts))
    }

    /// Starts the process; the lines of its stdout come over the channel.
    fn spawn(&mut self) -> Receiver<String> {
        assert!(self.child.is_none(), "it runs already");
        self.starts += 1;
        let stderr = File::create(self.stderr()).expect("a file for its stderr");
        let mut command = self.command(&["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().expect("the pipeline starts");
        let stdout = child.stdout.take().expect("its stdout");
        let (told, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more once it is ready.
                drop(told.send(line));
            }
        });
        self.child = Some(child);
        lines
    }

    /// Starts it and waits until it is ready; what it said where it ended instead.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let lines = self.spawn();
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(base) = line.strip_prefix("ready http=").and_then(|rest| rest.split(' ').next()) {
                        self.base.send_replace(Some(base.to_owned()));
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("not ready after {READY_DEADLINE:?}; it said: {}", self.said())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.take().expect("it was started").wait().expect("its status");
                    return Err(format!("{status} instead of ready: {}", self.said()));
                }
            }
        }
    }

    /// Starts it and kills it so much later, ready or not.
    pub(super) fn start_and_kill(&mut self, after: Duration) {
        let lines = self.spawn();
        let deadline = Instant::now() + after;
        // The moment of the kill is what is random here; nothing is awaited.
        while lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
        self.kill();
    }

    /// kill -9.
    pub(super) fn kill(&mut self) {
        self.base.send_replace(None);
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
    }

    /// Whether it has ended of itself, with what it said.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().expect("its state is known")?;
        self.child = None;
        self.base.send_replace(None);
        Some(format!("{status}: {}", self.said()))
    }

    /// SIGTERM, and its clean end.
    pub(super) fn stop(&mut self) {
        self.base.send_replace(None);
        let mut child = self.child.take().expect("it runs");
        let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
        assert!(told.success());
        let (done, ended) = channel();
        let waiting = std::thread::spawn(move || drop(done.send(child.wait())));
        let status = ended
            .recv_timeout(END_DEADLINE)
            .unwrap_or_else(|_| panic!("no end after SIGTERM; it said: {}", self.said()));
        waiting.join().expect("the waiter ends");
        let status = status.expect("its status");
        assert!(status.success(), "{status} after SIGTERM; it said: {}", self.said());
    }

    /// The end of its stderr.
    pub(super) fn said(&self) -> String {
        let mut text = Vec::new();
        let mut file = File::open(self.stderr()).expect("its stderr");
        let length = file.metadata().expect("its length").len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).expect("its end");
        file.read_to_end(&mut text).expect("it can be read");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Closes the books of what was sent so far: whether they are closed, and what they say.
    pub(super) fn close_books(&self, deadline: Duration) -> (bool, Value) {
        let seconds = deadline.as_secs().to_string();
        let (status, told) = self.run(&["audit", "--cut", "now", "--json", "--deadline", &seconds]);
        let report: Value =
            serde_json::from_str(&told).unwrap_or_else(|error| panic!("the books are no JSON: {error}: {told}"));
        assert_eq!(status.success(), report["closed"] == true, "exit code and report agree");
        (status.success(), report)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
