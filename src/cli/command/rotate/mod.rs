//! `firebreak rotate`: replace credentials and prove the old ones dead. One engine behind all of it, the playbook `rotate`.
//!
//! The long way: `plan` looks, pins the plan and parks; `show` prints it; `approve` decides; `apply` and `resume` carry it on; `status` and
//! `report` say where it stands. The officer's short way, `user` and `secret`, goes through the same steps with one confirmation.

mod begin;
mod draft;
mod go_on;
mod live;
mod place;
mod select;
mod show;
mod text;
mod voice;

use crate::cli::cloud::AccountArgs;
use crate::cli::cluster::ClusterArgs;
use crate::cli::error::CliResult;
use crate::cli::session::Session;

use super::approve::ApproveArgs;
use super::run::tokio_run;

pub use select::{Mode, Selectors};

/// Arguments of `firebreak rotate`.
#[derive(Debug, clap::Subcommand)]
pub enum RotateCommand {
    /// Draft a rotation map from what can be seen, and mark what a person must fill in
    Map(draft::MapArgs),
    /// Show which credentials a selection means, and why; nothing is written
    Select(begin::SelectArgs),
    /// Look, pin the plan, and park until it is approved
    Plan(begin::PlanArgs),
    /// Print a rotation plan
    Show {
        /// Beginning of its digest; the newest if not named
        plan: Option<String>,
    },
    /// Approve (or refuse) what waits
    Approve(ApproveArgs),
    /// Carry out what was approved
    Apply(GoOnArgs),
    /// Go on after a crash, a wait or a person's work
    Resume(GoOnArgs),
    /// Where each credential stands, and what is not proven
    Status,
    /// Build the document and print the table of credentials
    Report,
    /// The short way: replace the access keys of these users
    User(begin::ShortArgs),
    /// The short way: replace the passwords or keys in these secrets
    Secret(begin::ShortArgs),
}

/// Arguments of `rotate apply` and `rotate resume`.
#[derive(Debug, clap::Args)]
pub struct GoOnArgs {
    #[command(flatten)]
    speak: Speak,
    #[command(flatten)]
    outside: OutsideArgs,
}

/// What a rotation works on.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct OutsideArgs {
    #[command(flatten)]
    account: AccountArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Work without a cluster, even where one is configured: consumers are then a person's to restart
    #[arg(long)]
    no_cluster: bool,
}

/// How a rotation that goes on is decided and told.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Speak {
    /// Why, for the document
    #[arg(long)]
    reason: Option<String>,
    /// The word that is asked for, where there is no terminal
    #[arg(long, value_name = "WORD")]
    confirm: Option<String>,
    /// Each entry as one line of JSON on stdout, as it becomes durable
    #[arg(long, conflicts_with = "json")]
    jsonl: bool,
}

/// Runs it.
pub fn run(session: &mut Session, command: &RotateCommand) -> CliResult {
    match command {
        RotateCommand::Map(args) => tokio_run(draft::run(session, args)),
        RotateCommand::Select(args) => tokio_run(begin::select(session, args)),
        RotateCommand::Plan(args) => tokio_run(begin::plan(session, args)),
        RotateCommand::Show { plan } => show::plan(session, plan.as_deref()),
        RotateCommand::Approve(args) => tokio_run(super::approve::run(session, args)),
        RotateCommand::Apply(args) | RotateCommand::Resume(args) => {
            tokio_run(go_on::run(session, args))
        }
        RotateCommand::Status => show::status(session),
        RotateCommand::Report => show::report(session),
        RotateCommand::User(args) => tokio_run(begin::users(session, args)),
        RotateCommand::Secret(args) => tokio_run(begin::secrets(session, args)),
    }
}
