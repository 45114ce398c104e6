//! Holds a start for as long as a test needs: `HAProxy` stands still where it reads a named pipe.

use std::fs;
use std::path::PathBuf;

use crate::support::{Bed, Service};

/// A pipe that a configuration has to read. When it is dropped, every process that reads it goes on, now
/// and later.
pub struct Gate {
    pipe: PathBuf,
    /// What takes the pipe's place.
    values: PathBuf,
}

impl Gate {
    pub fn new(bed: &Bed, service: &Service<'_>) -> Self {
        let pipe = service.path("values.map");
        bed.shell(&format!("mkfifo {}", pipe.display()));
        Self { pipe, values: bed.write("values.map", "/ one\n") }
    }

    /// A proxy that is not read to its end before the gate is open. It listens on port 8004.
    pub fn proxy(&self) -> String {
        format!(
            "
frontend slow
    mode http
    bind 127.0.0.1:8004
    http-request set-header X-Value %[path,map({})]
    http-request return status 200
",
            self.pipe.display()
        )
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // A process that has opened the pipe reads its end when this writer goes; a later one finds a plain
        // file.
        let writer = fs::File::options().read(true).write(true).open(&self.pipe);
        let _ = fs::rename(&self.values, &self.pipe);
        drop(writer);
    }
}
