//! `types check`: payload types as files, before anything runs by them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::admin::print;
use crate::cli::Place;
use crate::config::{Config, Overrides};
use crate::failure::Failure;
use crate::type_files::{Faults, Types, of_directory, shipped};

#[derive(Debug, Subcommand)]
pub(crate) enum TypesCommand {
    /// Check payload types and run their examples; what is wrong is told by file and pointer
    Check {
        /// A directory with a folder for each type [default: types.directory of the configuration, and the shipped types]
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

pub(crate) fn run(command: &TypesCommand) -> Result<ExitCode, Failure> {
    let TypesCommand::Check { directory, place } = command;
    let checked = match directory {
        Some(directory) => vec![of_directory(directory)],
        None => {
            let overrides = Overrides { profile: place.profile, ..Overrides::default() };
            let config = Config::load(place.config.as_deref(), &place.data, &overrides)
                .map_err(|error| Failure::new("the configuration cannot be used").because(error))?;
            let own = config.types.directory.as_deref().map(of_directory);
            std::iter::once(shipped()).chain(own).collect()
        }
    };
    let mut is_good = true;
    for outcome in checked {
        match outcome {
            Ok(types) => print::out(&told(&types))?,
            Err(Faults(faults)) => {
                is_good = false;
                for fault in faults {
                    print::out(&format!("{fault}\n"))?;
                }
            }
        }
    }
    Ok(ExitCode::from(u8::from(!is_good)))
}

/// One line for each type.
fn told(types: &Types) -> String {
    let mut text = String::new();
    for (name, checked) in types {
        let targets: Vec<&str> = checked.payload_type.targets().collect();
        let becomes = if targets.is_empty() { "itself".to_owned() } else { targets.join(", ") };
        let examples = match checked.examples {
            0 => "no examples".to_owned(),
            1 => "1 example".to_owned(),
            count => format!("{count} examples"),
        };
        text.push_str(&format!("ok {name} -> {becomes}: {examples}, {}\n", checked.payload_type.digest()));
    }
    if types.is_empty() {
        text.push_str("there is no payload type in this directory\n");
    }
    text
}
