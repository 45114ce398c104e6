//! The program: reads its arguments, starts the log, runs a command and exits with its code.

use std::process::ExitCode;

use clap::Parser;
use haproxy_host_exporter::cli::{Cli, Command, LogFormat, LogLevel, Options};
use haproxy_host_exporter::{cmd, rights};
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli.options);
    // Before any file is opened, and before there is a second thread.
    if matches!(cli.command, None | Some(Command::Serve | Command::Inspect(_)))
        && let Err(error) = rights::keep_for_watching()
    {
        tracing::warn!(%error, "capabilities that are not needed could not be dropped");
    }
    let result = match &cli.command {
        _ if cli.options.config_check => cmd::check_config(&cli.options),
        None | Some(Command::Serve) => cmd::serve::run(&cli.options),
        Some(Command::Inspect(inspect)) => cmd::inspect::run(&cli.options, inspect),
        Some(Command::Check(check)) => cmd::check::run(&cli.options, check),
        Some(Command::Explain { name }) => cmd::explain::run(name),
        Some(Command::Completions { shell }) => cmd::manual::completions(*shell),
        Some(Command::Man) => cmd::manual::man(),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("haproxy-host-exporter: {error}");
            ExitCode::from(cmd::USAGE)
        }
    }
}

fn start_log(options: &Options) {
    let level = match options.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(ansi);
    match options.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
