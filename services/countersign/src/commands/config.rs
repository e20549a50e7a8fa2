//! `config show`.

use std::process::ExitCode;

use clap::Subcommand;

use crate::admin::print;
use crate::cli::{Place, Serve};
use crate::config::Config;
use crate::failure::{Doing as _, Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the effective configuration with secrets hidden: defaults, then the file, then COUNTERSIGN_ variables
    Show(Serve),
}

pub(crate) fn run(command: &ConfigCommand) -> Result<ExitCode, Failure> {
    let ConfigCommand::Show(serve) = command;
    let Place { data, config, .. } = &serve.place;
    let effective = Config::load(config.as_deref(), data, &serve.overrides()).map_err(|error| {
        Failure::new("the configuration cannot be used")
            .because(error)
            .try_this("correct the key that is named; what is unknown is refused, lest a misspelt key be ignored")
    })?;
    print::out(&effective.shown().doing("the configuration cannot be written as TOML")?)?;
    Ok(ExitCode::SUCCESS)
}
