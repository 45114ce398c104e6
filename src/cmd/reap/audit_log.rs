//! Writes the audit of signals: to the log, and to the file of `--audit-log`.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tracing::{debug, info};

use crate::cmd::Error;

/// Keeps another user's link from leading the log elsewhere, and makes a FIFO that no process reads an error at
/// once.
const FLAGS: i32 =
    rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK).bits().cast_signed();

/// Where the audit goes.
#[derive(Debug)]
pub struct AuditLog {
    /// A person reads the answer at a terminal, and the answer says the same.
    is_read_elsewhere: bool,
    file: Option<(PathBuf, File)>,
}

impl AuditLog {
    /// Opens the file for appending; it is created with mode 0640.
    pub fn open(path: Option<&Path>, watch: bool) -> Result<AuditLog, Error> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            let options = options.append(true).create(true).mode(0o640);
            let file = options.custom_flags(FLAGS).open(path);
            file.map(|file| (path.to_owned(), file))
                .map_err(|error| Error::AuditLog { path: path.to_owned(), error })
        };
        let is_read_elsewhere = !watch && std::io::stderr().is_terminal();
        Ok(AuditLog { is_read_elsewhere, file: path.map(open).transpose()? })
    }

    /// Writes one line, and waits until the disk has it. The error is the one of the file.
    pub fn write(&mut self, line: &Value) -> Result<(), String> {
        let text = line.to_string();
        if self.is_read_elsewhere {
            debug!(audit = %text, "reap");
        } else {
            info!(audit = %text, "reap");
        }
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let written =
            file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_data());
        written.map_err(|error| format!("{}: {error}", path.display()))
    }
}
