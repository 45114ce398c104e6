//! Brings the arguments into the order in which clap reads them, and says in an error to which command a
//! flag belongs.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

/// The command of arguments that name none.
const DEFAULT: &str = "serve";

/// Moves the flags that precede the command behind it, and inserts the default command where there is
/// none. The first argument is the name of the program.
pub fn arrange(arguments: impl IntoIterator<Item = OsString>, program: &Command) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut arranged: Vec<OsString> = arguments.next().into_iter().collect();
    let mut flags: Vec<OsString> = arguments.collect();
    let mut rest = flags.split_off(count_leading(&flags, program)).into_iter().peekable();
    match rest.peek().map(|word| word.to_string_lossy().into_owned()) {
        // The program's own help takes no other flag.
        Some(word) if is_help(&word) => flags.clear(),
        Some(word) if !word.starts_with('-') => {
            arranged.extend(rest.next());
            // The flags of a command of commands belong to the second word.
            let is_group = program.find_subcommand(&word).is_some_and(Command::has_subcommands);
            let next = rest.peek().and_then(|word| word.to_str());
            if is_group && next.is_some_and(|word| !word.starts_with('-')) {
                arranged.extend(rest.next());
            }
        }
        _ => arranged.push(DEFAULT.into()),
    }
    arranged.extend(flags);
    arranged.extend(rest);
    arranged
}

/// Whether arranged arguments ask for the help or the version of the program.
pub fn asks_program(arguments: &[OsString]) -> bool {
    let first = arguments.get(1).and_then(|word| word.to_str());
    first.is_some_and(|word| is_help(word) || word == "help")
}

fn is_help(word: &str) -> bool {
    matches!(word, "-h" | "--help" | "-V" | "--version")
}

/// The number of words at the beginning that are flags of the program, or values of such flags.
fn count_leading(words: &[OsString], program: &Command) -> usize {
    let mut count = 0;
    while let Some(word) = words.get(count).and_then(|word| word.to_str()) {
        let Some(name) = word.strip_prefix("--") else { break };
        let (name, has_value) = match name.split_once('=') {
            Some((name, _)) => (name, true),
            None => (name, false),
        };
        let Some(flag) = program.get_arguments().find(|flag| flag.get_long() == Some(name)) else {
            break;
        };
        let takes_next = flag.get_action().takes_values() && !has_value;
        count += if takes_next { 2 } else { 1 };
    }
    count.min(words.len())
}

/// Adds the names of the commands that have a flag to the error that another command does not know it.
pub fn name_owner(mut error: Error, program: &Command) -> Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return error };
    let flag = flag.clone();
    let owners: Vec<&str> = program
        .get_subcommands()
        .filter(|command| command.get_arguments().any(|argument| is_called(argument, &flag)))
        .map(Command::get_name)
        .collect();
    let Some(first) = owners.first() else { return error };
    let (owners, name) = (owners.join(" and "), program.get_name());
    let tip = format!("{flag} is a flag of {owners}, as in: {name} {first} {flag}");
    error.remove(ContextKind::SuggestedArg);
    let tips = ContextValue::StyledStrs(vec![StyledStr::from(tip)]);
    error.insert(ContextKind::Suggested, tips);
    error
}

fn is_called(argument: &Arg, flag: &str) -> bool {
    match flag.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => flag.strip_prefix('-').is_some_and(|short| {
            argument.get_short().is_some_and(|letter| short.starts_with(letter))
        }),
    }
}
