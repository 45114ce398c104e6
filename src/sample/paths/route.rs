//! Follows a path below a root directory, one name at a time, and notes whose each step is.
//!
//! openat2(2) could resolve below a root by itself, but a seccomp filter may answer it with ENOSYS,
//! and it does not report the owners of the links and directories on the way.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat};
use rustix::io::Errno;

/// A path leads over at most this many symbolic links (`MAXSYMLINKS` of Linux).
const MOST_LINKS: usize = 40;

/// File systems whose files are no configuration: their links lead to other processes' files, their
/// files show the kernel's state, or a program of some user answers each access (statfs(2)).
const REFUSED_FILE_SYSTEMS: [FsWord; 6] = [
    PROC_SUPER_MAGIC,
    0x6265_6572, // sysfs
    0x6573_5546, // FUSE
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x6367_7270, // cgroup2
];

/// One directory, link or file on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What it is.
    pub kind: StepKind,
    /// Its owner.
    pub owner: u32,
    /// Its group.
    pub group: u32,
    /// Its permission bits, the sticky bit included.
    pub mode: u32,
    /// How many names it has.
    pub names: u64,
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// A directory that was searched, or that the path ends at.
    Directory,
    /// A symbolic link that was followed.
    Link,
    /// What the path ends at, if that is no directory.
    End,
}

/// Where a path leads.
#[derive(Debug)]
pub struct Route {
    /// Every step, from the root on.
    pub steps: Vec<Step>,
    /// The directory that holds the end; the root if the path names no other.
    pub parent: OwnedFd,
    /// The name of the end in that directory; `.` for the root itself.
    pub name: OsString,
    /// The status of the end.
    pub stat: Stat,
}

/// A directory or link on the way, with the path at which it really lies.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Its path below the root; no part of it is a link.
    pub path: PathBuf,
    /// Its status.
    pub stat: Stat,
    /// Where it leads, if it is a link.
    pub target: Option<OsString>,
}

/// A route, with the paths of all that lies on it.
#[derive(Debug)]
pub struct Trace {
    /// Where the path leads.
    pub route: Route,
    /// The path at which the end really lies.
    pub end: PathBuf,
    /// The directories and links on the way, the root left out; a directory at the end included.
    pub passed: Vec<Passed>,
}

/// Why a path could not be followed to its end.
#[derive(Debug)]
pub struct Dead {
    /// What the kernel said; `ELOOP` after too many links, `EXDEV` on a file system that is refused.
    pub errno: Errno,
    /// The steps before.
    pub steps: Vec<Step>,
    /// Only the last name was missing.
    pub only_end_missing: bool,
}

/// Opens a root directory with `O_PATH`, to follow paths below it.
pub fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Follows `path` as a process whose root directory is `root` would: neither `..` nor an absolute link
/// leaves that root. `root` is opened with `O_PATH`.
pub fn follow(root: &OwnedFd, path: &Path) -> Result<Route, Dead> {
    walk(root, path, &REFUSED_FILE_SYSTEMS).map(|trace| trace.route)
}

/// The same, with the paths of the links and directories on the way.
pub fn trace(root: &OwnedFd, path: &Path) -> Result<Trace, Dead> {
    walk(root, path, &REFUSED_FILE_SYSTEMS)
}

/// The same, but procfs is permitted, whose links then lead where their text says. For namespaces
/// only: a file of procfs is never read by a name that a process has given.
pub fn follow_into_proc(root: &OwnedFd, path: &Path) -> Result<Route, Dead> {
    let refused: Vec<FsWord> =
        REFUSED_FILE_SYSTEMS.into_iter().filter(|kind| *kind != PROC_SUPER_MAGIC).collect();
    walk(root, path, &refused).map(|trace| trace.route)
}

/// Where a path leads, opened with `O_PATH`. Nothing may be shown by it: it does not note whose the steps are, and the
/// kernel finds the way at less cost.
pub fn find(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match fs::openat2(root, inside, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        // Before Linux 5.6, or where a seccomp filter refuses it.
        Err(Errno::NOSYS | Errno::PERM) => {
            follow(root, path).map_err(|dead| dead.errno)?.open(OFlags::PATH)
        }
        found => found,
    }
}

fn walk(root: &OwnedFd, path: &Path, refused: &[FsWord]) -> Result<Trace, Dead> {
    let (above, steps, passed) = (Vec::new(), Vec::new(), Vec::new());
    let here = PathBuf::from("/");
    let mut walk = Walk { root, refused, above, steps, links: 0, device: None, here, passed };
    let mut left = names(path);
    match walk.go(&mut left) {
        Ok((parent, name, stat)) => {
            let end = if name == "." { walk.here } else { walk.here.join(&name) };
            let route = Route { steps: walk.steps, parent, name, stat };
            Ok(Trace { route, end, passed: walk.passed })
        }
        Err(errno) => {
            let only_end_missing = errno == Errno::NOENT && left.is_empty();
            Err(Dead { errno, steps: walk.steps, only_end_missing })
        }
    }
}

impl Route {
    /// Opens the end, which must still be the one that was found.
    ///
    /// Fails with `ESTALE` if another file has taken its place, so that the steps always belong to
    /// the file that is read. It never waits for the other end of a FIFO.
    pub fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = fs::openat(&self.parent, &self.name, flags, Mode::empty())?;
        let stat = fs::fstat(&opened)?;
        let same = (stat.st_dev, stat.st_ino) == (self.stat.st_dev, self.stat.st_ino);
        if same { Ok(opened) } else { Err(Errno::STALE) }
    }
}

struct Walk<'a> {
    root: &'a OwnedFd,
    refused: &'a [FsWord],
    /// The directories from below the root down to the present one.
    above: Vec<OwnedFd>,
    steps: Vec<Step>,
    links: usize,
    /// The device whose file system was looked at last.
    device: Option<u64>,
    /// The path of the present directory.
    here: PathBuf,
    passed: Vec<Passed>,
}

impl Walk<'_> {
    fn go(&mut self, left: &mut VecDeque<OsString>) -> Result<(OwnedFd, OsString, Stat), Errno> {
        let mut stat = self.enter(&self.root.try_clone().map_err(|_| Errno::MFILE)?)?;
        let mut last = OsString::from(".");
        while let Some(name) = left.pop_front() {
            if name == ".." {
                self.above.pop();
                self.here.pop();
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = fs::openat(self.here(), &name, flags, Mode::empty())?;
            stat = fs::fstat(&found)?;
            self.refuse_strange_file_systems(&found, &stat)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => self.turn((&found, &name), &stat, left)?,
                FileType::Directory => {
                    self.steps.push(step(StepKind::Directory, &stat));
                    self.here.push(&name);
                    self.passed.push(Passed { path: self.here.clone(), stat, target: None });
                    self.above.push(found);
                    last = OsString::from(".");
                }
                _ if left.is_empty() => {
                    self.steps.push(step(StepKind::End, &stat));
                    last = name;
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        let parent = self.here().try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        if last == "." {
            stat = fs::fstat(&parent)?;
        }
        Ok((parent, last, stat))
    }

    fn here(&self) -> std::os::fd::BorrowedFd<'_> {
        self.above.last().map_or(self.root.as_fd(), AsFd::as_fd)
    }

    fn enter(&mut self, directory: &OwnedFd) -> Result<Stat, Errno> {
        let stat = fs::fstat(directory)?;
        self.refuse_strange_file_systems(directory, &stat)?;
        self.steps.push(step(StepKind::Directory, &stat));
        Ok(stat)
    }

    /// Puts the target of a link before the names that are left.
    fn turn(
        &mut self,
        (link, name): (&OwnedFd, &OsStr),
        stat: &Stat,
        left: &mut VecDeque<OsString>,
    ) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP);
        }
        self.steps.push(step(StepKind::Link, stat));
        let target = OsString::from_vec(fs::readlinkat(link, "", Vec::new())?.into_bytes());
        let place = self.here.join(name);
        self.passed.push(Passed { path: place, stat: *stat, target: Some(target.clone()) });
        if target.as_bytes().starts_with(b"/") {
            self.above.clear();
            self.here = PathBuf::from("/");
        }
        let mut target = names(Path::new(&target));
        target.append(left);
        *left = target;
        Ok(())
    }

    fn refuse_strange_file_systems(&mut self, file: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
        if self.device == Some(stat.st_dev) {
            return Ok(());
        }
        self.device = Some(stat.st_dev);
        let kind = fs::fstatfs(file)?.f_type;
        if self.refused.contains(&kind) { Err(Errno::XDEV) } else { Ok(()) }
    }
}

fn step(kind: StepKind, stat: &Stat) -> Step {
    Step {
        kind,
        owner: stat.st_uid,
        group: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        // 32 bits on arm64.
        #[allow(clippy::useless_conversion)]
        names: stat.st_nlink.into(),
    }
}

/// The names of a path, `.` and doubled slashes left out. A slash at the end asks for a directory.
fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::fs::ResolveFlags;
    use std::os::unix::fs::symlink;

    fn directory(path: &Path) -> OwnedFd {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::open(path, flags, Mode::empty()).unwrap()
    }

    /// The inode that both ways lead to, or that neither does.
    fn agree(root: &OwnedFd, path: &Path) -> Result<(), TestCaseError> {
        let below: PathBuf = path.components().skip_while(|c| *c == Component::RootDir).collect();
        let below = if below.as_os_str().is_empty() { PathBuf::from(".") } else { below };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let kernel = fs::openat2(root, &below, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        let kernel = kernel.and_then(|found| fs::fstat(&found)).map(|stat| stat.st_ino);
        let ours = follow(root, path).map(|route| route.stat.st_ino).map_err(|dead| dead.errno);
        prop_assert_eq!(ours, kernel, "{}", path.display());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        /// On random trees of directories, files and links, following by hand leads where
        /// openat2(2) with `RESOLVE_IN_ROOT` leads.
        #[test]
        fn leads_where_the_kernel_leads(
            links in prop::collection::vec((0usize..6, 0usize..3, "(/|\\.\\./)?([abc]|\\.\\.)(/([abc]|\\.\\.)){0,3}"), 0..6),
            paths in prop::collection::vec("/?([abc]|\\.\\.|\\.)(/([abc]|\\.\\.|\\.)){0,4}", 1..12),
        ) {
            let scratch = tempfile::tempdir().unwrap();
            let place = scratch.path();
            let homes = ["", "a", "b", "a/b", "a/c", "b/a"];
            for home in &homes[1..] {
                std::fs::create_dir_all(place.join(home)).unwrap();
            }
            std::fs::write(place.join("a/b/c"), "x").unwrap();
            for (home, name, target) in links {
                let name = place.join(homes[home]).join(["a", "b", "c"][name]);
                symlink(target, name).ok();
            }
            let root = directory(place);
            for path in paths {
                agree(&root, Path::new(&path))?;
            }
        }
    }

    #[test]
    fn files_of_the_kernel_are_refused() {
        let root = directory(Path::new("/"));
        for path in
            ["/proc/self/environ", "/proc/1/root/etc/passwd", "/sys/kernel/notes", "/dev/fd/0"]
        {
            let dead = follow(&root, Path::new(path)).map(|_| ()).unwrap_err();
            assert_eq!(dead.errno, Errno::XDEV, "{path}");
        }
    }

    #[test]
    fn a_file_that_took_the_place_of_another_is_not_opened() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path();
        std::fs::write(place.join("a"), "old").unwrap();
        std::fs::write(place.join("b"), "new").unwrap();
        let root = directory(place);
        let route = follow(&root, Path::new("/a")).unwrap();
        assert!(route.open(OFlags::RDONLY).is_ok());
        std::fs::rename(place.join("b"), place.join("a")).unwrap();
        assert_eq!(route.open(OFlags::RDONLY).map(|_| ()), Err(Errno::STALE));
    }

    #[test]
    fn a_circle_of_links_ends() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path();
        symlink("b", place.join("a")).unwrap();
        symlink("a", place.join("b")).unwrap();
        let dead = follow(&directory(place), Path::new("a")).map(|_| ()).unwrap_err();
        assert_eq!(dead.errno, Errno::LOOP);
    }
}
