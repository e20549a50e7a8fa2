//! `audit`: the books, and whether they hold; `--serve` runs the role that keeps them.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::admin::books::{self, BooksAnswer, CutLine, CutRequest, WaitsFor};
use crate::admin::{Reach, print};
use crate::cli::Serve;
use crate::client::AdminClient;
use crate::config::Profile;
use crate::failure::Failure;
use crate::roles::Role;

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Run the role: keep the books and publish them as hours end
    #[arg(long = "serve", conflicts_with_all = ["cut", "json"])]
    runs_role: bool,
    /// Close the books up to this moment, instead of showing the hours that were published
    #[arg(long, value_enum, value_name = "WHEN")]
    cut: Option<Cut>,
    /// How long to wait for the steps to pass the cut, and for what follows from it. Then the books are shown as they are
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    deadline: u64,
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cut {
    Now,
}

/// Exit code 1 where something does not hold.
pub(crate) fn run(args: &AuditArgs) -> Result<ExitCode, Failure> {
    if args.runs_role {
        return crate::up::run(&args.serve, &[Role::Audit]);
    }
    let answer: BooksAnswer = match (Reach::find(&args.serve.place)?, args.cut) {
        (Reach::Beside(admin), None) => admin.get("audit/report", &[])?,
        (Reach::Beside(admin), Some(Cut::Now)) => cut_beside(&admin, &CutRequest { deadline_s: args.deadline })?,
        (Reach::Here(here), None) => books::report(here.log.as_ref())?,
        (Reach::Here(here), Some(Cut::Now)) => {
            // With an embedded log and nothing running, no step will pass anything: there is nothing to wait for.
            let deadline_s = if here.config.profile == Profile::Local { 0 } else { args.deadline };
            let mut told = Told::default();
            books::cut_now(here.log.as_ref(), &CutRequest { deadline_s }, &mut |waits| {
                told.tell(&waits);
                true
            })?
        }
    };
    if args.json {
        print::json(&answer.report)?
    } else {
        print::out(&answer.table)?
    }
    Ok(if answer.closed { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Has the process that runs here close the books, and tells meanwhile what it waits for.
pub(crate) fn cut_beside(admin: &AdminClient, request: &CutRequest) -> Result<BooksAnswer, Failure> {
    let mut told = Told::default();
    admin.post_lines("audit/cut-now", request, |line| match line {
        CutLine::Waiting(waits) => {
            told.tell(&waits);
            Ok(None)
        }
        CutLine::Books(books) => Ok(Some(books)),
        CutLine::Trouble(trouble) => Err(trouble.into()),
    })
}

/// What a person at the terminal was told while they wait; it goes to stderr, for stdout belongs to the books.
#[derive(Default)]
struct Told {
    how_to_stop: bool,
}

impl Told {
    fn tell(&mut self, waits: &WaitsFor) {
        eprint!("{}", waits.told());
        if !std::mem::replace(&mut self.how_to_stop, true) {
            eprintln!("  Ctrl-C stops waiting and publishes nothing; `countersign why EXCHANGE` tells where one is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Audit {
        #[command(flatten)]
        args: AuditArgs,
    }

    #[test]
    fn the_role_and_the_question_do_not_mix() {
        let parse = |words: &[&str]| Audit::try_parse_from(["audit"].iter().chain(words));
        assert_eq!(parse(&["--cut", "now", "--json"]).unwrap().args.cut, Some(Cut::Now));
        assert!(parse(&["--serve", "--admin", "127.0.0.1:0"]).unwrap().args.runs_role);
        assert!(parse(&["--serve", "--cut", "now"]).is_err());
        assert!(parse(&["--cut", "tomorrow"]).is_err());
    }
}
