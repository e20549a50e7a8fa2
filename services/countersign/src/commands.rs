//! One file for each command. A command that needs the log asks the process that holds it, by its admin address; with
//! none running it opens the log itself.

pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod keys;
pub(crate) mod producers;
pub(crate) mod send;
pub(crate) mod signing_keys;
pub(crate) mod tenants;
pub(crate) mod topics;
pub(crate) mod types;
pub(crate) mod verify;
pub(crate) mod view;
pub(crate) mod why;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::roles::Role;

/// Does what was asked; the exit code is 0 for success, 1 for "checked and found wanting", 2 for failure.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Up(serve) => crate::up::run(&serve, Role::ALL),
        Command::Role(role) => {
            let (role, serve) = role.split();
            crate::up::run(&serve, &[role])
        }
        Command::Send(args) => send::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Keys(command) => keys::run(&command),
        Command::SigningKeys(command) => signing_keys::run(&command),
        Command::Tenants(command) => tenants::run(&command),
        Command::Webhooks(command) => tenants::run_webhooks(&command),
        Command::Producers(command) => producers::run(&command),
        Command::Topics(command) => topics::run(&command),
        Command::Types(command) => types::run(&command),
        Command::Dead(command) => dead::run(&command),
        Command::Audit(args) => audit::run(&args),
        Command::View(args) => view::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Doctor(place) => doctor::run(&place),
        Command::Demo(args) => demo::run(&args),
    }
}
