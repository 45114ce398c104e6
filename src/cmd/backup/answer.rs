//! The answer of a command of `backup`, and the words that the commands share.

use std::fmt::Write as _;

use serde_json::Value;

use crate::backup::disk::error::Error as DiskError;
use crate::cmd::{ANOMALIES, BLIND, Error, USAGE};
use crate::report::text::printable;

/// The answer of a command.
#[derive(Debug, Default)]
pub struct Answer {
    /// What goes to standard output, as text.
    pub text: String,
    /// What goes to standard output, as JSON.
    pub json: Value,
    /// The lines for standard error.
    pub notes: Vec<String>,
    /// The exit code.
    pub code: u8,
}

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// It was used wrongly; there is no answer.
    #[error(transparent)]
    Usage(#[from] Error),
    /// The backups, or the disk, could not be read or written; the answer says so.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Answer {
    /// Adds a line of text, in which foreign text is harmless.
    pub fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "{}", printable(line));
    }

    /// Adds a line to standard error.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Adds a line to standard error about what makes the answer this code.
    pub fn wrong(&mut self, code: u8, note: impl Into<String>) {
        self.note(note);
        self.worsen(code);
    }

    /// Records why something was not done.
    pub fn failed(&mut self, error: &DiskError) {
        self.wrong(if error.is_of_rights() { BLIND } else { ANOMALIES }, error.to_string());
    }

    /// Of two codes, that of wrong usage comes first, then that of something wrong.
    pub fn worsen(&mut self, code: u8) {
        let rank = |code: u8| [0, BLIND, ANOMALIES, USAGE].iter().position(|own| *own == code);
        if rank(code) > rank(self.code) {
            self.code = code;
        }
    }
}

/// A number of bytes for a person.
pub fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.into_iter().find(|(_, unit)| bytes >= *unit);
    let Some((name, unit)) = unit else { return format!("{bytes} B") };
    let tenths = bytes.saturating_mul(10) / unit;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// The present time in whole seconds.
#[allow(clippy::cast_possible_truncation)] // seconds of this era fit
pub fn now() -> i64 {
    crate::cmd::unix_now() as i64
}
