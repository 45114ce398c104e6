//! Compares the program that a process executes with the file that the next one would execute. Neither
//! is executed.

use std::fs::File;
use std::path::Path;

use rustix::fs::{self, FileType, Mode, OFlags};

use crate::haproxy::config::Version;
use crate::sample::paths::route;
use crate::sample::proc::dir::read_up_to;

/// The largest file that is read. HAProxy has 3 to 7 MB.
const MOST_BYTES: u64 = 64 << 20;
/// The words of every HAProxy that prints its version.
const MARK: &[u8] = b"HAProxy version ";
/// The bytes of the longest version.
const LONGEST_VERSION: usize = 64;

/// The file on disk beside the program that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnDisk {
    /// It is the file that runs.
    Same,
    /// It is another file, with its version and that of the program which runs.
    Other {
        /// The version that runs.
        running: String,
        /// The version on disk.
        next: String,
    },
}

/// Compares what a process executes with the file of this path, as the process sees it; `None` if one of
/// the two could not be read, or does not show its version.
#[must_use]
pub fn on_disk(procfs: &Path, pid: i32, path: &Path) -> Option<OnDisk> {
    let process = procfs.join(pid.to_string());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let running = fs::open(process.join("exe"), flags, Mode::empty()).ok()?;
    let root = route::open_root(&process.join("root")).ok()?;
    let next = route::follow(&root, path).ok()?;
    let next = next.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).ok()?;
    let (this, that) = (fs::fstat(&running).ok()?, fs::fstat(&next).ok()?);
    if (this.st_dev, this.st_ino) == (that.st_dev, that.st_ino) {
        return Some(OnDisk::Same);
    }
    if FileType::from_raw_mode(that.st_mode) != FileType::RegularFile {
        return None;
    }
    let version = |file| version_in(&read_up_to(File::from(file), MOST_BYTES).ok()?);
    Some(OnDisk::Other { running: version(running)?, next: version(next)? })
}

/// The version that is built into a HAProxy. The file holds it twice as a separate string (`src/version.c`
/// and `haproxy_version` in `src/haproxy.c`), and other numbers that look like versions once at most.
fn version_in(program: &[u8]) -> Option<String> {
    program.windows(MARK.len()).any(|part| part == MARK).then_some(())?;
    let strings = program.split(|&byte| byte == 0);
    let mut found: Vec<&str> = Vec::new();
    let versions = strings
        .filter(|string| (5..LONGEST_VERSION).contains(&string.len()))
        .filter(|string| string.first().is_some_and(u8::is_ascii_digit))
        .filter_map(|string| std::str::from_utf8(string).ok());
    for text in versions.filter(|text| Version::parse(text).is_some() && is_whole(text)) {
        if found.contains(&text) {
            return Some(text.to_owned());
        }
        found.push(text);
    }
    None
}

/// The text has three numbers, or two and a development state, such as `3.0.11-1` or `3.5-dev5`.
fn is_whole(text: &str) -> bool {
    let numbers = text.split('-').next().unwrap_or_default().split('.').count();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '~' | ':');
    text.chars().all(plain) && (numbers == 3 || (numbers == 2 && text.contains("-dev")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_program_is_found() {
        let own = b"\x7fELF\0HAProxy version %s\x002.6.12-1+deb12u3\0";
        let with = |rest: &[u8]| version_in(&[own, rest].concat());
        let found = Some("2.6.12-1+deb12u3".to_owned());
        assert_eq!(with(b"0.0.0.0\x000.0.0.0\x001.2.7\x002.6.12-1+deb12u3\0"), found);
        assert_eq!(with(b"1.2.7\0"), None, "once is not enough");
        assert_eq!(version_in(b"2.6.12\x002.6.12\0"), None, "not a HAProxy");
        assert_eq!(with(b"3.5-dev5\x003.5-dev5\0"), Some("3.5-dev5".to_owned()));
    }

    #[test]
    fn a_running_program_is_the_file_on_disk() {
        let own = std::env::current_exe().unwrap();
        let pid = std::process::id().cast_signed();
        assert_eq!(on_disk(Path::new("/proc"), pid, &own), Some(OnDisk::Same));
        assert_eq!(on_disk(Path::new("/proc"), pid, Path::new("/nonexistent")), None);
        assert_eq!(on_disk(Path::new("/proc"), pid, Path::new("/bin/sh")), None, "no HAProxy");
    }
}
