//! Who can change where a path leads: the owners of the file and of every directory on the way.

use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::route::{self, Step, StepKind};

/// Bits of a mode: writable for the group, writable for others, and the sticky bit, with which a
/// directory lets each user remove only what is that user's.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// The one user who, besides root, can change what the path of `steps` leads to: 0 when root alone
/// can; `None` if several users can. `end_missing`: the last step is a directory, and it counts who can
/// create a file there.
#[must_use]
pub fn sole_writer(steps: &[Step], end_missing: bool) -> Option<u32> {
    let mut writer = ROOT;
    let mut shared = false;
    for step in steps {
        // A second name of another file could stand where everyone may create files.
        if step.kind == StepKind::End && shared && step.names != 1 {
            return None;
        }
        if step.owner != ROOT && writer != ROOT && step.owner != writer {
            return None;
        }
        writer = writer.max(step.owner);
        if step.kind == StepKind::Link {
            continue;
        }
        let by_group = step.mode & GROUP_WRITES != 0 && step.group != ROOT;
        let open = by_group || step.mode & OTHERS_WRITE != 0;
        shared = open && step.mode & STICKY != 0;
        if open && !shared {
            return None;
        }
    }
    (!(end_missing && shared)).then_some(writer)
}

/// Whether only root and `user` can change what a path leads to: the file, and what a directory holds.
/// Nothing else may be able to create a file that is missing.
#[must_use]
pub fn is_only_of(path: &Path, user: u32) -> bool {
    let Ok(path) = std::path::absolute(path) else { return false };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open("/", flags, Mode::empty()) else { return false };
    let (steps, may_grow) = match route::follow(&root, &path) {
        Ok(route) => {
            let is_file = route.steps.last().is_some_and(|step| step.kind == StepKind::End);
            (route.steps, !is_file)
        }
        Err(dead) if dead.errno == Errno::NOENT => (dead.steps, true),
        Err(_) => return false,
    };
    are_only_of(&steps, may_grow, user)
}

/// The same for the steps of a path that was followed; `may_grow`: as `end_missing` of [`sole_writer`].
#[must_use]
pub fn are_only_of(steps: &[Step], may_grow: bool, user: u32) -> bool {
    sole_writer(steps, may_grow).is_some_and(|writer| writer == ROOT || writer == user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    use std::path::Path;

    #[test]
    fn who_can_change_where_a_path_leads() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path();
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
            let root = rustix::fs::open(place, flags, Mode::empty()).unwrap();
            let writer = match route::follow(&root, Path::new(path)) {
                Ok(route) => sole_writer(&route.steps, false),
                Err(dead) if dead.only_end_missing => sole_writer(&dead.steps, true),
                Err(_) => None,
            };
            assert_eq!(writer, expected, "{path}");
        }
        let table = [
            ("roots", true),
            ("roots/a", true),
            ("roots/none/a", true),
            ("roots/theirs", false),
            ("users", false),
            ("users/none", false),
            ("sticky/a", true),
            ("sticky/roots", true),
            ("sticky/none", false),
            ("sticky", false),
        ];
        for (path, expected) in table {
            assert_eq!(is_only_of(&place.join(path), 0), expected, "{path}");
        }
        assert!(is_only_of(&place.join("users/a"), 1000));
    }
}
