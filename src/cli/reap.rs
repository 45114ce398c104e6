//! The flags of `reap`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::examples;
use super::options::{CheckOutput, Options, REAP_STATE_FILE, sample_interval};

/// The options of `reap`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What to end", after_help = examples::REAP)]
pub struct Reap {
    /// Look only at this HAProxy service, even if the configuration has no `reap` section for it.
    #[arg(long, value_name = "NAME")]
    pub haproxy: Option<String>,
    /// Look only at this process, and take your word for it that a reload has superseded it. Every other
    /// condition still holds.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: Option<i32>,
    /// Send the signals. Without this flag nothing is signalled.
    #[arg(long)]
    pub execute: bool,
    /// Go on until stopped: look once each --sample.interval, and do not wait for the effect of a signal.
    #[arg(long)]
    pub watch: bool,
    /// Time between two rounds of --watch.
    #[arg(long = "sample.interval", value_name = "DURATION", default_value = "5s")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_SAMPLE_INTERVAL", value_parser = sample_interval)]
    pub sample_interval: Duration,
    /// Append one line of JSON to this file before each signal, and one after it. A signal that cannot be
    /// recorded is not sent.
    #[arg(long = "audit-log", value_name = "FILE", help_heading = "Records")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_AUDIT_LOG")]
    pub audit_log: Option<PathBuf>,
    /// File in which separate runs remember what was done. `serve` shows it as metrics.
    #[arg(long = "reap.state-file", value_name = "FILE", help_heading = "Records")]
    #[arg(default_value = REAP_STATE_FILE)]
    #[arg(env = "HAPROXY_HOST_EXPORTER_REAP_STATE_FILE")]
    pub state_file: PathBuf,
    /// Send no signal while this file exists.
    #[arg(long = "reap.off-file", value_name = "FILE", help_heading = "Records")]
    #[arg(default_value = "/etc/haproxy-host-exporter/reap.off")]
    #[arg(env = "HAPROXY_HOST_EXPORTER_REAP_OFF_FILE")]
    pub off_file: PathBuf,
    /// Format of the answer.
    #[arg(long, value_name = "FORM", default_value = "text", help_heading = "Answer")]
    #[arg(conflicts_with = "watch")]
    pub output: CheckOutput,
    /// The flags that it shares with other commands.
    #[command(flatten)]
    pub options: Options,
}
