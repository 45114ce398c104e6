//! The command line, in the style of Prometheus' exporters. It is parsed here and checked against the
//! host later.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::build_info;

/// Watches HAProxy from the host: its processes by generation, its bound ports, and anomalies in both.
#[derive(Debug, Parser)]
#[command(name = "haproxy-host-exporter", version, long_version = build_info::LONG, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 nothing wrong; 1 anomalies found; 2 wrong usage or \
    configuration; 3 could not read enough to answer.")]
pub struct Cli {
    /// The options of all commands.
    #[command(flatten)]
    pub options: Options,
    /// The command; `serve` if it is absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The options of all commands. Each can also be given as an environment variable.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Address to listen on; may be repeated.
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = ":10101")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_LISTEN_ADDRESS", value_delimiter = ',', global = true)]
    pub listen_addresses: Vec<String>,
    /// Path of the metrics.
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_TELEMETRY_PATH", global = true)]
    #[arg(value_parser = telemetry_path)]
    pub telemetry_path: String,
    /// Web configuration in the format of Prometheus' exporters: TLS, users, headers, rate limit.
    #[arg(long = "web.config.file", value_name = "FILE", global = true)]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_CONFIG_FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Listen on the sockets that systemd hands over instead of --web.listen-address.
    #[arg(long = "web.systemd-socket", env = "HAPROXY_HOST_EXPORTER_WEB_SYSTEMD_SOCKET")]
    #[arg(global = true)]
    pub systemd_socket: bool,
    /// Most requests answered at once; 0 for no limit.
    #[arg(long = "web.max-requests", value_name = "NUMBER", default_value = "40", global = true)]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_MAX_REQUESTS")]
    pub max_requests: usize,
    /// Reload the configuration on POST /-/reload, not only on SIGHUP.
    #[arg(long = "web.enable-lifecycle", env = "HAPROXY_HOST_EXPORTER_WEB_ENABLE_LIFECYCLE")]
    #[arg(global = true)]
    pub enable_lifecycle: bool,
    /// Configuration file. Without one, every HAProxy is discovered and every port is allowed.
    #[arg(long = "config.file", value_name = "FILE", env = "HAPROXY_HOST_EXPORTER_CONFIG_FILE")]
    #[arg(global = true)]
    pub config_file: Option<PathBuf>,
    /// Check the configuration files and exit.
    #[arg(long = "config.check", env = "HAPROXY_HOST_EXPORTER_CONFIG_CHECK", global = true)]
    pub config_check: bool,
    /// Mount point of the host's proc file system.
    #[arg(long = "path.procfs", value_name = "DIR", default_value = "/proc")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_PATH_PROCFS", global = true)]
    pub procfs: PathBuf,
    /// Mount point of the host's sys file system, for the limits of cgroups.
    #[arg(long = "path.sysfs", value_name = "DIR", default_value = "/sys")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_PATH_SYSFS", global = true)]
    pub sysfs: PathBuf,
    /// Time between samples.
    #[arg(long = "sample.interval", value_name = "DURATION", default_value = "5s")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_SAMPLE_INTERVAL", global = true)]
    #[arg(value_parser = sample_interval)]
    pub sample_interval: Duration,
    /// Lowest severity to log.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_LOG_LEVEL", global = true)]
    pub log_level: LogLevel,
    /// Format of the log, which goes to standard error.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "text")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_LOG_FORMAT", global = true)]
    pub log_format: LogFormat,
}

/// The commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Sample in the background and serve metrics (the default).
    Serve,
    /// Show the state of this host: anomalies with their evidence, processes and ports.
    Inspect(Inspect),
    /// Judge a HAProxy configuration before a reload: would it succeed, and is it allowed?
    Check(Check),
    /// Print the runbook about a kind of anomaly or an alert: what it means and what to do.
    Explain {
        /// Kind or alert, such as port_blocked or HAProxyDown.
        #[arg(value_name = "KIND|ALERT")]
        name: String,
    },
    /// Write the completions of a shell to standard output.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual page to standard output.
    Man,
}

/// The options of `inspect`.
#[derive(Debug, Clone, Args)]
pub struct Inspect {
    /// Show only this HAProxy service.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Show every socket that uses this port number, listener or not, and why it does.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Format of the answer.
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub output: Output,
    /// Repeat each second and repaint, until interrupted.
    #[arg(long)]
    pub watch: bool,
}

/// The options of `check`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit codes: 0 nothing wrong, all ports free; 1 errors, some ports not free; \
    2 wrong usage; 3 could not see enough to answer, or not in time."
)]
pub struct Check {
    /// Configuration file or directory, as HAProxy's -f; may be repeated. Without one, the
    /// configuration of every HAProxy on this host is judged.
    #[arg(short = 'f', value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// Directory that relative paths start from, as HAProxy's -C.
    #[arg(short = 'C', value_name = "DIR", requires = "files")]
    pub directory: Option<PathBuf>,
    /// Name of the local peer, as HAProxy's -L: it decides which lines of a peers section listen, and
    /// the value of HAPROXY_LOCALPEER.
    #[arg(short = 'L', value_name = "NAME", requires = "files")]
    pub local_peer: Option<String>,
    /// HAProxy service whose policy and ports count, if it is not the one that runs these files.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Report whether a new listener may be given these ports, written [tcp/|udp/][ADDR:]LO[-HI]: what
    /// the policy says, and what declares or holds them on this host. Without tcp/ or udp/ both
    /// protocols are meant, without an address all IPv4 addresses, as in a bind line.
    #[arg(long, value_name = "PORTS")]
    #[arg(conflicts_with_all = ["files", "free", "offline"])]
    pub port: Option<String>,
    /// Print the first N port numbers that a new listener may be given, one a line. It never prints a
    /// number of the ephemeral range.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    #[arg(conflicts_with_all = ["files", "offline"])]
    pub free: Option<u16>,
    /// The ports that --free chooses from, written as for --port.
    #[arg(long, value_name = "PORTS", requires = "free")]
    pub within: Option<String>,
    /// Judge only the configuration: no socket of this host is looked at, and no host name looked up.
    #[arg(long)]
    pub offline: bool,
    /// Give up after this time, with exit code 3.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = timeout)]
    pub timeout: Duration,
    /// Treat warnings as errors.
    #[arg(long)]
    pub strict: bool,
    /// Format of the answer.
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub output: CheckOutput,
}

/// The format of the answer of `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    /// Text for a person.
    Text,
    /// JSON for programs.
    Json,
}

/// The format of the answer of `inspect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for a person.
    Table,
    /// JSON for programs.
    Json,
}

/// The lowest severity to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // the names are their own documentation
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text for each entry.
    Text,
    /// One JSON object on each line.
    Json,
}

fn sample_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text)
        .map_err(|why| format!("{why}; write it like 5s or 500ms"))?;
    if interval < Duration::from_millis(100) {
        return Err("the interval must be at least 100ms".to_owned());
    }
    Ok(interval)
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout =
        humantime::parse_duration(text).map_err(|why| format!("{why}; write it like 30s or 2m"))?;
    if timeout.is_zero() {
        return Err("the time must be more than 0".to_owned());
    }
    Ok(timeout)
}

fn telemetry_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') || text == "/" || text.starts_with("/-/") {
        return Err("the path must begin with / and must be neither / nor below /-/".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_its_variable() {
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
    fn options_may_precede_or_follow_the_command() {
        for line in ["x --path.procfs /p inspect", "x inspect --path.procfs /p"] {
            let cli = Cli::parse_from(line.split(' '));
            assert_eq!(cli.options.procfs, PathBuf::from("/p"), "{line}");
        }
    }
}
