//! The flags that several commands share, and those of `serve`. Each can also be given as an environment
//! variable; the flag wins.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::examples;

/// Where `reap` keeps its state, and `serve` looks for it.
pub const REAP_STATE_FILE: &str = "/run/haproxy-host-reap/reap.json";

/// The flags of every command that looks at the host.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Configuration file, or a directory whose *.yaml files are read together. Without one, every
    /// HAProxy is discovered and every port is allowed.
    #[arg(help_heading = "Configuration")]
    #[arg(
        long = "config.file",
        value_name = "FILE|DIR",
        env = "HAPROXY_HOST_EXPORTER_CONFIG_FILE"
    )]
    pub config_file: Option<PathBuf>,
    /// Mount point of the host's proc file system.
    #[arg(help_heading = "Host")]
    #[arg(long = "path.procfs", value_name = "DIR", default_value = "/proc")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_PATH_PROCFS")]
    pub procfs: PathBuf,
    /// Mount point of the host's sys file system, for the limits of cgroups.
    #[arg(help_heading = "Host")]
    #[arg(long = "path.sysfs", value_name = "DIR", default_value = "/sys")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_PATH_SYSFS")]
    pub sysfs: PathBuf,
    /// Lowest severity to log.
    #[arg(help_heading = "Log")]
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_LOG_LEVEL")]
    pub log_level: LogLevel,
    /// Format of the log, which goes to standard error.
    #[arg(help_heading = "Log")]
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "text")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// The flags of `serve`.
#[derive(Debug, Clone, Args)]
#[command(after_help = examples::SERVE)]
pub struct Serve {
    /// Address to listen on; may be repeated.
    #[arg(help_heading = "Web")]
    #[arg(long = "web.listen-address", value_name = "ADDRESS", default_value = ":10101")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_LISTEN_ADDRESS", value_delimiter = ',')]
    pub listen_addresses: Vec<String>,
    /// Path of the metrics.
    #[arg(help_heading = "Web")]
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_TELEMETRY_PATH")]
    #[arg(value_parser = telemetry_path)]
    pub telemetry_path: String,
    /// Web configuration in the format of Prometheus' exporters: TLS, users, headers, rate limit.
    #[arg(help_heading = "Web")]
    #[arg(long = "web.config.file", value_name = "FILE")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_CONFIG_FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Listen on the sockets that systemd hands over instead of --web.listen-address.
    #[arg(help_heading = "Web")]
    #[arg(long = "web.systemd-socket", env = "HAPROXY_HOST_EXPORTER_WEB_SYSTEMD_SOCKET")]
    pub systemd_socket: bool,
    /// Most requests answered at once; 0 for no limit.
    #[arg(help_heading = "Web")]
    #[arg(long = "web.max-requests", value_name = "NUMBER", default_value = "40")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_WEB_MAX_REQUESTS")]
    pub max_requests: usize,
    /// Reload the configuration on POST /-/reload, not only on SIGHUP.
    #[arg(help_heading = "Web")]
    #[arg(long = "web.enable-lifecycle", env = "HAPROXY_HOST_EXPORTER_WEB_ENABLE_LIFECYCLE")]
    pub enable_lifecycle: bool,
    /// Time between samples.
    #[arg(help_heading = "Sampling")]
    #[arg(long = "sample.interval", value_name = "DURATION", default_value = "5s")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_SAMPLE_INTERVAL")]
    #[arg(value_parser = sample_interval)]
    pub sample_interval: Duration,
    /// File in which `reap` keeps its state, shown as metrics.
    #[arg(help_heading = "Sampling")]
    #[arg(long = "reap.state-file", value_name = "FILE", default_value = REAP_STATE_FILE)]
    #[arg(env = "HAPROXY_HOST_EXPORTER_REAP_STATE_FILE")]
    pub reap_state_file: PathBuf,
    /// Check the configuration files and exit.
    #[arg(help_heading = "Configuration")]
    #[arg(long = "config.check", env = "HAPROXY_HOST_EXPORTER_CONFIG_CHECK")]
    pub config_check: bool,
    /// The flags that it shares with other commands.
    #[command(flatten)]
    pub options: Options,
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

/// The format of the answer of `check`, `reap` and `backup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    /// Text for a person.
    Text,
    /// JSON for programs.
    Json,
}

/// Reads the value of `--timeout`.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let timeout =
        humantime::parse_duration(text).map_err(|why| format!("{why}; write it like 30s or 2m"))?;
    if timeout.is_zero() {
        return Err("the time must be more than 0".to_owned());
    }
    Ok(timeout)
}

/// Reads the time between two samples.
pub(super) fn sample_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text)
        .map_err(|why| format!("{why}; write it like 5s or 500ms"))?;
    if interval < Duration::from_millis(100) {
        return Err("the interval must be at least 100ms".to_owned());
    }
    Ok(interval)
}

fn telemetry_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') || text == "/" || text.starts_with("/-/") {
        return Err("the path must begin with / and must be neither / nor below /-/".to_owned());
    }
    Ok(text.to_owned())
}
