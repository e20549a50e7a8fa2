//! `eval`: the pure functions as a filter, one JSON request a line in, one JSON answer a line out, in the same order.
//!
//! The rules live in `event`, `proof`, `billing` and `compat`; this is only their door. It reads no file, no clock and no
//! configuration: the same line gives the same answer everywhere.

mod addresses;
mod documents;
mod function;
mod money;
mod request;
mod webhooks;

use std::io::{ErrorKind, Read, Write};
use std::process::ExitCode;

use clap::{Args, ValueEnum as _};

use self::function::Function;
use crate::admin::print;
use crate::failure::{Doing as _, Failure};

/// A longer line is answered and passed over. A payload of 256 KiB fits, even where every character is escaped twice.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Read, and written, at once.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// What to work out
    #[arg(value_enum, required_unless_present = "list")]
    function: Option<Function>,
    /// Print the functions
    #[arg(long, conflicts_with = "function")]
    list: bool,
    /// Print a few requests with their answers, one pair a line
    #[arg(long)]
    example: bool,
}

/// Exit code 0 when every line was answered: a refusal is an answer.
pub(crate) fn run(args: &EvalArgs) -> Result<ExitCode, Failure> {
    match args.function {
        None => print::out(&listed())?,
        Some(function) if args.example => print::out(&examples(function))?,
        Some(function) => {
            filter(std::io::stdin().lock(), std::io::stdout().lock(), |line| function.answer(line))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn listed() -> String {
    let names = Function::value_variants().iter().filter_map(|function| function.to_possible_value());
    names.map(|name| format!("{}\n", name.get_name())).collect()
}

fn examples(function: Function) -> String {
    let pairs = function.examples().iter().map(|request| {
        let answer = function.answer(request.as_bytes());
        format!("{{\"request\":{request},\"answer\":{answer}}}\n")
    });
    pairs.collect()
}

/// Answers every line. What is answered is written before more is waited for, so that a co-process can wait for it.
fn filter(mut input: impl Read, mut output: impl Write, answer: impl Fn(&[u8]) -> String) -> Result<(), Failure> {
    let mut lines = Lines { pending: Vec::new(), is_skipping: false };
    let mut answers = Vec::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        if !flushed(&mut output, &mut answers)? {
            return Ok(());
        }
        let read = match input.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.doing("stdin cannot be read")?,
        };
        let mut rest = piece.get(..read).unwrap_or_default();
        if rest.is_empty() {
            lines.end(&answer, &mut answers);
            flushed(&mut output, &mut answers)?;
            return Ok(());
        }
        while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
            let (line, after) = rest.split_at(at);
            lines.complete(line, &answer, &mut answers);
            rest = after.get(1..).unwrap_or_default();
            if answers.len() >= PIECE_BYTES && !flushed(&mut output, &mut answers)? {
                return Ok(());
            }
        }
        lines.keep(rest);
    }
}

/// Whether somebody still reads: one who has read enough (`| head`) is no failure.
fn flushed(output: &mut impl Write, answers: &mut Vec<u8>) -> Result<bool, Failure> {
    if answers.is_empty() {
        return Ok(true);
    }
    let written = output.write_all(answers).and_then(|()| output.flush());
    answers.clear();
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.doing("stdout cannot be written").map(|()| true),
    }
}

/// Puts lines together from pieces, in bounded memory.
struct Lines {
    /// The beginning of a line that has not ended.
    pending: Vec<u8>,
    /// The line is too long; the rest of it is passed over.
    is_skipping: bool,
}

impl Lines {
    fn keep(&mut self, part: &[u8]) {
        if self.is_skipping || part.is_empty() {
            return;
        }
        if self.pending.len() + part.len() > LINE_BYTES_MAX {
            self.pending = Vec::new();
            self.is_skipping = true;
        } else {
            self.pending.extend_from_slice(part);
        }
    }

    fn complete(&mut self, last: &[u8], answer: impl Fn(&[u8]) -> String, answers: &mut Vec<u8>) {
        let text = if self.pending.is_empty() && !self.is_skipping {
            answer(last)
        } else {
            self.keep(last);
            if self.is_skipping { request::too_long() } else { answer(&self.pending) }
        };
        answers.extend_from_slice(text.as_bytes());
        answers.push(b'\n');
        self.pending.clear();
        self.is_skipping = false;
    }

    /// A last line need not end in a newline.
    fn end(&mut self, answer: impl Fn(&[u8]) -> String, answers: &mut Vec<u8>) {
        if self.is_skipping || !self.pending.is_empty() {
            self.complete(b"", answer, answers);
        }
    }
}

#[cfg(test)]
mod tests;
