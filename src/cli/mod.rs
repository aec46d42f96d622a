//! The command line: the composition root. Only here are adapters named and clap known.
//!
//! stdout is the answer, stderr the story; `--json` carries the same facts from the same values. Every error has a code, a hint that can be
//! typed, and one of the exit codes of [`exit::Exit`].

pub mod bench;
pub mod cloud;
pub mod cluster;
pub mod command;
pub mod compose;
pub mod config;
pub mod error;
pub mod exit;
pub mod explain;
pub mod operator;
pub mod output;
pub mod session;
pub mod unopened;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use command::contain::ContainCommand;
use command::drill::DrillCommand;
use command::evidence::EvidenceCommand;
use command::incident::IncidentCommand;
use command::log::LogArgs;
use command::permissions::PermissionsArgs;
use command::playbook::PlaybookCommand;
use command::policy::PolicyCommand;
use command::report::ReportCommand;
use command::rotate::RotateCommand;
use command::verify::VerifyArgs;
use error::CliResult;
use output::{ColorWhen, Output};
use session::Session;

/// Contain a breach, prove it, preserve evidence and document it, on one signed ledger
#[derive(Debug, Parser)]
#[command(
    name = "firebreak",
    version,
    disable_help_subcommand = true,
    max_term_width = 110
)]
#[command(
    after_help = "First minute: firebreak doctor · firebreak contain pod NS/NAME · firebreak verify --last\nExit codes: firebreak help exit-codes · any code: firebreak explain FB0602"
)]
pub struct Cli {
    /// Incident, where several are open
    #[arg(long, global = true, value_name = "ID")]
    incident: Option<String>,
    /// The answer as one JSON document
    #[arg(long, global = true)]
    json: bool,
    /// Colour
    #[arg(long, global = true, value_enum, default_value_t = ColorWhen::Auto)]
    color: ColorWhen,
    /// Never ask; refuse instead
    #[arg(long, global = true)]
    no_input: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at cluster, rights, network plugin, clock and disk; changes nothing
    Doctor(command::doctor::DoctorArgs),
    /// Capture, isolate, prove, preserve and document
    #[command(subcommand)]
    Contain(ContainCommand),
    /// Replace credentials and prove the old ones dead
    #[command(subcommand)]
    Rotate(Box<RotateCommand>),
    /// Verify ledger and bags
    Verify(VerifyArgs),
    /// Declare, follow and close an incident
    #[command(subcommand)]
    Incident(IncidentCommand),
    /// Go on with the open run
    Resume {
        /// The incident's id
        id: Option<String>,
        /// Which run
        #[command(flatten)]
        run: command::run_choice::RunArg,
    },
    /// Take evidence in, seal it, verify it
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Print the history of an incident
    Log(LogArgs),
    /// Read, check, plan, approve and carry out playbooks
    #[command(subcommand)]
    Playbook(PlaybookCommand),
    /// Build and check the incident document
    #[command(subcommand)]
    Report(ReportCommand),
    /// Rehearse a playbook
    #[command(subcommand)]
    Drill(DrillCommand),
    /// Who may approve
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Print the least role for a verb
    Permissions(PermissionsArgs),
    /// Print the configuration and where each value came from
    Config,
    /// Explain a code, or list all
    Explain {
        /// The code, for example FB0602
        code: Option<String>,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write one page a command into a folder
    Man {
        /// The folder
        folder: Option<PathBuf>,
    },
    /// Print help: for a command, or `exit-codes`
    Help {
        /// Command, or exit-codes
        topic: Vec<String>,
    },
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let out = Output::new(false, ColorWhen::Auto, true);
            out.written(e.print());
            let exit = if e.use_stderr() {
                exit::Exit::Usage
            } else {
                exit::Exit::Ok
            };
            return out.settle(exit).into();
        }
    };
    let out = Output::new(cli.json, cli.color, cli.no_input);
    let exit = run(cli, out).unwrap_or_else(|e| {
        out.error(&e);
        e.exit
    });
    out.settle(exit).into()
}

fn run(cli: Cli, out: Output) -> CliResult {
    // What needs no place of its own works without one.
    match &cli.command {
        Some(Command::Explain { code }) => return command::papers::explain(&out, code.as_deref()),
        Some(Command::Completions { shell }) => return command::papers::completions(&out, *shell),
        Some(Command::Man { folder }) => return command::papers::man(&out, folder.as_deref()),
        Some(Command::Help { topic }) => return command::papers::help(&out, topic),
        Some(Command::Permissions(args)) => return command::permissions::run(&out, args),
        _ => {}
    }
    let mut session = Session::new(out, cli.incident)?;
    let Some(command) = cli.command else {
        return command::board::run(&session);
    };
    match &command {
        Command::Doctor(args) => command::run::tokio_run(command::doctor::run(&session, args)),
        Command::Contain(c) => command::contain::run(&session, c),
        Command::Rotate(c) => command::rotate::run(&mut session, c),
        Command::Verify(args) => command::verify::run(&session, args),
        Command::Incident(c) => command::incident::run(&mut session, c),
        Command::Resume { id, run } => {
            if id.is_some() {
                session.asked.clone_from(id);
            }
            command::run::resume(&mut session, run)
        }
        Command::Evidence(c) => command::evidence::run(&session, c),
        Command::Log(args) => command::log::run(&session, args),
        Command::Playbook(c) => command::playbook::run(&session, c),
        Command::Report(c) => command::report::run(&session, c),
        Command::Drill(c) => command::drill::run(&mut session, c),
        Command::Policy(c) => command::policy::run(&session, c),
        Command::Config => command::config::run(&session),
        Command::Explain { .. }
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Help { .. }
        | Command::Permissions(_) => Ok(exit::Exit::Ok),
    }
}
