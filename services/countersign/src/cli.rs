//! What can be asked of `countersign`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Overrides, Profile};
use crate::roles::Role;

/// An exactly-once exchange pipeline: admit once, countersign, deliver, meter, settle, and let anyone check it.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where a command finds its data and its configuration.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// Directory of the log, the databases and the keys
    #[arg(long, value_name = "DIR", default_value = "./.countersign", env = "COUNTERSIGN_DATA")]
    pub(crate) data: PathBuf,
    /// Configuration file [default: DIR/countersign.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// `local`: embedded log and SQLite; `cluster`: Kafka and PostgreSQL
    #[arg(long, value_enum)]
    pub(crate) profile: Option<Profile>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Address of the API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address of health, metrics and administration [default: 127.0.0.1:9464]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) admin: Option<SocketAddr>,
}

impl Serve {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides { profile: self.place.profile, listen: self.listen, admin: self.admin }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole pipeline in this process
    Up(Serve),
    /// One role alone, so that each can have a host of its own
    #[command(flatten)]
    Role(RoleCommand),
    /// Send documents and show how it goes
    Send(crate::commands::send::SendArgs),
    /// Work out what we would: canonical form, fees, address rules and more, a JSON request a line
    Eval(crate::commands::eval::EvalArgs),
    /// Verify a receipt, a chain or a bundle offline
    Verify(crate::commands::verify::VerifyArgs),
    /// Where an exchange is: each hop, receipt, usage and postings
    Why(crate::commands::why::WhyArgs),
    /// API keys of tenants
    #[command(subcommand)]
    Keys(crate::commands::keys::KeysCommand),
    /// Keys that sign receipts and bundles: a new one without a gap, and which there are
    #[command(subcommand)]
    SigningKeys(crate::commands::signing_keys::SigningKeysCommand),
    /// Settings of tenants
    #[command(subcommand)]
    Tenants(crate::commands::tenants::TenantsCommand),
    /// Producers that write to the request topic themselves
    #[command(subcommand)]
    Producers(crate::commands::producers::ProducersCommand),
    /// Webhook secrets of tenants
    #[command(subcommand)]
    Webhooks(crate::commands::tenants::WebhooksCommand),
    /// The topics that the pipeline needs
    #[command(subcommand)]
    Topics(crate::commands::topics::TopicsCommand),
    /// Payload types: what may be mapped into what
    #[command(subcommand)]
    Types(crate::commands::types::TypesCommand),
    /// Records that could not be processed
    #[command(subcommand)]
    Dead(crate::commands::dead::DeadCommand),
    /// Close the books and say whether they hold; `--serve` runs the role
    Audit(crate::commands::audit::AuditArgs),
    /// Run the role that answers every GET; `view rebuild` fills its read model anew
    View(crate::commands::view::ViewArgs),
    /// The effective configuration
    #[command(subcommand)]
    Config(crate::commands::config::ConfigCommand),
    /// What is missing on this machine, and how to get it
    Doctor(Place),
    /// Run the shipped documents, or yours, through a pipeline of their own and close the books
    Demo(crate::commands::demo::DemoArgs),
}

/// Each role by name.
#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Accept requests over HTTP
    Ingest(Serve),
    /// Admit each exchange once
    Canonicalise(Serve),
    /// Chain and sign receipts
    Sign(Serve),
    /// Count usage and state what is owed
    Meter(Serve),
    /// Post to the ledger
    Settle(Serve),
    /// Deliver payloads
    Forward(Serve),
}

impl RoleCommand {
    pub(crate) fn split(self) -> (Role, Serve) {
        match self {
            Self::Ingest(serve) => (Role::Ingest, serve),
            Self::Canonicalise(serve) => (Role::Canonicalise, serve),
            Self::Sign(serve) => (Role::Sign, serve),
            Self::Meter(serve) => (Role::Meter, serve),
            Self::Settle(serve) => (Role::Settle, serve),
            Self::Forward(serve) => (Role::Forward, serve),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
