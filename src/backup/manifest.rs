//! What is in a backup: the manifest beside its files, in JSON.
//!
//! No value of a variable, no line of a file and no key stands in it; it has names, sizes and hashes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::haproxy::config::is_configuration;

/// The version of the form. A manifest of another version is refused.
pub const VERSION: u32 = 1;

/// A path as JSON. A backslash is doubled, and a byte that is no UTF-8 is `\x` and two hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathText(pub PathBuf);

impl PathText {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl<P: Into<PathBuf>> From<P> for PathText {
    fn from(path: P) -> PathText {
        PathText(path.into())
    }
}

impl std::fmt::Display for PathText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            f.write_str(&chunk.valid().replace('\\', r"\\"))?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, r"\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl Serialize for PathText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PathText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PathText, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes =
            unescaped(&text).ok_or_else(|| de::Error::custom("a path has a wrong escape"))?;
        Ok(PathText(OsString::from_vec(bytes).into()))
    }
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        if let Some(after) = after.strip_prefix('\\') {
            bytes.push(b'\\');
            rest = after;
        } else {
            let after = after.strip_prefix('x')?;
            bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
            rest = after.get(2..)?;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// What a file is for HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A file or directory of `-f`.
    Configuration,
    /// A certificate, with or without its key, or what is loaded beside it.
    Certificate,
    /// A list of certificates (`crt-list`).
    CrtList,
    /// Authorities and revocation lists.
    Authorities,
    /// A file that is nothing but a secret, such as the keys of TLS tickets.
    Key,
    /// A map.
    Map,
    /// Patterns of an ACL.
    Patterns,
    /// An error page or another body of an answer.
    Page,
    /// A Lua script.
    Script,
    /// The state of servers or counters.
    State,
    /// The own file of a filter, such as SPOE.
    Filter,
    /// Another file that the configuration names.
    Other,
    /// The systemd unit or one of its drop-ins.
    Unit,
    /// A file of environment variables that the unit names.
    Variables,
}

/// Which names of a directory HAProxy loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loads {
    /// Those that end at their first `.cfg` and do not begin with a dot.
    Configurations,
    /// All that do not begin with a dot.
    Visible,
    /// Those that end with `.conf`.
    DropIns,
}

impl Loads {
    /// Whether an entry of this name would be loaded.
    #[must_use]
    pub fn takes(self, name: &[u8]) -> bool {
        let hidden = name.first() == Some(&b'.');
        match self {
            Loads::Configurations => is_configuration(name),
            Loads::Visible => !hidden,
            Loads::DropIns => !hidden && name.ends_with(b".conf"),
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A file whose bytes are in the backup.
    File {
        /// Its bytes.
        size: u64,
        /// The hash of its bytes.
        sha256: String,
        /// It has a private key in it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        private_key: bool,
        /// Another entry that is the same file under another name (a hard link); that one has the bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        same_as: Option<PathText>,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: PathText,
    },
    /// A directory.
    Directory {
        /// Which of its names HAProxy loads; `None` if it was only on the way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loads: Option<Loads>,
        /// Its owner, mode and times are those of the configuration, and are restored. The others are only
        /// made where they are missing.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        own: bool,
    },
}

/// One file, link or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the root of the service; no part of it before the last is a link.
    pub path: PathText,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// What it is for HAProxy.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<Role>,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was last changed: seconds and nanoseconds since the epoch.
    pub modified: (i64, u32),
    /// Its extended attributes, in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// Something that HAProxy reads or runs and that is not in the backup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its path.
    pub path: PathText,
    /// Why it is not there.
    pub why: String,
    /// The hash of its bytes; `None` if it is not needed to run the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// How HAProxy was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its arguments, the name of the program first.
    pub arguments: Vec<String>,
    /// The directory that relative names start from.
    pub directory: PathText,
    /// The names of the environment variables that the configuration reads and that were set.
    pub variables: BTreeSet<String>,
    /// Its systemd unit.
    pub unit: Option<String>,
}

impl Default for PathText {
    fn default() -> PathText {
        PathText(PathBuf::from("/"))
    }
}

/// The program that ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its path.
    pub path: Option<PathText>,
    /// Its version.
    pub version: Option<String>,
    /// What it says of its build (`-vv`), where it was asked.
    pub build: Option<String>,
    /// The package that it came with, and the version of that.
    pub package: Option<String>,
    /// The hash of the file that runs.
    pub sha256: Option<String>,
}

/// The manifest of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this form.
    pub version: u32,
    /// The name of the backup.
    pub name: String,
    /// The service.
    pub haproxy: String,
    /// When it was taken, in seconds since the epoch.
    pub taken: i64,
    /// The host.
    pub hostname: String,
    /// The version of the exporter that took it.
    pub exporter: String,
    /// It holds what a restore replaced, not all that the service reads.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub safety: bool,
    /// The files are those of a container or a chroot, so that they are restored only below `--root`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_root: bool,
    /// How HAProxy was started.
    pub command: Command,
    /// The program that ran.
    pub program: Program,
    /// Everything that was kept, by path.
    pub entries: Vec<Entry>,
    /// Everything that was not, and why.
    pub left_out: Vec<LeftOut>,
}

impl Manifest {
    /// The entry of this path.
    #[must_use]
    pub fn entry(&self, path: &Path) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.path.path().cmp(path)).ok()?;
        self.entries.get(at)
    }

    /// Whether this path is among its entries, or among what was left out.
    #[must_use]
    pub fn knows(&self, path: &Path) -> bool {
        self.entry(path).is_some() || self.left_out.iter().any(|left| left.path.path() == path)
    }

    /// The bytes of its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let sizes = self.entries.iter().filter_map(|entry| match &entry.kind {
            Kind::File { size, same_as: None, .. } => Some(*size),
            _ => None,
        });
        sizes.sum()
    }

    /// What is left out and was recorded with its hash: it is needed to run the configuration.
    pub fn needed(&self) -> impl Iterator<Item = (&LeftOut, &str)> {
        self.left_out.iter().filter_map(|left| Some((left, left.sha256.as_deref()?)))
    }

    /// What is wrong with it, so that nothing may rest on it. A manifest is read with care even though only
    /// root and the caller can write one.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        if self.version != VERSION {
            return Some(format!(
                "its form has version {}, this program reads {VERSION}",
                self.version
            ));
        }
        let paths = self.entries.iter().map(|entry| &entry.path);
        if let Some(path) = paths.clone().find(|path| !is_plain(path.path())) {
            return Some(format!("{path} is not an absolute path without '..'"));
        }
        let sorted = paths.clone().zip(paths.skip(1)).all(|(one, next)| one < next);
        (!sorted).then(|| "its entries are not in order".to_owned())
    }
}

fn is_plain(path: &Path) -> bool {
    use std::path::Component;
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !path.as_os_str().as_bytes().ends_with(b"/")
}

/// When a backup was verified, and against which program; `verified.json` beside the manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The version of this form.
    pub version: u32,
    /// The hash of the manifest that was verified.
    pub manifest_sha256: String,
    /// The programs that accepted it, each once, the last one last.
    pub programs: Vec<VerifiedBy>,
}

/// One program that accepted a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedBy {
    /// When, in seconds since the epoch.
    pub timestamp: i64,
    /// The path of the program.
    pub binary: PathText,
    /// Its version.
    pub version: String,
    /// The files that were left out of the backup and were taken from the disk.
    pub from_disk: Vec<PathText>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_path_survives_json(bytes in prop::collection::vec(1u8.., 0..20)) {
            let path = PathText(OsString::from_vec(bytes).into());
            let text = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<PathText>(&text).unwrap(), path);
        }
    }

    #[test]
    fn a_wrong_escape_is_an_error() {
        for text in [r#""\\x4""#, r#""\\q""#, r#""\\""#] {
            assert!(serde_json::from_str::<PathText>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_directory_loads() {
        let table: [(Loads, &[u8], bool); 7] = [
            (Loads::Configurations, b"a.cfg", true),
            (Loads::Configurations, b"a.cfg.bak", false),
            (Loads::Configurations, b".a.cfg", false),
            (Loads::Visible, b"a.pem", true),
            (Loads::Visible, b".a.pem", false),
            (Loads::DropIns, b"10-a.conf", true),
            (Loads::DropIns, b"10-a.conf~", false),
        ];
        for (loads, name, expected) in table {
            assert_eq!(loads.takes(name), expected, "{loads:?} {}", name.escape_ascii());
        }
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_a_fault() {
        for (path, expected) in [("/a/b", true), ("/a/../b", false), ("a", false), ("/a/", false)] {
            assert_eq!(is_plain(Path::new(path)), expected, "{path}");
        }
    }
}
