//! The flags, by command, and the exit codes, both from the definition of the command line.

use clap::{Arg, Command};
use haproxy_host_exporter::cli::Cli;
use std::fmt::Write as _;

use super::{code, head, hold, table};

/// The commands in the order of the help, those of `backup` by both words.
fn commands() -> Vec<(String, Command)> {
    let mut program = Cli::shown();
    program.build();
    let mut found = Vec::new();
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        let name = command.get_name().to_owned();
        let below: Vec<_> =
            command.get_subcommands().filter(|below| below.get_name() != "help").collect();
        if below.is_empty() {
            found.push((name, command.clone()));
            continue;
        }
        for below in below {
            found.push((format!("{name} {}", below.get_name()), below.clone()));
        }
    }
    found
}

#[test]
fn flags() {
    let mut page = head(
        "Flags",
        "The flags of each command, as `COMMAND --help` shows them. Without a command it is `serve`. A flag may \
         stand before or after the command, and wins over its environment variable. Of a flag that is given twice \
         the last one counts, unless it may be repeated.",
    );
    for (name, command) in commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        write!(page, "## {name}\n\n{about}\n\n").unwrap();
        let arguments = command.get_arguments().filter(|argument| {
            !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
        });
        let rows: Vec<_> = arguments.map(row).collect();
        assert!(!rows.is_empty(), "{name}");
        page += &table(&["flag", "default", "environment variable", "meaning"], rows);
        page.push('\n');
    }
    hold("flags.md", &(page.trim_end().to_owned() + "\n"));
}

fn row(argument: &Arg) -> Vec<String> {
    let values = argument.get_value_names().unwrap_or_default();
    let value = values.first().map(ToString::to_string).unwrap_or_default();
    let takes_value = argument.get_action().takes_values();
    let flag = match (argument.get_long(), argument.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => String::new(),
    };
    let shown = match (flag.is_empty(), takes_value) {
        (true, _) => value,
        (false, true) => format!("{flag} {value}"),
        (false, false) => flag,
    };
    let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy());
    let default: Vec<String> = defaults.map(|value| code(&value)).collect();
    let default = if takes_value { default.join(", ") } else { String::new() };
    let variable = argument.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default();
    let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    if !help.ends_with('.') {
        help.push('.');
    }
    let possible: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| takes_value)
        .map(|value| code(value.get_name()))
        .collect();
    if !possible.is_empty() {
        write!(help, " One of {}.", possible.join(", ")).unwrap();
    }
    vec![code(&shown), default, variable, help]
}

#[test]
fn exit_codes() {
    let mut page = head(
        "Exit codes",
        "The exit codes of each command, as its help ends with them. When several apply, 2 comes before 1, and 1 \
         before 3.",
    );
    let mut rows = Vec::new();
    for (name, command) in commands() {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let (_, codes) = after
            .split_once("Exit codes: ")
            .unwrap_or_else(|| panic!("the help of {name} does not say its exit codes"));
        let codes = codes.split_whitespace().collect::<Vec<_>>().join(" ");
        // What follows the codes is about all of them.
        let (codes, rest) = codes.split_once(". ").unwrap_or((codes.trim_end_matches('.'), ""));
        let of = |wanted: &str| {
            let mut parts = codes.split("; ");
            let part = parts.find_map(|part| part.strip_prefix(wanted)?.strip_prefix(' '));
            part.unwrap_or_default().to_owned()
        };
        assert!(!of("0").is_empty() && !of("2").is_empty(), "{name}: {codes}");
        rows.push(vec![code(&name), of("0"), of("1"), of("2"), of("3")]);
        assert!(rest.is_empty() || rest.ends_with('.'), "{rest}");
    }
    page += &table(&["command", "0", "1", "2", "3"], rows);
    hold("exit-codes.md", &page);
}
