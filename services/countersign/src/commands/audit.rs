//! `audit`: the books, and whether they hold; `--serve` runs the role that keeps them.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::admin::{Reach, books, print};
use crate::cli::Serve;
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
    /// How long to wait for the steps to pass the cut
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
    let answer: books::BooksAnswer = match (Reach::find(&args.serve.place)?, args.cut) {
        (Reach::Beside(admin), None) => admin.get("audit/report", &[])?,
        (Reach::Beside(admin), Some(Cut::Now)) => {
            admin.post("audit/cut-now", &books::CutRequest { deadline_s: args.deadline })?
        }
        (Reach::Here(here), None) => books::report(here.log.as_ref())?,
        (Reach::Here(here), Some(Cut::Now)) => {
            // With an embedded log and nothing running, no step will pass anything: there is nothing to wait for.
            let deadline_s = if here.config.profile == Profile::Local { 0 } else { args.deadline };
            books::cut_now(here.log.as_ref(), &books::CutRequest { deadline_s })?
        }
    };
    if args.json {
        print::json(&answer.report)?
    } else {
        print::out(&answer.table)?
    }
    Ok(if answer.closed { ExitCode::SUCCESS } else { ExitCode::from(1) })
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
