//! The command line, in the style of Prometheus' exporters. It is parsed here and checked against the
//! host later.
//!
//! A flag belongs to the commands that use it, and only their help lists it. It may nevertheless precede
//! the command; `arguments.rs` moves it behind the command before anything is parsed.

mod arguments;
mod backup;
mod examples;
mod healthcheck;
mod options;
mod reap;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use self::backup::{Backup, BackupCreate, BackupDiff, BackupList, BackupRestore, BackupVerify};
pub use self::healthcheck::Healthcheck;
use self::options::timeout;
pub use self::options::{CheckOutput, LogFormat, LogLevel, Options, Serve};
pub use self::reap::Reap;
use crate::build_info;

/// The manual pages besides that of the program: one for each command, and for each command of a command.
const PAGES: [&str; 14] = [
    "serve",
    "inspect",
    "check",
    "reap",
    "backup",
    "backup-create",
    "backup-list",
    "backup-verify",
    "backup-diff",
    "backup-restore",
    "healthcheck",
    "explain",
    "completions",
    "man",
];

/// Watches HAProxy from the host: its processes by generation, its bound ports, and anomalies in both.
#[derive(Debug, Parser)]
#[command(name = "haproxy-host-exporter", version, long_version = build_info::LONG, max_term_width = 100)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses the arguments, the name of the program first. Without a command they are those of `serve`.
    pub fn parse_arguments(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Cli, clap::Error> {
        let shown = Cli::shown();
        let arguments = arguments::arrange(arguments, &shown);
        // The program's own help and version are those of the definition that is shown.
        let definition =
            if arguments::asks_program(&arguments) { shown.clone() } else { Cli::accepted() };
        let parsed = definition.try_get_matches_from(arguments);
        let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
        parsed.map_err(|error| arguments::name_owner(error, &shown))
    }

    /// The definition for the program's help, the manual and the completions: it lists the flags of `serve`
    /// beside the commands.
    #[must_use]
    pub fn shown() -> clap::Command {
        let program = Cli::command().args(flags_of::<Serve>()).after_help(examples::PROGRAM);
        program.subcommand_required(false).arg_required_else_help(false)
    }

    /// The definition that arguments are parsed by once every flag follows its command. The commands that
    /// do not look at the host accept the shared flags and do not show them, so that a wrapper may
    /// always give them.
    fn accepted() -> clap::Command {
        let program = Cli::command().subcommand_required(false).args_override_self(true);
        ["healthcheck", "explain", "completions", "man"].into_iter().fold(
            program,
            |program, name| {
                let hidden = flags_of::<Options>().into_iter().map(|flag| flag.hide(true));
                program.mut_subcommand(name, |command| command.args(hidden))
            },
        )
    }
}

/// The flags that a struct defines.
fn flags_of<A: Args>() -> Vec<clap::Arg> {
    A::augment_args(clap::Command::new("")).get_arguments().cloned().collect()
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Sample in the background and serve metrics (the default).
    Serve(Serve),
    /// Show the state of this host: anomalies with their evidence, processes and ports.
    Inspect(Inspect),
    /// Judge a HAProxy configuration before a reload: would it succeed, and is it allowed?
    Check(Check),
    /// End stale processes, as far as the policy permits. Without --execute it only shows which, and why.
    Reap(Reap),
    /// Keep the configuration of HAProxy, prove that a version accepts it, and restore it.
    #[command(subcommand, after_help = examples::BACKUP)]
    Backup(Backup),
    /// Ask a running exporter whether it is healthy, as the health check of its container.
    Healthcheck(Healthcheck),
    /// Print the runbook about a kind of anomaly or an alert: what it means and what to do.
    #[command(after_help = examples::EXPLAIN)]
    Explain {
        /// Kind or alert, such as port_blocked or HAProxyDown.
        #[arg(value_name = "KIND|ALERT")]
        name: String,
    },
    /// Write the completions of a shell to standard output.
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write a manual page to standard output.
    #[command(after_help = examples::MAN)]
    Man {
        /// The command that the page is about; without one, the page of the program.
        #[arg(value_parser = PAGES)]
        command: Option<String>,
    },
}

impl Command {
    /// The flags that commands share; `None` for a command that does not look at the host.
    #[must_use]
    pub fn options(&self) -> Option<&Options> {
        match self {
            Command::Serve(serve) => Some(&serve.options),
            Command::Inspect(inspect) => Some(&inspect.options),
            Command::Check(check) => Some(&check.options),
            Command::Reap(reap) => Some(&reap.options),
            Command::Backup(backup) => Some(backup.options()),
            Command::Healthcheck(_)
            | Command::Explain { .. }
            | Command::Completions { .. }
            | Command::Man { .. } => None,
        }
    }
}

/// The options of `inspect`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What to show", after_help = examples::INSPECT)]
pub struct Inspect {
    /// Show only this HAProxy service.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Show every socket that uses this port number, listener or not, and why it does.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Format of the answer.
    #[arg(long, value_name = "FORM", default_value = "table", help_heading = "Answer")]
    pub output: Output,
    /// Repeat each second and repaint, until interrupted.
    #[arg(long, help_heading = "Answer")]
    pub watch: bool,
    /// The flags that it shares with other commands.
    #[command(flatten)]
    pub options: Options,
}

/// The options of `check`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What to judge", after_help = examples::CHECK)]
pub struct Check {
    /// Configuration file or directory, as HAProxy's -f; may be repeated. Without one, the
    /// configuration of every HAProxy on this host is judged.
    #[arg(short = 'f', value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Directory that relative paths start from, as HAProxy's -C.
    #[arg(short = 'C', value_name = "DIR", requires = "files")]
    pub directory: Option<PathBuf>,
    /// Name of the local peer, as HAProxy's -L. It decides which lines of a peers section listen.
    #[arg(short = 'L', value_name = "NAME", requires = "files")]
    pub local_peer: Option<String>,
    /// Use this service's policy, and treat the ports it holds as its own. Without this flag it is the
    /// service that runs these files.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    #[allow(rustdoc::broken_intra_doc_links)] // the brackets of the help
    /// Report whether these ports are free for a new listener: allowed by the policy, and neither
    /// declared nor held by anything on this host. Written [tcp/|udp/][ADDR:]LO[-HI]; without tcp/ or
    /// udp/ both protocols are meant, and without an address all IPv4 addresses.
    #[arg(long, value_name = "PORTS")]
    #[arg(conflicts_with_all = ["files", "free", "offline"])]
    pub port: Option<String>,
    /// Print the first N port numbers that are free for a new listener, one a line. None of them is in
    /// the ephemeral range.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    #[arg(conflicts_with_all = ["files", "offline"])]
    pub free: Option<u16>,
    /// The ports that --free chooses from, written as for --port.
    #[arg(long, value_name = "PORTS", requires = "free")]
    pub within: Option<String>,
    /// Judge the configuration alone: look at no socket of this host, and look up no host name.
    #[arg(long)]
    pub offline: bool,
    /// Validate with this HAProxy executable, for example the one you are upgrading to, and list what
    /// changes between the version that runs and this one. It is run with -c, with your rights; it
    /// resolves host names and runs Lua files while it checks. Without this flag the executable of your
    /// own service is run, if no other user can change it.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["port", "free"])]
    pub binary: Option<PathBuf>,
    /// Do not run any HAProxy.
    #[arg(long, conflicts_with_all = ["binary", "port", "free"])]
    pub no_binary: bool,
    /// Give up after this time, with exit code 3.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = timeout)]
    pub timeout: Duration,
    /// Treat warnings as errors.
    #[arg(long, help_heading = "Answer")]
    pub strict: bool,
    /// Format of the answer.
    #[arg(long, value_name = "FORM", default_value = "text", help_heading = "Answer")]
    pub output: CheckOutput,
    /// The flags that it shares with other commands.
    #[command(flatten)]
    pub options: Options,
}

/// The format of the answer of `inspect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for a person.
    Table,
    /// JSON for programs.
    Json,
    /// Metrics in Prometheus' text format, for node_exporter's textfile collector.
    Prometheus,
}

#[cfg(test)]
mod tests;
