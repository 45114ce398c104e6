//! `backup`: keeps what HAProxy reads, proves that a version accepts it, and restores it.
//!
//! | step | file |
//! |---|---|
//! | find the backup that a name means | `lookup.rs` |
//! | find what a service reads | `source.rs` |
//! | write a backup | `write.rs` |
//! | the commands | `create.rs`, `list.rs`, `verify.rs`, `diff.rs`, `restore.rs` |
//! | decide | [`crate::backup`] |
//! | read and write | [`crate::backup::disk`] |

mod answer;
mod create;
mod diff;
mod list;
mod lookup;
mod restore;
mod source;
mod verify;
mod write;

use std::io::Write as _;

use self::answer::{Answer, Stopped};
use super::Error;
use crate::cli::{Backup, CheckOutput};
use crate::report::text::printable;

/// Runs one of the commands.
pub fn run(backup: &Backup) -> Result<u8, Error> {
    let mut answer = Answer::default();
    let (ended, output) = match backup {
        Backup::Create(create) => (create::run(create, &mut answer), create.output),
        Backup::List(list) => (list::run(list, &mut answer), list.output),
        Backup::Verify(verify) => (verify::run(verify, &mut answer), verify.output),
        Backup::Diff(diff) => (diff::run(diff, &mut answer), diff.output),
        Backup::Restore(restore) => (restore::run(restore, &mut answer), restore.output),
    };
    match ended {
        Ok(()) => {}
        Err(Stopped::Usage(error)) => return Err(error),
        Err(Stopped::Disk(error)) => answer.failed(&error),
    }
    let text = match output {
        CheckOutput::Text => answer.text,
        CheckOutput::Json if answer.json.is_null() => String::new(),
        CheckOutput::Json => format!("{:#}\n", answer.json),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    for note in &answer.notes {
        eprintln!("haproxy-host-exporter: {}", printable(note));
    }
    Ok(answer.code)
}
