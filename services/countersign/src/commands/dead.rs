//! `dead list|show|replay`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::admin::{Reach, dead, print};
use crate::cli::Place;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters with their reasons
    List {
        /// Only those of this step: canonicalise, sign, meter, meter.tally, settle or forward
        #[arg(long, value_name = "STEP")]
        step: Option<String>,
        #[command(flatten)]
        how: DeadArgs,
    },
    /// Show one with everything in it
    Show {
        #[arg(value_name = "STEP:PARTITION:OFFSET")]
        letter: String,
        #[command(flatten)]
        how: DeadArgs,
    },
    /// Send one back to its step, or all of a step that did not go back yet
    Replay {
        #[arg(value_name = "STEP:PARTITION:OFFSET", required_unless_present = "all", conflicts_with = "all")]
        letter: Option<String>,
        /// All of the step
        #[arg(long, requires = "step")]
        all: bool,
        #[arg(long, value_name = "STEP", requires = "all")]
        step: Option<String>,
        #[command(flatten)]
        how: DeadArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DeadArgs {
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

pub(crate) fn run(command: &DeadCommand) -> Result<ExitCode, Failure> {
    match command {
        DeadCommand::List { step, how } => {
            let request = dead::ListRequest { step: step.clone() };
            let letters = match Reach::find(&how.place)? {
                Reach::Beside(admin) => match step {
                    Some(step) => admin.get("dead", &[("step", step)])?,
                    None => admin.get("dead", &[])?,
                },
                Reach::Here(here) => dead::list(here.log.as_ref(), &request)?,
            };
            if how.json { print::json(&letters)? } else { print::out(&letters.told())? }
        }
        DeadCommand::Show { letter, how } => {
            // Read here too: what is no letter must not become another path of the address.
            let id: dead::LetterId = letter.parse()?;
            let shown = match Reach::find(&how.place)? {
                Reach::Beside(admin) => admin.get(&format!("dead/{id}"), &[])?,
                Reach::Here(here) => dead::show(here.log.as_ref(), &id)?,
            };
            if how.json { print::json(&shown)? } else { print::out(&shown.told())? }
        }
        DeadCommand::Replay { letter, step, how, .. } => {
            let request = match (letter, step) {
                (Some(letter), _) => dead::ReplayRequest::Letter(letter.clone()),
                (None, Some(step)) => dead::ReplayRequest::Step(step.clone()),
                (None, None) => return Err(Failure::new("name a dead letter, or --all --step STEP")),
            };
            let replayed = match Reach::find(&how.place)? {
                Reach::Beside(admin) => admin.post("dead/replay", &request)?,
                Reach::Here(here) => dead::replay(here.log.as_ref(), &request)?,
            };
            if how.json { print::json(&replayed)? } else { print::out(&replayed.told())? }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Dead {
        #[command(subcommand)]
        command: DeadCommand,
    }

    #[test]
    fn replay_takes_a_letter_or_all_of_a_step() {
        let parse = |words: &[&str]| Dead::try_parse_from(["dead", "replay"].iter().chain(words));
        assert!(parse(&["sign:0:1"]).is_ok());
        assert!(parse(&["--all", "--step", "sign"]).is_ok());
        for wrong in [&[][..], &["--all"], &["--step", "sign"], &["sign:0:1", "--all", "--step", "sign"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
