//! Compares a backup with what is on the disk, and so decides what a restore would do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::manifest::{Entry, Kind, LeftOut, Manifest, PathText};
use crate::model::named::named;

/// What is on the disk under one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// What it is.
    pub what: What,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was last changed.
    pub modified: (i64, u32),
    /// Its extended attributes, in base64.
    pub attributes: BTreeMap<String, String>,
    /// Its device and inode.
    pub inode: (u64, u64),
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file with this hash.
    File {
        /// The hash of its bytes.
        sha256: String,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: PathBuf,
    },
    /// A directory.
    Directory,
    /// A socket, FIFO or device.
    Special,
}

/// What was found on the disk.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// By the path of an entry; an entry that is missing on the disk is missing here.
    pub present: BTreeMap<PathBuf, Present>,
    /// A part of the way to these entries is a link or no directory, with what it is.
    pub blocked: BTreeMap<PathBuf, String>,
    /// The names that HAProxy would load and that the backup does not have.
    pub added: BTreeSet<PathBuf>,
    /// The hashes of what was left out of the backup, where it is there.
    pub left_out: BTreeMap<PathBuf, String>,
    /// What could not be read, and why.
    pub unread: BTreeMap<PathBuf, String>,
}

named! {
    /// How a path differs.
    pub enum Aspect {
        /// It is not there.
        Missing = "missing",
        /// It is something else: a directory in place of a file, a file in place of a link.
        Type = "type",
        /// Its bytes.
        Content = "content",
        /// Where the link leads.
        Target = "target",
        /// Its permission bits.
        Mode = "mode",
        /// Its owner or group.
        Owner = "owner",
        /// Its extended attributes.
        Attributes = "attributes",
        /// Two names that were one file are two files.
        HardLink = "hard link",
        /// Only the time of its last change.
        Time = "time",
    }
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The entry of the backup.
    pub entry: &'a Entry,
    /// How it differs. Never empty.
    pub aspects: BTreeSet<Aspect>,
}

impl Difference<'_> {
    /// HAProxy would read something else, or under other rights; a time alone is no such difference.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.aspects.iter().any(|aspect| *aspect != Aspect::Time)
    }
}

/// The attributes that a restore sets: those of the kernel's security modules and capabilities are not.
pub fn restored(attributes: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    attributes
        .iter()
        .filter(|(name, _)| name.starts_with("user.") || name.starts_with("system.posix_acl_"))
}

/// The permission bits that a restore sets: neither setuid nor setgid, the sticky bit of a directory only.
#[must_use]
pub fn restored_mode(entry: &Entry) -> u32 {
    match entry.kind {
        Kind::Directory { .. } => entry.mode & 0o1777,
        _ => entry.mode & 0o777,
    }
}

/// Every entry that differs from the disk, by path.
#[must_use]
pub fn of<'a>(manifest: &'a Manifest, disk: &Disk) -> Vec<Difference<'a>> {
    let differs = |entry: &'a Entry| {
        let aspects = aspects(entry, disk);
        (!aspects.is_empty()).then_some(Difference { entry, aspects })
    };
    manifest.entries.iter().filter_map(differs).collect()
}

fn aspects(entry: &Entry, disk: &Disk) -> BTreeSet<Aspect> {
    let path = entry.path.path();
    let Some(present) = disk.present.get(path) else { return [Aspect::Missing].into() };
    let mut found = BTreeSet::new();
    let mut note = |aspect, differs: bool| {
        if differs {
            found.insert(aspect);
        }
    };
    match (&entry.kind, &present.what) {
        (Kind::File { sha256, same_as, .. }, What::File { sha256: now }) => {
            note(Aspect::Content, sha256 != now);
            let other = same_as.as_ref().map(PathText::path);
            let other = other.and_then(|other| disk.present.get(other));
            note(
                Aspect::HardLink,
                same_as.is_some() && other.map(|o| o.inode) != Some(present.inode),
            );
        }
        (Kind::Link { target }, What::Link { target: now }) => {
            note(Aspect::Target, target.path() != now);
        }
        (Kind::Directory { own: false, .. }, What::Directory) => return found,
        (Kind::Directory { .. }, What::Directory) => {}
        _ => return [Aspect::Type].into(),
    }
    let is_link = matches!(entry.kind, Kind::Link { .. });
    note(Aspect::Mode, !is_link && restored_mode(entry) != present.mode);
    note(Aspect::Owner, (entry.uid, entry.gid) != (present.uid, present.gid));
    let (wanted, now) = (&entry.attributes, &present.attributes);
    note(Aspect::Attributes, !restored(wanted).eq(restored(now)));
    note(Aspect::Time, entry.modified != present.modified);
    found
}

/// What was left out of the backup and is not on the disk as it was.
#[must_use]
pub fn of_left_out<'a>(manifest: &'a Manifest, disk: &Disk) -> Vec<&'a LeftOut> {
    let needed = manifest.needed();
    let changed = needed.filter(|(left, hash)| {
        disk.left_out.get(left.path.path()).map(String::as_str) != Some(*hash)
    });
    changed.map(|(left, _)| left).collect()
}

/// The entries that the names on the command line mean: a path, a directory above, or the last part of one
/// path alone. An error names what is unknown or means several.
pub fn chosen(manifest: &Manifest, names: &[PathBuf]) -> Result<BTreeSet<PathBuf>, String> {
    let mut chosen = BTreeSet::new();
    let paths = || manifest.entries.iter().map(|entry| entry.path.path());
    for name in names {
        let below: Vec<&Path> = paths().filter(|path| path.starts_with(name)).collect();
        let called: Vec<&Path> = paths().filter(|path| path.ends_with(name)).collect();
        match (below.as_slice(), called.as_slice()) {
            ([], []) => return Err(format!("the backup has no {}", PathText(name.clone()))),
            ([], [one]) => drop(chosen.insert((*one).to_owned())),
            ([], several) => {
                let several: Vec<String> =
                    several.iter().map(|path| PathText(path.to_path_buf()).to_string()).collect();
                let name = PathText(name.clone());
                return Err(format!(
                    "{name} means several: {}; write the whole path",
                    several.join(", ")
                ));
            }
            (below, _) => chosen.extend(below.iter().map(|path| path.to_path_buf())),
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: Kind) -> Entry {
        Entry {
            path: path.into(),
            kind,
            roles: BTreeSet::new(),
            mode: 0o640,
            uid: 0,
            gid: 5,
            modified: (7, 1),
            attributes: BTreeMap::new(),
        }
    }

    fn file(hash: &str) -> Kind {
        Kind::File { size: 1, sha256: hash.to_owned(), private_key: false, same_as: None }
    }

    fn present(what: What) -> Present {
        let attributes = BTreeMap::new();
        Present { what, mode: 0o640, uid: 0, gid: 5, modified: (7, 1), attributes, inode: (1, 1) }
    }

    #[test]
    fn every_aspect_is_seen() {
        let same = || present(What::File { sha256: "a".to_owned() });
        let attributes: BTreeMap<_, _> = [("user.x".to_owned(), "eQ==".to_owned())].into();
        let selinux: BTreeMap<_, _> = [("security.selinux".to_owned(), "eQ==".to_owned())].into();
        let table = [
            (Some(same()), vec![]),
            (None, vec![Aspect::Missing]),
            (Some(present(What::Directory)), vec![Aspect::Type]),
            (Some(present(What::File { sha256: "b".to_owned() })), vec![Aspect::Content]),
            (Some(Present { mode: 0o600, ..same() }), vec![Aspect::Mode]),
            (Some(Present { gid: 0, ..same() }), vec![Aspect::Owner]),
            (Some(Present { modified: (7, 2), ..same() }), vec![Aspect::Time]),
            (Some(Present { attributes, ..same() }), vec![Aspect::Attributes]),
            (Some(Present { attributes: selinux, ..same() }), vec![]),
        ];
        for (now, expected) in table {
            let entry = entry("/a", file("a"));
            let present = now.clone().map(|now| (PathBuf::from("/a"), now)).into_iter().collect();
            let disk = Disk { present, ..Disk::default() };
            assert_eq!(aspects(&entry, &disk).into_iter().collect::<Vec<_>>(), expected, "{now:?}");
        }
    }

    #[test]
    fn setuid_is_not_restored() {
        let mut setuid = entry("/a", file("a"));
        setuid.mode = 0o6755;
        assert_eq!(restored_mode(&setuid), 0o755);
        let mut sticky = entry("/a", Kind::Directory { loads: None, own: true });
        sticky.mode = 0o7777;
        assert_eq!(restored_mode(&sticky), 0o1777);
    }
}
