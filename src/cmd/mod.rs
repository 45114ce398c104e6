//! The commands: each answers with an exit code.

pub mod check;
pub mod inspect;
pub mod manual;
pub mod serve;

use std::path::Path;

use crate::cli::Options;
use crate::config::{self, Config};
use crate::sample::{self, Paths};
use crate::web::Security;

/// Nothing wrong.
pub const OK: u8 = 0;
/// Anomalies found.
pub const ANOMALIES: u8 = 1;
/// Wrong usage, or a configuration of ours that cannot be used.
pub const USAGE: u8 = 2;
/// Not enough could be seen to answer.
pub const BLIND: u8 = 3;

/// Why a command could not do its work: wrong usage, exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The host cannot be sampled.
    #[error(transparent)]
    Sample(#[from] sample::Error),
    /// An address cannot be served on.
    #[error(transparent)]
    Listen(#[from] crate::web::Error),
    /// `--haproxy` names none there is.
    #[error("no haproxy is called {name:?}; there {}", known(names))]
    UnknownHaproxy {
        /// What was asked for.
        name: String,
        /// Those there are.
        names: Vec<String>,
    },
    /// `-f` names what does not exist.
    #[error("{}: no such file or directory", path.display())]
    NoSuchFile {
        /// What was given.
        path: std::path::PathBuf,
    },
    /// `--config.check` without a file.
    #[error("--config.check needs --config.file or --web.config.file")]
    NothingToCheck,
    /// The answer could not be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

fn known(names: &[String]) -> String {
    match names {
        [] => "is none on this host".to_owned(),
        [one] => format!("is {one}"),
        many => format!("are {}", many.join(", ")),
    }
}

/// `--config.check`: says whether the configuration can be used.
pub fn check_config(options: &Options) -> Result<u8, Error> {
    let (config, web) = (options.config_file.as_deref(), options.web_config_file.as_deref());
    if config.is_none() && web.is_none() {
        return Err(Error::NothingToCheck);
    }
    load(config)?;
    Security::load(web)?.warn();
    for file in [config, web].into_iter().flatten() {
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

/// Columns of the terminal; what is no terminal gets lines of a hundred.
fn terminal_width() -> usize {
    let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map(|size| size.ws_col);
    columns.ok().filter(|&columns| columns > 0).map_or(100, usize::from).clamp(80, 160)
}
