//! The one binary: the whole pipeline, each role by name, and the commands around them.
//!
//! Only this crate knows every service. `cli` says what can be asked, `commands` does it, `up` runs the roles.

mod admin;
mod cli;
mod client;
mod commands;
mod config;
mod data_dir;
mod failure;
mod patience;
mod roles;
mod substrate;
mod telemetry;
mod topics;
mod type_files;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(code) => code,
        Err(failure) => {
            failure.tell();
            ExitCode::from(2)
        }
    }
}
