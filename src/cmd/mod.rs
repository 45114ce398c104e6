//! The commands. Each one returns an exit code.

pub mod backup;
pub mod check;
mod deadline;
pub mod explain;
pub mod healthcheck;
pub mod inspect;
mod journal;
mod log_quota;
pub mod manual;
mod priority;
pub mod reap;
pub mod serve;
mod survey;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::{Options, Serve};
use crate::config::{self, Config};
use crate::model::UnixSeconds;
use crate::sample::on_demand::executable::Unusable;
use crate::sample::{self, Paths};
use crate::web::Security;

/// Exit code: nothing is wrong.
pub const OK: u8 = 0;
/// Exit code: anomalies were found.
pub const ANOMALIES: u8 = 1;
/// Exit code: wrong usage, or an invalid configuration of the exporter.
pub const USAGE: u8 = 2;
/// Exit code: not enough could be read to answer.
pub const BLIND: u8 = 3;

/// Why a command could not run; exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The host cannot be sampled.
    #[error(transparent)]
    Sample(#[from] sample::Error),
    /// The server cannot listen on an address.
    #[error(transparent)]
    Listen(#[from] crate::web::Error),
    /// `--haproxy` names an unknown service.
    #[error("unknown haproxy {name:?}; {}", known(names))]
    UnknownHaproxy {
        /// The name that was given.
        name: String,
        /// The known names.
        names: Vec<String>,
    },
    /// A flag shows a part of the host where the whole is asked for.
    #[error("--output prometheus is about the whole host; leave out {flag}")]
    OnlyWhole {
        /// The flag.
        flag: &'static str,
    },
    /// `explain` was asked about something that has no runbook.
    #[error("no runbook about {name:?}; there are: {}", names.join(", "))]
    UnknownRunbook {
        /// The name that was given.
        name: String,
        /// The kinds and alerts that have one.
        names: Vec<&'static str>,
    },
    /// `-f` names a file that does not exist.
    #[error("{}: no such file or directory", path.display())]
    NoSuchFile {
        /// The path that was given.
        path: std::path::PathBuf,
    },
    /// `--url` or `--web.listen-address` is not an address that can be asked.
    #[error("{flag}: {value:?}: {why}")]
    Url {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// How to write it.
        why: &'static str,
    },
    /// A flag names ports in a way that cannot be understood.
    #[error("{flag}: {why}")]
    Ports {
        /// The flag.
        flag: &'static str,
        /// What is wrong with its value, and how to write it.
        why: String,
    },
    /// `--binary` names something that cannot be run.
    #[error("--binary: {0}")]
    Unusable(#[from] Unusable),
    /// `--binary` names a program that does not answer `-v` as HAProxy does.
    #[error("--binary: {0}")]
    NoHaproxy(String),
    /// No directory of backups is known.
    #[error("no directory of backups; give --to DIR, or backup.directory in the configuration")]
    NoBackupDirectory,
    /// A name on the command line of `backup` means nothing, or several things.
    #[error("{0}")]
    BackupName(String),
    /// `--config.check` was given without a file.
    #[error("--config.check needs --config.file or --web.config.file")]
    NothingToCheck,
    /// `--path.procfs` shows other pids than the ones that signals are sent to.
    #[error(
        "{}: it belongs to another pid namespace, so its pids are not the ones that signals reach; run reap in \
         the pid namespace of the host",
        procfs.display()
    )]
    ForeignPids {
        /// The procfs.
        procfs: PathBuf,
    },
    /// `--pid` names a process that is no HAProxy.
    #[error("--pid: no HAProxy process has the pid {pid}")]
    NoHaproxyProcess {
        /// The pid.
        pid: i32,
    },
    /// `--pid` names a process that is not stale.
    #[error("--pid: pid {pid} of {haproxy} is {generation}, not stale")]
    NotStale {
        /// The pid.
        pid: i32,
        /// The service.
        haproxy: String,
        /// Its generation.
        generation: &'static str,
    },
    /// The file of `--audit-log` cannot be opened.
    #[error("--audit-log: {}: {error}", path.display())]
    AuditLog {
        /// The file.
        path: PathBuf,
        /// The answer of the system.
        error: std::io::Error,
    },
    /// The answer could not be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

fn known(names: &[String]) -> String {
    match names {
        [] => "no HAProxy runs on this host".to_owned(),
        names => format!("known: {}", names.join(", ")),
    }
}

/// `--config.check`: reports whether the configuration files are valid.
pub fn check_config(serve: &Serve) -> Result<u8, Error> {
    let (config, web) = (serve.options.config_file.as_deref(), serve.web_config_file.as_deref());
    if config.is_none() && web.is_none() {
        return Err(Error::NothingToCheck);
    }
    let files = load(config)?.files;
    Security::load(web)?.warn();
    if let Some(directory) = config.filter(|_| files.is_empty()) {
        println!("{}: ok, it has no *.yaml file", directory.display());
    }
    for file in files.iter().map(PathBuf::as_path).chain(web) {
        println!("{}: ok", file.display());
    }
    Ok(OK)
}

fn load(file: Option<&Path>) -> Result<Config, Error> {
    Ok(file.map(Config::load).transpose()?.unwrap_or_default())
}

fn paths(options: &Options) -> Paths {
    Paths { procfs: options.procfs.clone(), sysfs: options.sysfs.clone() }
}

/// The present moment by the system's clock.
fn unix_now() -> UnixSeconds {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The columns of the terminal; 100 if standard output is not a terminal.
fn terminal_width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map(|size| size.ws_col);
    columns.ok().filter(|&columns| columns > 0).map_or(100, usize::from).clamp(80, 160)
}

/// The rows of the terminal; `None` if standard output is not a terminal, or it does not know them.
fn terminal_rows() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_row)).filter(|&rows| rows > 0)
}
