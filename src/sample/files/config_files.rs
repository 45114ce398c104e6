//! Reads the configuration files of a HAProxy, in its order, without ever waiting for one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::problem::{Problem, problem};
use crate::haproxy::config::{SourceFile, is_configuration};
use crate::sample::paths::access::{Reader, may_be_followed, may_be_shown};
use crate::sample::paths::route;

/// Largest file that is read; HAProxy has no limit, a configuration of 10,000 binds is 1 MB.
pub const MOST_FILE_BYTES: u64 = 16 << 20;
/// Most bytes that are read of one configuration.
pub const MOST_BYTES: u64 = 32 << 20;
/// Most files of one configuration, and most entries looked at in a directory.
pub const MOST_FILES: usize = 16_384;

/// Where names of files are looked up.
#[derive(Debug, Clone)]
pub struct Base {
    /// Root: `/`, or `/proc/PID/root` for a process in another mount namespace. Absolute links
    /// inside lead to this root.
    pub root: PathBuf,
    /// Directory that relative names start from, as seen in that root: `-C`, or the directory it
    /// was started in.
    pub directory: PathBuf,
    /// On whose behalf the files may be shown; `None` if the caller named them, and reads with rights of
    /// its own.
    pub reader: Option<Reader>,
}

impl Default for Base {
    fn default() -> Self {
        Base { root: PathBuf::from("/"), directory: PathBuf::from("."), reader: None }
    }
}

/// Shows whether a file has changed, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Its name, as in [`SourceFile::path`].
    pub path: PathBuf,
    /// Device and inode.
    pub inode: (u64, u64),
    /// Bytes.
    pub size: u64,
    /// Modification time: seconds and nanoseconds since the epoch.
    pub modified: (i64, i64),
    /// The same of its last change, that of its names and rights included.
    pub changed: (i64, i64),
}

/// A configuration as found.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// Every file that could be read, in HAProxy's order.
    pub files: Vec<SourceFile>,
    /// Their stamps.
    pub stamps: Vec<Stamp>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// Reads what `names` name: those of every `-f` and after `--`, in order. A directory stands for its regular files
/// whose names end at their first `.cfg` and do not begin with a dot, sorted by bytes; it is not
/// recursive (`cfgfiles_expand_directories` in `src/haproxy.c`).
#[must_use]
pub fn collect(names: &[PathBuf], base: &Base) -> Collected {
    collect_up_to(MOST_BYTES, names, base)
}

/// The same, but reads at most this number of bytes.
#[must_use]
pub fn collect_up_to(bytes: u64, names: &[PathBuf], base: &Base) -> Collected {
    walk(names, base, Some(bytes.min(MOST_BYTES)))
}

/// The stamps of the same files, without reading them: they show whether a reading is still current.
#[must_use]
pub fn stamps(names: &[PathBuf], base: &Base) -> Vec<Stamp> {
    walk(names, base, None).stamps
}

/// `most_bytes` is the maximum number of bytes that are read; with `None`, no file is read.
fn walk(names: &[PathBuf], base: &Base, most_bytes: Option<u64>) -> Collected {
    let mut collector = Collector { base, most_bytes, bytes: 0, collected: Collected::default() };
    for name in names {
        if let Err(problem) = collector.name(name) {
            let full = matches!(problem, Problem::TooMany { .. });
            collector.collected.problems.push(problem);
            if full {
                break;
            }
        }
    }
    collector.collected
}

struct Collector<'a> {
    base: &'a Base,
    most_bytes: Option<u64>,
    bytes: u64,
    collected: Collected,
}

impl Collector<'_> {
    fn name(&mut self, name: &Path) -> Result<(), Problem> {
        let stat = self.stat(name)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(name, &stat),
            FileType::Directory => {
                self.entries(name)?.iter().try_for_each(|entry| self.entry(name, entry))
            }
            _ => Err(Problem::NotAFile { path: name.into() }),
        }
    }

    /// One entry of a directory: what cannot be read does not hide the others.
    fn entry(&mut self, directory: &Path, entry: &OsStr) -> Result<(), Problem> {
        // HAProxy puts a slash between them whether there is one or not.
        let mut path = directory.as_os_str().to_owned();
        path.push("/");
        path.push(entry);
        let path = PathBuf::from(path);
        let outcome =
            self.stat(&path).and_then(|stat| match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => self.file(&path, &stat),
                _ => Ok(()),
            });
        match outcome {
            Err(problem) if !matches!(problem, Problem::TooMany { .. }) => {
                self.collected.problems.push(problem);
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn entries(&self, path: &Path) -> Result<Vec<OsString>, Problem> {
        let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let entries = Dir::read_from(&directory).map_err(|errno| problem(path, errno))?;
        let mut names = Vec::new();
        for (seen, entry) in entries.enumerate() {
            if seen >= MOST_FILES {
                return Err(Problem::TooMany { path: path.into(), limit: MOST_FILES });
            }
            let entry = entry.map_err(|errno| problem(path, errno))?;
            let name = entry.file_name().to_bytes();
            if is_configuration(name) {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// `stat`: what it was a moment ago.
    fn file(&mut self, path: &Path, stat: &Stat) -> Result<(), Problem> {
        if self.collected.files.len() >= MOST_FILES {
            return Err(Problem::TooMany { path: path.into(), limit: MOST_FILES });
        }
        let Some(most_bytes) = self.most_bytes else {
            self.collected.stamps.push(stamp(path, stat));
            return Ok(());
        };
        // It may be replaced by a FIFO between the look and the opening.
        let descriptor = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = fs::fstat(&descriptor).map_err(|errno| problem(path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Problem::NotAFile { path: path.into() });
        }
        let limit = MOST_FILE_BYTES.min(most_bytes - self.bytes);
        let mut text = Vec::new();
        File::from(descriptor).take(limit + 1).read_to_end(&mut text).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            problem(path, errno)
        })?;
        let size = text.len() as u64;
        if size > limit {
            return Err(Problem::TooLarge { path: path.into(), limit });
        }
        self.bytes += size;
        self.collected.stamps.push(stamp(path, &stat));
        self.collected.files.push(SourceFile { path: path.into(), text });
        Ok(())
    }

    fn stat(&self, path: &Path) -> Result<Stat, Problem> {
        let descriptor = match &self.base.reader {
            // Nothing is read, so nothing can be shown: the kernel finds the way at less cost.
            Some(_) if self.most_bytes.is_none() => {
                let place = self.base.directory.join(path);
                let root = route::open_root(&self.base.root);
                let found = root.and_then(|root| route::find(&root, &place));
                found.map_err(|errno| problem(path, errno))
            }
            _ => self.open(path, OFlags::PATH),
        };
        fs::statat(&descriptor?, "", AtFlags::EMPTY_PATH).map_err(|errno| problem(path, errno))
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Problem> {
        let place = self.base.directory.join(path);
        let Some(reader) = &self.base.reader else {
            let opened = fs::open(&place, flags | OFlags::CLOEXEC, Mode::empty());
            return opened.map_err(|errno| problem(path, errno));
        };
        let root = route::open_root(&self.base.root).map_err(|errno| problem(path, errno))?;
        let route = route::follow(&root, &place).map_err(|dead| {
            let known = may_be_followed(reader.clone(), &dead.steps);
            if known { problem(path, dead.errno) } else { Problem::Withheld { path: path.into() } }
        })?;
        if !may_be_shown(reader.clone(), &route.steps) {
            return Err(Problem::Withheld { path: path.into() });
        }
        route.open(flags).map_err(|errno| problem(path, errno))
    }
}

fn stamp(path: &Path, stat: &Stat) -> Stamp {
    Stamp {
        path: path.into(),
        inode: (stat.st_dev, stat.st_ino),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    struct Scratch(TempDir);

    impl Scratch {
        fn new() -> Self {
            Scratch(tempfile::tempdir().expect("a scratch directory"))
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
            std::fs::write(path, text).expect("a file");
        }

        fn base(&self) -> Base {
            Base { directory: self.path().to_owned(), ..Base::default() }
        }
    }

    fn names(collected: &Collected) -> Vec<String> {
        let paths = collected.files.iter().map(|file| file.path.display());
        paths.map(|path| path.to_string()).collect()
    }

    #[test]
    fn names_of_a_directory() {
        for (name, expected) in [
            ("a.cfg", true),
            ("a.b.cfg", true),
            (".cfg", false),
            (".a.cfg", false),
            ("a.cfg.cfg", false),
            ("a.cfg.bak", false),
            ("a.CFG", false),
            ("cfg", false),
        ] {
            assert_eq!(is_configuration(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn order_and_kinds() {
        let scratch = Scratch::new();
        for name in ["d/b.cfg", "d/B.cfg", "d/a.cfg", "d/sub.cfg/x.cfg", "d/x.txt", "z.conf"] {
            scratch.write(name, name);
        }
        symlink("../d", scratch.path().join("d/loop.cfg")).expect("a link");
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            scratch.path().join("d/fifo.cfg"),
            Mode::from_raw_mode(0o600),
        )
        .expect("a FIFO");
        let wanted = ["z.conf", "d/", "z.conf", "missing", "d/fifo.cfg", "/dev/null"];
        let collected = collect(&wanted.map(PathBuf::from), &scratch.base());
        let expected = ["z.conf", "d//B.cfg", "d//a.cfg", "d//b.cfg", "z.conf"];
        assert_eq!(names(&collected), expected);
        assert_eq!(collected.stamps.len(), 5);
        let texts: Vec<String> = collected.problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3, "{texts:?}");
        assert_eq!(collected.problems[0], Problem::Missing { path: "missing".into() });
        assert_eq!(collected.problems[1], Problem::NotAFile { path: "d/fifo.cfg".into() });
    }

    #[test]
    fn a_link_to_nowhere_is_an_error() {
        let scratch = Scratch::new();
        scratch.write("d/a.cfg", "");
        symlink("nowhere", scratch.path().join("d/b.cfg")).expect("a link");
        let collected = collect(&["d".into()], &scratch.base());
        assert_eq!(names(&collected), ["d/a.cfg"]);
        assert!(collected.problems[0].is_error());
    }

    #[test]
    fn another_root() {
        let scratch = Scratch::new();
        scratch.write("etc/haproxy/real.cfg", "x");
        symlink("/etc/haproxy/real.cfg", scratch.path().join("etc/haproxy/haproxy.cfg"))
            .expect("a link");
        let reader = Some(Reader::Root);
        let base =
            Base { root: scratch.path().to_owned(), directory: "/etc/haproxy".into(), reader };
        let collected = collect(&["haproxy.cfg".into(), "/etc/haproxy/real.cfg".into()], &base);
        assert_eq!(collected.problems, []);
        assert_eq!(names(&collected), ["haproxy.cfg", "/etc/haproxy/real.cfg"]);
    }

    #[test]
    fn size_is_bounded() {
        let scratch = Scratch::new();
        let file = File::create(scratch.path().join("big.cfg")).expect("a file");
        file.set_len(MOST_FILE_BYTES + 1).expect("a sparse file");
        let collected = collect(&["big.cfg".into()], &scratch.base());
        assert!(matches!(collected.problems[..], [Problem::TooLarge { .. }]));
    }
}
