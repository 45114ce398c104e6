//! `man` and `completions`: files for packages, generated from the definition of the command line.

use std::io::{self, Write};

use clap_complete::Shell;

use super::{Error, OK};
use crate::cli::Cli;

/// Writes the manual page of a command, or of the program, in roff. The page of a command of a command has both
/// words in its name, such as `backup-create`.
pub fn man(page: Option<&str>) -> Result<u8, Error> {
    // Each page lists the pages of its commands, and `help` has none.
    let mut program = Cli::shown()
        .disable_help_subcommand(true)
        .mut_subcommand("backup", |group| group.disable_help_subcommand(true));
    // Gives each command its full name, such as haproxy-host-exporter-check.
    program.build();
    let about = page
        .into_iter()
        .flat_map(|page| page.split('-'))
        .fold(&program, |command, word| command.find_subcommand(word).unwrap_or(command));
    let about = about.clone();
    let mut page = Vec::new();
    // The library names the page's source by the command, which has no version of its own.
    let source = format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(about).section("8").source(source).render(&mut page)?;
    io::stdout().write_all(&page)?;
    Ok(OK)
}

/// Writes the completions for a shell.
pub fn completions(shell: Shell) -> Result<u8, Error> {
    let mut command = Cli::shown();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    io::stdout().write_all(&script)?;
    Ok(OK)
}
