//! The pipeline of a demo: `countersign up` as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::Url;

use crate::data_dir::{DataDir, Run};
use crate::failure::{Doing as _, Failure};

/// A running `up`; ended when dropped.
pub(crate) struct Pipeline {
    child: Child,
    pub(crate) http: Url,
    pub(crate) admin: SocketAddr,
}

impl Pipeline {
    /// Starts it on free ports and waits until it says that it is ready.
    pub(crate) fn start(data: &Path) -> Result<Self, Failure> {
        let binary = std::env::current_exe().doing("this binary cannot be found")?;
        let mut child = Command::new(binary)
            .args(["up", "--profile", "local", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .doing("the pipeline cannot be started")?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::new("the pipeline has no stdout"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).doing("the pipeline cannot be read")?;
        let run = if line.starts_with("ready ") {
            DataDir::open(data).doing("the data directory is gone")?.running()
        } else {
            None
        };
        match run {
            Some(Run { http: Some(http), admin, .. }) => {
                let http = Url::parse(&format!("http://{http}/")).doing("the pipeline's address is not a URL")?;
                Ok(Self { child, http, admin })
            }
            _ => {
                drop(child.kill());
                drop(child.wait());
                Err(Failure::new("the pipeline did not become ready").try_this("its own message stands above"))
            }
        }
    }

    /// SIGTERM, and its clean end.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().doing("the pipeline cannot be told to end")?;
        let status = self.child.wait().doing("the pipeline's end cannot be awaited")?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("the pipeline ended with {status}"))) }
    }

    /// Until it ends: Ctrl-C reaches it too.
    pub(crate) fn wait(mut self) -> Result<(), Failure> {
        // Our own end must not come before the child's, whose signal the terminal sends to both.
        crate::client::block_on(async {
            drop(tokio::signal::ctrl_c().await);
        })?;
        drop(self.child.wait());
        Ok(())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
