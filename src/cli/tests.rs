//! What each command accepts, and what its help shows.

use std::collections::BTreeSet;

use super::*;

/// The names of the commands.
const COMMANDS: [&str; 9] =
    ["serve", "inspect", "check", "reap", "backup", "healthcheck", "explain", "completions", "man"];

fn parse(line: &str) -> Result<Cli, String> {
    Cli::parse_arguments(line.split(' ').map(OsString::from)).map_err(|error| error.to_string())
}

/// The help of a command, or of the program.
fn help_of(command: &str) -> String {
    parse(format!("x {command} --help").replace("  ", " ").as_str()).unwrap_err()
}

/// The flags that a help text lists: the long name, else the short one.
fn flags_in(help: &str) -> BTreeSet<&str> {
    let lines = help.lines().map(str::trim);
    let of_flags = lines.filter(|line| line.starts_with('-') && !line.starts_with("- "));
    of_flags
        .filter_map(|line| {
            let mut words = line.split(' ');
            let long = words.clone().find(|word| word.starts_with("--"));
            long.or_else(|| words.next())
        })
        .collect()
}

const SHARED: [&str; 5] =
    ["--config.file", "--path.procfs", "--path.sysfs", "--log.level", "--log.format"];
const REAP: [&str; 9] = [
    "--haproxy",
    "--pid",
    "--execute",
    "--watch",
    "--sample.interval",
    "--audit-log",
    "--reap.state-file",
    "--reap.off-file",
    "--output",
];

const SERVE: [&str; 9] = [
    "--web.listen-address",
    "--web.telemetry-path",
    "--web.config.file",
    "--web.systemd-socket",
    "--web.max-requests",
    "--web.enable-lifecycle",
    "--sample.interval",
    "--reap.state-file",
    "--config.check",
];

const CHECK: [&str; 13] = [
    "-f",
    "-C",
    "-L",
    "--haproxy",
    "--port",
    "--free",
    "--within",
    "--offline",
    "--binary",
    "--no-binary",
    "--timeout",
    "--strict",
    "--output",
];

#[test]
fn the_definition_is_consistent() {
    Cli::shown().debug_assert();
    Cli::accepted().debug_assert();
    let shown = Cli::shown();
    let names: Vec<&str> = shown.get_subcommands().map(clap::Command::get_name).collect();
    assert_eq!(names, COMMANDS);
}

/// A page that another page lists exists.
#[test]
fn each_command_has_a_manual_page() {
    let mut names = Vec::new();
    for command in Cli::shown().get_subcommands() {
        names.push(command.get_name().to_owned());
        let inner = command.get_subcommands().map(clap::Command::get_name);
        names.extend(inner.map(|inner| format!("{}-{inner}", command.get_name())));
    }
    assert_eq!(names, PAGES);
}

#[test]
fn a_flag_stands_only_in_the_help_of_the_commands_that_use_it() {
    let table: [(&str, &[&[&str]]); 10] = [
        ("", &[&SHARED, &SERVE, &["--version"]]),
        ("serve", &[&SHARED, &SERVE]),
        ("inspect", &[&SHARED, &["--haproxy", "--port", "--output", "--watch"]]),
        ("check", &[&SHARED, &CHECK]),
        ("reap", &[&SHARED, &REAP]),
        ("backup", &[]),
        ("healthcheck", &[&["--url", "--web.listen-address", "--timeout"]]),
        ("explain", &[]),
        ("completions", &[]),
        ("man", &[]),
    ];
    for (command, expected) in table {
        let expected: BTreeSet<&str> =
            expected.iter().copied().flatten().copied().chain(["--help"]).collect();
        let help = help_of(command);
        assert_eq!(flags_in(&help), expected, "{command}: {help}");
        let about = match command {
            "" => Cli::command().get_about().cloned(),
            name => Cli::command().find_subcommand(name).unwrap().get_about().cloned(),
        };
        assert!(help.starts_with(&about.unwrap().to_string()), "{command}: {help}");
    }
}

#[test]
fn each_help_ends_with_two_examples_and_the_exit_codes() {
    let of_backup =
        ["create", "list", "verify", "diff", "restore"].map(|name| format!("backup {name}"));
    for command in COMMANDS.into_iter().chain([""]).chain(of_backup.iter().map(String::as_str)) {
        let help = help_of(command);
        let (_, end) = help.split_once("\nExamples:\n").unwrap();
        let (examples, codes) = end.split_once("\n\nExit codes: 0 ").unwrap();
        let codes = codes.replace('\n', " ");
        assert!(codes.contains("; 2 wrong usage"), "{codes}");
        assert_eq!(examples.lines().count(), 2, "{command}: {examples}");
        for line in examples.lines() {
            // What follows is the shell's.
            let line = line.trim().split(['>', '|']).next().unwrap_or_default().trim();
            let parsed = parse(line).unwrap_or_else(|why| panic!("{line}: {why}"));
            let name = if command.is_empty() { "serve" } else { command };
            assert_eq!(name_of(&parsed.command), name.split(' ').next().unwrap(), "{line}");
            assert!(!command.starts_with("backup ") || line.contains(command), "{line}");
        }
    }
}

fn name_of(command: &Command) -> &'static str {
    match command {
        Command::Serve(_) => "serve",
        Command::Inspect(_) => "inspect",
        Command::Check(_) => "check",
        Command::Reap(_) => "reap",
        Command::Backup(_) => "backup",
        Command::Healthcheck(_) => "healthcheck",
        Command::Explain { .. } => "explain",
        Command::Completions { .. } => "completions",
        Command::Man { .. } => "man",
    }
}

/// The commands of `backup` have flags of their own.
#[test]
fn the_commands_of_backup() {
    const DIRECTORY: [&str; 3] = ["--haproxy", "--to", "--output"];
    let table: [(&str, &[&str]); 5] = [
        ("create", &["--keep", "--include-keys", "--exclude", "--archive"]),
        ("list", &[]),
        ("verify", &["--binary", "--timeout"]),
        ("diff", &["--show-secrets"]),
        ("restore", &["--root", "--remove-added", "--execute"]),
    ];
    for (command, own) in table {
        let help = help_of(&format!("backup {command}"));
        let expected: BTreeSet<&str> = SHARED
            .into_iter()
            .chain(DIRECTORY)
            .chain(own.iter().copied())
            .chain(["--help"])
            .collect();
        assert_eq!(flags_in(&help), expected, "{command}: {help}");
    }
    let restore = help_of("backup restore");
    assert!(restore.find("\n  <NAME>\n") < restore.find("\n  [FILE]...\n"), "{restore}");
    for line in ["x --path.procfs /p backup list", "x backup list --path.procfs /p"] {
        assert_eq!(
            parse(line).unwrap().command.options().unwrap().procfs,
            PathBuf::from("/p"),
            "{line}"
        );
    }
    assert!(parse("x backup").is_err() && parse("x backup restore").is_err());
}

#[test]
fn every_flag_stands_below_a_heading() {
    let table: [(&str, &[&str]); 4] = [
        ("serve", &["Configuration", "Host", "Log", "Sampling", "Web"]),
        ("inspect", &["Answer", "Configuration", "Host", "Log", "What to show"]),
        ("check", &["Answer", "Configuration", "Host", "Log", "What to judge"]),
        ("reap", &["Answer", "Configuration", "Host", "Log", "Records", "What to end"]),
    ];
    let shown = Cli::shown();
    for (command, expected) in table {
        let command = shown.find_subcommand(command).unwrap();
        let headings: BTreeSet<&str> = command
            .get_arguments()
            .map(|argument| argument.get_help_heading().unwrap_or(argument.get_id().as_str()))
            .collect();
        assert_eq!(headings.into_iter().collect::<Vec<_>>(), expected, "{command}");
    }
}

#[test]
fn every_option_has_its_variable() {
    let shown = Cli::shown();
    let commands = shown.get_subcommands().chain([&shown]);
    for argument in commands.flat_map(clap::Command::get_arguments) {
        let Some(flag) = argument.get_long().filter(|flag| flag.contains('.')) else {
            continue;
        };
        let variable = flag.to_uppercase().replace(['.', '-'], "_");
        let expected = format!("HAPROXY_HOST_EXPORTER_{variable}");
        assert_eq!(argument.get_env().unwrap().to_str(), Some(expected.as_str()), "{flag}");
    }
}

#[test]
fn flags_may_precede_or_follow_the_command() {
    let lines = [
        "x --path.procfs /p inspect",
        "x --path.procfs=/p inspect",
        "x inspect --path.procfs /p",
        "x --log.level debug --path.procfs /p check --offline",
        "x --path.procfs /p",
        "x --path.procfs /p serve",
        "x --path.procfs /other check --path.procfs /p",
    ];
    for line in lines {
        let cli = parse(line).unwrap();
        assert_eq!(cli.command.options().unwrap().procfs, PathBuf::from("/p"), "{line}");
    }
    for line in ["x --log.level debug explain HAProxyDown", "x man --config.file /a", "x"] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

#[test]
fn without_a_command_the_flags_are_those_of_serve() {
    let lines = [
        "x --web.listen-address :1 --web.listen-address :2 --web.systemd-socket",
        "x serve --web.listen-address :1 --web.listen-address :2 --web.systemd-socket",
        "x --web.listen-address :1 --web.systemd-socket serve --web.listen-address=:2",
    ];
    for line in lines {
        let Command::Serve(serve) = parse(line).unwrap().command else { panic!("{line}") };
        assert!(serve.systemd_socket, "{line}");
        assert_eq!(serve.listen_addresses, [":1", ":2"], "{line}");
    }
}

#[test]
fn a_wrong_flag_or_command_has_a_tip() {
    let table = [
        ("x check --web.listen-address :1", "--web.listen-address is a flag of serve"),
        ("x --web.listen-address :1 inspect", "--web.listen-address is a flag of serve"),
        ("x explain --watch", "--watch is a flag of inspect"),
        ("x --output json inspect", "as in: haproxy-host-exporter inspect --output"),
        ("x --output=json", "--output is a flag of inspect and check"),
        ("x inspect -f a.cfg", "-f is a flag of check"),
        ("x inspect --outptu json", "a similar argument exists: '--output'"),
        ("x --web.listen-adress :1", "a similar argument exists: '--web.listen-address'"),
        ("x inspct", "a similar subcommand exists: 'inspect'"),
        ("x --log.level debug inspct", "a similar subcommand exists: 'inspect'"),
        ("x man chek", "a similar value exists: 'check'"),
    ];
    for (line, tip) in table {
        let error = parse(line).unwrap_err();
        assert!(error.contains(tip), "{line}: {error}");
        assert_eq!(error.matches("tip: ").count(), 1, "{line}: {error}");
    }
}

#[test]
fn help_and_version_are_those_of_the_program_before_a_command() {
    for line in ["x -h", "x --help", "x --log.level debug --help", "x help"] {
        let help = parse(line).unwrap_err();
        let words = ["[OPTIONS] [COMMAND]", "--web.listen-address", "  inspect "];
        assert!(words.iter().all(|words| help.contains(words)), "{line}: {help}");
    }
    let version = parse("x --version").unwrap_err();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    assert!(parse("x help check").unwrap_err().contains("--offline"));
}
