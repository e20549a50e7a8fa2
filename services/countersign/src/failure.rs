//! How a command fails: what happened, why, and what to do about it.

use std::error::Error;
use std::fmt;

/// A failure to be told to a person.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    /// What the person can do; empty where there is nothing better than the message.
    advice: String,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None, advice: String::new() }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub(crate) fn try_this(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// On stderr, with the whole chain of causes.
    pub(crate) fn tell(&self) {
        eprintln!("countersign: {self}");
        let mut cause = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = cause {
            eprintln!("  because: {error}");
            cause = error.source();
        }
        if !self.advice.is_empty() {
            eprintln!("  try: {}", self.advice);
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Names what was being done when something failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(what).because(error))
    }
}
