//! Keeps the state file and the lock beside it, in a directory that only the reaper writes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::state::{Damage, Era, State};
use crate::sample::paths::writers;

/// The most bytes of a state file: more than thousands of processes need.
const LARGEST_BYTES: u64 = 16 << 20;
/// The bits of a mode with which others than the owner can write.
const OTHERS_WRITE: RawMode = 0o022;
/// The bit of a mode with which users may only remove what is theirs, as in /tmp.
const STICKY: RawMode = 0o1000;

/// Why the state cannot be kept or read. Nothing is signalled then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path has no directory or no name.
    #[error("{}: name a file in a directory of the reaper's own with --reap.state-file", .0.display())]
    NoFile(PathBuf),
    /// Another user could change the directory.
    #[error(
        "{}: users other than root and this one can write there; give the state a directory that only the \
         reaper writes (--reap.state-file)",
        .0.display()
    )]
    Exposed(PathBuf),
    /// The file is not a regular file of root's or the reaper's, or others can write it.
    #[error("{}: not a regular file that only root or this user can write; remove it", .0.display())]
    Foreign(PathBuf),
    /// The content is not what a reaper writes.
    #[error("{}: {damage}; look at it, then remove it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// Another reaper is at work.
    #[error("{}: another reap is at work on this host", .0.display())]
    Locked(PathBuf),
    /// The system refused.
    #[error("{}: {error}", path.display())]
    Refused {
        /// The file or directory.
        path: PathBuf,
        /// The answer of the system.
        error: std::io::Error,
    },
}

/// The state file of a reaper that may send signals.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    directory: OwnedFd,
    /// Held while the reaper lives.
    _lock: OwnedFd,
}

impl Store {
    /// Makes the directory if there is none, and takes the lock beside the file.
    pub fn open(path: &Path) -> Result<Store, Error> {
        let (place, _) = split(path)?;
        match rustix::fs::mkdir(place, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(refused(place, errno)),
        }
        close_new_volume(place).map_err(|errno| refused(place, errno))?;
        let directory = open_directory(place)?;
        let lock_path = place.join("reap.lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&directory, "reap.lock", flags, Mode::from_raw_mode(0o600));
        let lock = lock.map_err(|errno| refused(&lock_path, errno))?;
        if !is_only_of(&lock, geteuid().as_raw()) {
            return Err(Error::Foreign(lock_path));
        }
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Store { path: path.to_owned(), directory, _lock: lock }),
            Err(Errno::WOULDBLOCK) => Err(Error::Locked(lock_path)),
            Err(errno) => Err(refused(&lock_path, errno)),
        }
    }

    /// Reads the state; that of a first run where there is no file.
    pub fn load(&self) -> Result<State, Error> {
        load_from(&self.directory, &self.path)
    }

    /// Writes the state beside the file, and then in its place.
    pub fn save(&self, state: &State) -> Result<(), Error> {
        let (_, name) = split(&self.path)?;
        let mut beside = name.to_owned();
        beside.push(".new");
        self.replace(name, &beside, state.text().as_bytes())
            .map_err(|error| refused(&self.path, error))
    }

    fn replace(&self, name: &OsStr, beside: &OsStr, text: &[u8]) -> std::io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, beside, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let mut file = File::from(rustix::fs::openat(&self.directory, beside, flags, mode)?);
        rustix::fs::fchmod(&file, mode)?;
        file.write_all(text)?;
        file.sync_all()?;
        rustix::fs::renameat(&self.directory, beside, &self.directory, name)?;
        Ok(rustix::fs::fsync(&self.directory)?)
    }
}

/// Reads the state without a lock, for a run that changes nothing.
pub fn peek(path: &Path) -> Result<State, Error> {
    let (place, _) = split(path)?;
    match open_directory(place) {
        Ok(directory) => load_from(&directory, path),
        Err(Error::Refused { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(State::default())
        }
        Err(error) => Err(error),
    }
}

/// Reads the state of a reaper that may be another user, for `serve`; `None` if there is none, or not one that
/// can be trusted: a regular file of root's, or of the owner of a directory that root has made, which no one
/// else can write.
#[must_use]
pub fn shown(path: &Path) -> Option<State> {
    let (place, name) = split(path).ok()?;
    // Of a unit with a dynamic user systemd makes the directory below /run/private, and a link to it in /run.
    let link = std::fs::read_link(place);
    let behind = link.ok().and_then(|target| Some(place.parent()?.join(target)));
    let place = behind.as_deref().unwrap_or(place);
    let is_roots = |place: &Path| place.parent().is_some_and(|above| writers::is_only_of(above, 0));
    if !is_roots(path.parent()?) || !is_roots(place) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(place, flags, Mode::empty()).ok()?;
    let reaper = rustix::fs::fstat(&directory).ok().filter(|stat| !others_write(stat))?.st_uid;
    let file = open_file(&directory, name).ok().filter(|file| is_only_of(file, reaper))?;
    State::parse(&read(file).ok()?).ok()
}

/// The boot and the pid namespace of this process.
pub fn era() -> std::io::Result<Era> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
    let namespace = rustix::fs::stat("/proc/self/ns/pid")?;
    Ok(Era { boot_id, pid_namespace: namespace.st_ino })
}

fn refused(path: &Path, error: impl Into<std::io::Error>) -> Error {
    Error::Refused { path: path.to_owned(), error: error.into() }
}

fn split(path: &Path) -> Result<(&Path, &OsStr), Error> {
    let parts = path.parent().filter(|place| !place.as_os_str().is_empty()).zip(path.file_name());
    parts.ok_or_else(|| Error::NoFile(path.to_owned()))
}

/// Takes the right to write from others where the directory is a volume that is still empty. Kubernetes
/// gives a pod an `emptyDir` that all may write to, and the image has no program that could change that.
/// Everything else stays as it is: what others may have written to is not made trustworthy by a mode.
fn close_new_volume(place: &Path) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // What is wrong with a directory that cannot be opened, the next step says.
    let Ok(directory) = rustix::fs::open(place, flags, Mode::empty()) else { return Ok(()) };
    let stat = rustix::fs::fstat(&directory)?;
    let above = rustix::fs::statat(&directory, "..", AtFlags::empty())?;
    let is_own = stat.st_uid == geteuid().as_raw();
    let is_sticky = stat.st_mode & STICKY != 0;
    let is_volume = stat.st_dev != above.st_dev;
    if !is_own || is_sticky || !is_volume || !others_write(&stat) || !is_empty(&directory)? {
        return Ok(());
    }
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(0o755))?;
    // What came in meanwhile is another's: open as before, the directory is refused.
    if !is_empty(&directory)? {
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(stat.st_mode))?;
    }
    Ok(())
}

fn is_empty(directory: &OwnedFd) -> Result<bool, Errno> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Opens a directory that only root and this user can change.
fn open_directory(place: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(place, flags, Mode::empty());
    let directory = directory.map_err(|errno| refused(place, errno))?;
    let own = geteuid().as_raw();
    let is_closed = rustix::fs::fstat(&directory).is_ok_and(|stat| !others_write(&stat));
    if is_closed && writers::is_only_of(place, own) {
        Ok(directory)
    } else {
        Err(Error::Exposed(place.to_owned()))
    }
}

fn load_from(directory: &OwnedFd, path: &Path) -> Result<State, Error> {
    let (_, name) = split(path)?;
    let file = match open_file(directory, name) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(State::default()),
        Err(Errno::LOOP) => return Err(Error::Foreign(path.to_owned())),
        Err(errno) => return Err(refused(path, errno)),
    };
    if !is_only_of(&file, geteuid().as_raw()) {
        return Err(Error::Foreign(path.to_owned()));
    }
    let text = read(file).map_err(|error| refused(path, error))?;
    State::parse(&text).map_err(|damage| Error::Damaged { path: path.to_owned(), damage })
}

/// Opens a file without following a link, and without waiting for the writer of a pipe.
fn open_file(directory: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

fn read(file: OwnedFd) -> std::io::Result<String> {
    let mut text = String::new();
    File::from(file).take(LARGEST_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// A regular file of root's or of this user's that no other user can write.
fn is_only_of(file: &OwnedFd, user: u32) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && (stat.st_uid == 0 || stat.st_uid == user)
            && !others_write(&stat)
    })
}

fn others_write(stat: &Stat) -> bool {
    stat.st_mode & OTHERS_WRITE != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    use tempfile::TempDir;

    /// A directory below one of root's, as /run is.
    fn scratch() -> TempDir {
        tempfile::tempdir_in("/run").unwrap()
    }

    fn some() -> State {
        let mut state = State::default();
        state.haproxys.entry("lb".to_owned()).or_default().pending = 3;
        state
    }

    fn pending(state: &State) -> Option<u64> {
        state.haproxys.get("lb").map(|counters| counters.pending)
    }

    #[test]
    fn the_state_outlives_a_run() {
        let scratch = scratch();
        let place = scratch.path();
        let path = place.join("reap/reap.json");
        let store = Store::open(&path).unwrap();
        assert_eq!(store.load().unwrap(), State::default(), "a first run");
        store.save(&some()).unwrap();
        store.save(&some()).unwrap();
        assert_eq!(pending(&store.load().unwrap()), Some(3));
        assert_eq!(pending(&peek(&path).unwrap()), Some(3));
        assert_eq!(pending(&shown(&path).unwrap()), Some(3));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        let names: Vec<_> = fs::read_dir(place.join("reap")).unwrap().collect();
        assert_eq!(names.len(), 2, "the state and the lock");
        assert!(matches!(Store::open(&path), Err(Error::Locked(_))));
        drop(store);
        Store::open(&path).unwrap();
    }

    #[test]
    fn what_another_user_could_have_written_is_not_read() {
        type Change = fn(&Path);
        let table: [(&str, Change, bool); 8] = [
            ("as it was written", |_| {}, true),
            ("another user's", |path| chown(path, Some(1000), Some(1000)).unwrap(), false),
            ("writable for all", |path| set_mode(path, 0o666), false),
            ("writable for the group", |path| set_mode(path, 0o664), false),
            (
                "a link",
                |path| {
                    let other = path.with_file_name("other");
                    fs::rename(path, &other).unwrap();
                    symlink(&other, path).unwrap();
                },
                false,
            ),
            (
                "a directory",
                |path| {
                    fs::remove_file(path).unwrap();
                    fs::create_dir(path).unwrap();
                },
                false,
            ),
            (
                "a directory that all can write",
                |path| set_mode(path.parent().unwrap(), 0o777),
                false,
            ),
            ("damaged", |path| fs::write(path, "{}").unwrap(), false),
        ];
        for (what, change, is_good) in table {
            let scratch = scratch();
            let place = scratch.path();
            let path = place.join("reap/reap.json");
            Store::open(&path).unwrap().save(&some()).unwrap();
            change(&path);
            let loaded = Store::open(&path).and_then(|store| store.load());
            assert_eq!(loaded.is_ok(), is_good, "{what}: {loaded:?}");
            assert_eq!(peek(&path).is_ok(), is_good, "{what}");
            assert_eq!(shown(&path).is_some(), is_good, "{what}");
        }
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The reaper may be a user of its own, to whom root has given the directory; a directory that a user
    /// has made is no proof of that.
    #[test]
    fn serve_reads_the_state_of_a_reaper_that_root_has_set_up() {
        let scratch = scratch();
        let place = scratch.path();
        let path = place.join("reap/reap.json");
        Store::open(&path).unwrap().save(&some()).unwrap();
        let give = |path: &Path| chown(path, Some(1000), Some(1000)).unwrap();
        give(&path);
        assert!(shown(&path).is_none(), "the directory is root's");
        give(path.parent().unwrap());
        assert!(shown(&path).is_some());
        give(place);
        assert!(shown(&path).is_none(), "the user could have made the directory");
    }

    /// systemd links the runtime directory of a dynamic user.
    #[test]
    fn serve_follows_one_link_of_roots() {
        let scratch = scratch();
        let place = scratch.path();
        let private = place.join("private");
        fs::create_dir(&private).unwrap();
        let path = private.join("reap/reap.json");
        Store::open(&path).unwrap().save(&some()).unwrap();
        let give = |path: &Path| chown(path, Some(1000), Some(1000)).unwrap();
        give(&path);
        give(path.parent().unwrap());
        symlink("private/reap", place.join("one")).unwrap();
        assert!(shown(&place.join("one/reap.json")).is_some());
        symlink("one", place.join("two")).unwrap();
        assert!(shown(&place.join("two/reap.json")).is_none(), "a link to a link");
        give(&private);
        assert!(shown(&place.join("one/reap.json")).is_none(), "it leads into a user's directory");
        chown(&private, Some(0), Some(0)).unwrap();
        let foreign = place.join("foreign");
        fs::create_dir(&foreign).unwrap();
        symlink(private.join("reap"), foreign.join("three")).unwrap();
        give(&foreign);
        assert!(shown(&foreign.join("three/reap.json")).is_none(), "a user's link");
    }
}
