//! The command line, as Prometheus' exporters have it. Parsed, not yet checked against the host.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::build_info;

/// Watches HAProxy from the host: processes by generation, bound ports, and what is wrong with them.
#[derive(Debug, Parser)]
#[command(name = "haproxy-host-exporter", version, long_version = build_info::LONG, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 nothing wrong; 1 anomalies found; 2 wrong usage or \
    configuration; 3 could not see enough to answer.")]
pub struct Cli {
    /// What all commands share.
    #[command(flatten)]
    pub options: Options,
    /// What to do; serve when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags; each may be given as an environment variable too.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Address to serve on; repeat it for more than one.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = ":10101")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_LISTEN_ADDRESS", value_delimiter = ',', global = true)]
    pub listen_addresses: Vec<String>,
    /// Path of the metrics.
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_TELEMETRY_PATH", global = true)]
    #[arg(value_parser = telemetry_path)]
    pub telemetry_path: String,
    /// Web configuration, in the form of Prometheus' exporters: TLS, users, headers, rate limit.
    #[arg(long = "web.config.file", value_name = "FILE", global = true)]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_CONFIG_FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Serve on the sockets systemd hands over instead of --web.listen-address.
    #[arg(long = "web.systemd-socket", env = "HAPROXY_HOST_EXPORTER_WEB_SYSTEMD_SOCKET")]
    #[arg(global = true)]
    pub systemd_socket: bool,
    /// Requests that are answered at once; 0 for any number.
    #[arg(long = "web.max-requests", value_name = "NUMBER", default_value = "40", global = true)]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_MAX_REQUESTS")]
    pub max_requests: usize,
    /// Read the configuration again on POST /-/reload, not only on SIGHUP.
    #[arg(long = "web.enable-lifecycle", env = "HAPROXY_HOST_EXPORTER_WEB_ENABLE_LIFECYCLE")]
    #[arg(global = true)]
    pub enable_lifecycle: bool,
    /// Configuration; without one every HAProxy is discovered and every port allowed.
    #[arg(long = "config.file", value_name = "FILE", env = "HAPROXY_HOST_EXPORTER_CONFIG_FILE")]
    #[arg(global = true)]
    pub config_file: Option<PathBuf>,
    /// Check the configuration files and exit.
    #[arg(long = "config.check", env = "HAPROXY_HOST_EXPORTER_CONFIG_CHECK", global = true)]
    pub config_check: bool,
    /// Where the host's proc file system is mounted.
    #[arg(long = "path.procfs", value_name = "DIR", default_value = "/proc")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_PATH_PROCFS", global = true)]
    pub procfs: PathBuf,
    /// Where the host's sys file system is mounted, for limits of cgroups.
    #[arg(long = "path.sysfs", value_name = "DIR", default_value = "/sys")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_PATH_SYSFS", global = true)]
    pub sysfs: PathBuf,
    /// Time between samples.
    #[arg(long = "sample.interval", value_name = "DURATION", default_value = "5s")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_SAMPLE_INTERVAL", global = true)]
    #[arg(value_parser = sample_interval)]
    pub sample_interval: Duration,
    /// Least severity that is logged.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_LOG_LEVEL", global = true)]
    pub log_level: LogLevel,
    /// Form of the log, on standard error.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "text")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_LOG_FORMAT", global = true)]
    pub log_format: LogFormat,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Sample in the background and serve metrics (the default).
    Serve,
    /// Tell the state of this host: anomalies, processes, ports, and why.
    Inspect(Inspect),
    /// Judge a HAProxy configuration before a reload: would it succeed, and may it?
    Check(Check),
    /// Write the completions for a shell to standard output.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual page to standard output.
    Man,
}

/// Flags of `inspect`.
#[derive(Debug, Clone, Args)]
pub struct Inspect {
    /// Only this haproxy.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Everything that holds this port number, listener or not, and why.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Form of the answer.
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
    /// Look again each second and repaint, until interrupted.
    #[arg(long)]
    pub watch: bool,
}

/// Flags of `check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Configuration file or directory, as HAProxy's -f; repeat it for more than one. Without one
    /// the configuration of every HAProxy on this host is judged.
    #[arg(short = 'f', value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Directory that relative names start from, as HAProxy's -C.
    #[arg(short = 'C', value_name = "DIR", requires = "files")]
    pub directory: Option<PathBuf>,
    /// The haproxy whose policy and ports count, where it is not the one that runs these files.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Judge the configuration alone, not whether this host would let it bind.
    #[arg(long)]
    pub offline: bool,
    /// Make warnings errors.
    #[arg(long)]
    pub strict: bool,
    /// Form of the answer.
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: CheckOutput,
}

/// Form of the answer of `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    /// For a person.
    Text,
    /// For programs.
    Json,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For a person.
    Table,
    /// For programs.
    Json,
}

/// Least severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // the names say it
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for a person.
    Text,
    /// A JSON object a line.
    Json,
}

fn sample_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text)
        .map_err(|why| format!("{why}; write a duration like 5s or 500ms"))?;
    if interval < Duration::from_millis(100) {
        return Err("an interval under 100ms would only watch itself".to_owned());
    }
    Ok(interval)
}

fn telemetry_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') || text == "/" || text.starts_with("/-/") {
        return Err("it begins with / and is neither / nor below /-/".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_variable() {
        for argument in Cli::command().get_arguments() {
            let Some(flag) = argument.get_long().filter(|flag| flag.contains('.')) else {
                continue;
            };
            let variable = flag.to_uppercase().replace(['.', '-'], "_");
            let expected = format!("HAPROXY_HOST_EXPORTER_{variable}");
            assert_eq!(argument.get_env().unwrap().to_str(), Some(expected.as_str()), "{flag}");
        }
    }

    #[test]
    fn flags_stand_before_and_after_the_command() {
        for line in ["x --path.procfs /p inspect", "x inspect --path.procfs /p"] {
            let cli = Cli::parse_from(line.split(' '));
            assert_eq!(cli.options.procfs, PathBuf::from("/p"), "{line}");
        }
    }
}
