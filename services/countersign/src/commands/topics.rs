//! `topics apply|check`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::admin::{Reach, print, topics};
use crate::cli::Place;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Make the topics that are missing and the first offsets of the groups; what exists is never altered
    Apply(TopicsArgs),
    /// Name what is missing or differs, and change nothing; exit code 1 if anything does
    Check(TopicsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TopicsArgs {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(command: &TopicsCommand) -> Result<ExitCode, Failure> {
    let (TopicsCommand::Apply(args) | TopicsCommand::Check(args)) = command;
    let answer: topics::TopicsAnswer = match (Reach::find(&args.place)?, command) {
        (Reach::Beside(admin), TopicsCommand::Apply(_)) => admin.post("topics", &serde_json::json!({}))?,
        (Reach::Beside(admin), TopicsCommand::Check(_)) => admin.get("topics", &[])?,
        (Reach::Here(here), TopicsCommand::Apply(_)) => topics::apply(here.log.as_ref(), &here.config)?,
        (Reach::Here(here), TopicsCommand::Check(_)) => topics::check(here.log.as_ref(), &here.config)?,
    };
    if args.json {
        print::json(&answer)?
    } else {
        print::out(&answer.told())?
    }
    Ok(if answer.holds() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
