//! The program: reads its arguments, starts the log, runs a command and exits with its code.

use std::process::ExitCode;

use haproxy_host_exporter::cli::{Cli, Command, LogFormat, LogLevel, Options};
use haproxy_host_exporter::{cmd, rights};
use tracing::level_filters::LevelFilter;

// musl's own allocator maps each large block anew and gives it back to the kernel at once. A sample then costs 230 page
// faults and at least a fifth more CPU time than with glibc's allocator; with mimalloc it costs the same.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match Cli::parse_arguments(std::env::args_os()) {
        Ok(cli) => cli.command,
        Err(answer) => answer.exit(),
    };
    if let Some(options) = command.options() {
        start_log(options);
    }
    // Before any file is opened, and before there is a second thread.
    let kept = match command {
        Command::Serve(_) | Command::Inspect(_) => rights::keep_for_watching(),
        Command::Reap(_) => rights::keep_for_reaping(),
        _ => Ok(()),
    };
    if let Err(error) = kept {
        tracing::warn!(%error, "capabilities that are not needed could not be dropped");
    }
    let result = match &command {
        Command::Serve(serve) if serve.config_check => cmd::check_config(serve),
        Command::Serve(serve) => cmd::serve::run(serve),
        Command::Inspect(inspect) => cmd::inspect::run(inspect),
        Command::Check(check) => cmd::check::run(check, |code| std::process::exit(code.into())),
        Command::Reap(reap) => cmd::reap::run(reap),
        Command::Backup(backup) => cmd::backup::run(backup),
        Command::Healthcheck(healthcheck) => cmd::healthcheck::run(healthcheck),
        Command::Explain { name } => cmd::explain::run(name),
        Command::Completions { shell } => cmd::manual::completions(*shell),
        Command::Man { command } => cmd::manual::man(command.as_deref()),
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
