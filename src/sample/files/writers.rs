//! Who can change where a path leads: the owners of the file and of every directory on the way.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// A path leads over at most this many symbolic links (`MAXSYMLINKS` of Linux).
const MOST_LINKS: usize = 40;
/// Bits of a mode: writable for the group, writable for others, and the sticky bit, with which a
/// directory lets each user remove only what is that user's.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The one user who, besides root, can change what `path` below `root` leads to: 0 when root alone
/// can. `None`: several users can, or it cannot be told. The file itself need not exist.
pub fn sole_writer(root: OwnedFd, path: &Path) -> Option<u32> {
    let mut walk = Walk { writer: 0, shared: false };
    let mut links = 0;
    let mut left: VecDeque<OsString> = names(path);
    let top = root.try_clone().ok()?;
    let mut above: Vec<OwnedFd> = Vec::new();
    let mut here = root;
    walk.enter(&rustix::fs::fstat(&here).ok()?)?;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            here = above.pop().or_else(|| top.try_clone().ok())?;
            continue;
        }
        let stat = match stat_of(here.as_fd(), &name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if left.is_empty() && !walk.shared => return Some(walk.writer),
            Err(_) => return None,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                links += 1;
                walk.note(stat.st_uid)?;
                let target = rustix::fs::readlinkat(&here, &name, Vec::new()).ok()?.into_bytes();
                let target = OsString::from_vec(target);
                if target.as_bytes().starts_with(b"/") {
                    above.clear();
                    here = top.try_clone().ok()?;
                }
                let mut names = names(Path::new(&target));
                names.append(&mut left);
                left = names;
                if links > MOST_LINKS {
                    return None;
                }
            }
            FileType::Directory => {
                walk.enter(&stat)?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(&here, &name, flags, Mode::empty()).ok()?;
                above.push(std::mem::replace(&mut here, inner));
            }
            // A second name of another file could stand where everybody may create files.
            _ if walk.shared && stat.st_nlink != 1 => return None,
            _ => {
                walk.enter(&stat)?;
                return (left.is_empty() && !walk.shared).then_some(walk.writer);
            }
        }
    }
    None
}

/// What the walk has found so far.
struct Walk {
    writer: u32,
    /// The last directory is one in which everybody may create files.
    shared: bool,
}

impl Walk {
    fn note(&mut self, owner: u32) -> Option<()> {
        if owner != 0 && self.writer != 0 && owner != self.writer {
            return None;
        }
        self.writer = self.writer.max(owner);
        Some(())
    }

    fn enter(&mut self, stat: &Stat) -> Option<()> {
        let mode = stat.st_mode;
        self.note(stat.st_uid)?;
        let open = mode & OTHERS_WRITE != 0 || (mode & GROUP_WRITES != 0 && stat.st_gid != 0);
        self.shared = open && mode & STICKY != 0;
        (!open || self.shared).then_some(())
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    });
    names.collect()
}

fn stat_of(directory: impl AsFd, name: &OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    use std::{env, fs};

    #[test]
    fn who_can_change_where_a_path_leads() {
        let place = env::temp_dir().join(format!("writers-{}", std::process::id()));
        let directory = |name: &str, mode, owner| {
            let path = place.join(name);
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            chown(&path, Some(owner), Some(0)).is_ok()
        };
        assert!(directory("", 0o755, 0), "needs root");
        for (name, mode, owner) in [
            ("roots", 0o755, 0),
            ("users", 0o755, 1000),
            ("open", 0o777, 0),
            ("sticky", 0o1777, 0),
            ("sticky/roots", 0o755, 0),
        ] {
            directory(name, mode, owner);
        }
        for (name, owner) in
            [("roots/a", 0), ("roots/theirs", 1000), ("users/a", 0), ("sticky/a", 0)]
        {
            fs::write(place.join(name), "1").unwrap();
            chown(place.join(name), Some(owner), Some(0)).unwrap();
        }
        fs::write(place.join("sticky/roots/a"), "1").unwrap();
        symlink("../roots/a", place.join("users/link")).unwrap();
        symlink("/users/a", place.join("roots/link")).unwrap();
        let table = [
            ("roots/a", Some(0)),
            ("roots/none", Some(0)),
            ("roots/none/a", None),
            ("roots/theirs", Some(1000)),
            ("roots/link", Some(1000)),
            ("users/a", Some(1000)),
            ("users/link", Some(1000)),
            ("users/../roots/a", Some(1000)),
            ("open/a", None),
            ("sticky/a", Some(0)),
            ("sticky/none", None),
            ("sticky/roots/a", Some(0)),
        ];
        for (path, expected) in table {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(&place, flags, Mode::empty()).unwrap();
            assert_eq!(sole_writer(root, Path::new(path)), expected, "{path}");
        }
        fs::remove_dir_all(&place).unwrap();
    }
}
