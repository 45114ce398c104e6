//! `man` and `completions`: files for packages, generated from the definition of the command line.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Error, OK};
use crate::cli::Cli;

/// Writes the manual page in roff.
pub fn man() -> Result<u8, Error> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).section("8").render(&mut page)?;
    io::stdout().write_all(&page)?;
    Ok(OK)
}

/// Writes the completions for a shell.
pub fn completions(shell: Shell) -> Result<u8, Error> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    io::stdout().write_all(&script)?;
    Ok(OK)
}
