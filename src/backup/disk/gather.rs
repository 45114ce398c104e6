//! Collects what belongs to a backup: follows each name that a configuration has, and what those files name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use regex::Regex;
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::tree;
use crate::backup::bases::Bases;
use crate::backup::crt_list;
use crate::backup::manifest::{Entry, Kind, LeftOut, Loads, PathText, Role};
use crate::backup::reference::{NotTaken, Reference};
use crate::backup::references;
use crate::backup::scripts;
use crate::sample::paths::access::{Reader, may_be_followed, may_be_shown};
use crate::sample::paths::route::{self, Passed, Trace};

/// The largest list or script that is searched for further names.
const MOST_TEXT: u64 = 16 << 20;
/// The most entries of one backup.
const MOST_ENTRIES: usize = 200_000;

/// How to collect.
#[derive(Debug)]
pub struct Request<'a> {
    /// The root of the service, opened with `O_PATH`.
    pub root: &'a OwnedFd,
    /// On whose behalf the files are read.
    pub reader: Reader,
    /// Where relative names in lists and scripts start.
    pub bases: &'a Bases,
    /// Files with private keys are taken, too.
    pub include_keys: bool,
    /// Files of these paths are left out.
    pub exclude: &'a [Regex],
}

/// What was collected.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Everything that belongs to the backup, by path.
    pub entries: BTreeMap<PathBuf, Entry>,
    /// What is left out, and why.
    pub left_out: Vec<LeftOut>,
    /// What should be in the backup and could not be read.
    pub problems: Vec<Problem>,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is.
    pub path: PathBuf,
    /// Why.
    pub why: String,
    /// A missing right is the reason.
    pub of_rights: bool,
}

/// Collects what the references lead to.
#[must_use]
pub fn gather(
    request: &Request<'_>,
    references: Vec<Reference>,
    not_taken: &[NotTaken],
) -> Gathered {
    let mut gatherer = Gatherer {
        request,
        gathered: Gathered::default(),
        seen: BTreeSet::new(),
        inodes: BTreeMap::new(),
        waiting: references.into(),
    };
    while let Some(reference) = gatherer.waiting.pop_front() {
        if gatherer.seen.insert((reference.path.clone(), reference.role)) {
            gatherer.follow(&reference);
        }
        if gatherer.gathered.entries.len() > MOST_ENTRIES {
            gatherer.problem(&reference.path, format!("more than {MOST_ENTRIES} files"), false);
            break;
        }
    }
    gatherer.finish(not_taken)
}

struct Gatherer<'a> {
    request: &'a Request<'a>,
    gathered: Gathered,
    seen: BTreeSet<(PathBuf, Role)>,
    /// Files with several names, by device and inode.
    inodes: BTreeMap<(u64, u64), PathBuf>,
    waiting: VecDeque<Reference>,
}

impl Gatherer<'_> {
    fn problem(&mut self, path: &Path, why: impl Into<String>, of_rights: bool) {
        let (path, why) = (path.to_owned(), why.into());
        self.gathered.problems.push(Problem { path, why, of_rights });
    }

    fn refused(&mut self, path: &Path, error: Errno) {
        let of_rights = matches!(error, Errno::ACCESS | Errno::PERM);
        let missing = if of_rights { " (needs root, or CAP_DAC_READ_SEARCH)" } else { "" };
        self.problem(path, format!("{}{missing}", std::io::Error::from(error)), of_rights);
    }

    fn follow(&mut self, reference: &Reference) {
        let Reference { path, named_by, .. } = reference;
        let trace = match route::trace(self.request.root, path) {
            Ok(trace) => trace,
            Err(dead) if matches!(dead.errno, Errno::NOENT | Errno::NOTDIR) => {
                if reference.required {
                    self.problem(path, format!("no such file, named by {named_by}"), false);
                }
                return;
            }
            // A device or socket of /dev, or a file of procfs, is no configuration.
            Err(dead) if dead.errno == Errno::XDEV => {
                let why = "a file of the kernel, or of a program that answers for it";
                return self.leave_out(path, why);
            }
            Err(dead) if may_be_followed(self.request.reader.clone(), &dead.steps) => {
                return self.refused(path, dead.errno);
            }
            Err(_) => return self.withheld(path),
        };
        if !may_be_shown(self.request.reader.clone(), &trace.route.steps) {
            return self.withheld(path);
        }
        for passed in &trace.passed {
            self.passed(passed);
        }
        match FileType::from_raw_mode(trace.route.stat.st_mode) {
            FileType::RegularFile => self.file(&trace, reference),
            FileType::Directory => self.directory(&trace, reference),
            _ => self.leave_out(path, "a socket, FIFO or device"),
        }
    }

    fn withheld(&mut self, path: &Path) {
        let why = "the user who started this HAProxy may not read it, or another user could have put it there";
        self.problem(path, why, false);
    }

    fn leave_out(&mut self, path: &Path, why: &str) {
        let (path, why) = (path.into(), why.to_owned());
        self.gathered.left_out.push(LeftOut { path, why, sha256: None, size: None });
    }

    fn passed(&mut self, passed: &Passed) {
        let kind = match &passed.target {
            Some(target) => Kind::Link { target: PathText(target.into()) },
            None => Kind::Directory { loads: None, own: false },
        };
        let entry = || entry(&passed.path, kind, &passed.stat);
        self.gathered.entries.entry(passed.path.clone()).or_insert_with(entry);
    }

    fn directory(&mut self, trace: &Trace, reference: &Reference) {
        let loads = match reference.role {
            Role::Configuration => Loads::Configurations,
            Role::Unit => Loads::DropIns,
            _ => Loads::Visible,
        };
        let opened = trace.route.open(OFlags::RDONLY | OFlags::DIRECTORY);
        let names = match opened.and_then(|opened| tree::names(&opened)) {
            Ok(names) => names,
            Err(error) => return self.refused(&trace.end, error),
        };
        if let Some(entry) = self.gathered.entries.get_mut(&trace.end) {
            let own = reference.role != Role::Unit;
            entry.kind = Kind::Directory { loads: Some(loads), own };
            entry.roles.insert(reference.role);
        }
        for name in names.into_iter().filter(|name| loads.takes(name.as_bytes())) {
            let path = trace.end.join(name);
            // HAProxy loads no directory inside a directory.
            let followed = route::follow(self.request.root, &path);
            if followed.map_or(true, |route| tree::is_file(&route.stat)) {
                let named_by = trace.end.display().to_string();
                let required = reference.role == Role::Configuration;
                self.waiting.push_back(Reference { path, required, named_by, ..reference.clone() });
            }
        }
    }

    fn file(&mut self, trace: &Trace, reference: &Reference) {
        if let Some(known) = self.gathered.entries.get_mut(&trace.end) {
            known.roles.insert(reference.role);
            self.own_parent(trace, reference.role);
            return;
        }
        let opened = match trace.route.open(OFlags::RDONLY) {
            Ok(opened) => File::from(opened),
            Err(error) => return self.refused(&trace.end, error),
        };
        let read = tree::digest(&opened, &mut std::io::sink()).and_then(|digest| {
            Ok((digest, tree::attributes(&opened)?, rustix::fs::fstat(&opened)?))
        });
        let (digest, attributes, stat) = match read {
            Ok(read) => read,
            Err(error) => return self.problem(&trace.end, error.to_string(), false),
        };
        self.search(&Reference { path: trace.end.clone(), ..reference.clone() }, &opened);
        let private_key = digest.private_key || reference.role == Role::Key;
        let path = trace.end.as_os_str().to_string_lossy();
        let why = if self.request.exclude.iter().any(|glob| glob.is_match(&path)) {
            Some("excluded with --exclude")
        } else if private_key && !self.request.include_keys {
            Some("a private key; --include-keys takes it")
        } else {
            None
        };
        if let Some(why) = why {
            let (path, why) = (trace.end.clone().into(), why.to_owned());
            let (sha256, size) = (Some(digest.sha256), Some(digest.size));
            let left = LeftOut { path, why, sha256, size };
            return self.gathered.left_out.push(left);
        }
        let same_as = self.same_as(&trace.end, &stat);
        let kind = Kind::File { size: digest.size, sha256: digest.sha256, private_key, same_as };
        let mut entry = entry(&trace.end, kind, &stat);
        entry.attributes = attributes;
        entry.roles.insert(reference.role);
        self.gathered.entries.insert(trace.end.clone(), entry);
        self.own_parent(trace, reference.role);
    }

    /// Another entry that is the same file.
    fn same_as(&mut self, path: &Path, stat: &Stat) -> Option<PathText> {
        if stat.st_nlink < 2 {
            return None;
        }
        let first =
            self.inodes.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_owned());
        (first != path).then(|| PathText(first.clone()))
    }

    /// The directory that holds a file of the configuration belongs to it, unless it is one of the system's:
    /// those are at the top, and those of units.
    fn own_parent(&mut self, trace: &Trace, role: Role) {
        if matches!(role, Role::Unit | Role::Variables) {
            return;
        }
        let parent = trace.end.parent().filter(|path| tree::steps(path).count() >= 2);
        let parent = parent.and_then(|path| self.gathered.entries.get_mut(path));
        if let Some(Entry { kind: Kind::Directory { own, .. }, .. }) = parent {
            *own = true;
        }
    }

    /// Finds what a list, a script or a filter's file names.
    fn search(&mut self, reference: &Reference, opened: &File) {
        let Reference { path, role, read_in, .. } = reference;
        if !matches!(role, Role::CrtList | Role::Script | Role::Filter) {
            return;
        }
        let mut bytes = vec![0; usize::try_from(MOST_TEXT).unwrap_or(0)];
        let length = match rustix::io::pread(opened, &mut bytes, 0) {
            Ok(length) => length,
            Err(error) => return self.refused(path, error),
        };
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
        let bases = self.request.bases;
        match role {
            Role::CrtList => {
                return self.waiting.extend(crt_list::references(&text, reference, bases));
            }
            Role::Filter => return self.waiting.extend(references::of_filter(&text, reference)),
            _ => {}
        }
        let loaded = scripts::loaded(&text);
        let here = ["?.lua", "?/init.lua"].map(str::to_owned);
        let templates: Vec<String> = bases.templates.iter().cloned().chain(here).collect();
        let modules = loaded.modules.iter().flat_map(|module| scripts::places(module, &templates));
        let scripts = modules.chain(loaded.files).map(|name| (name, Role::Script));
        let maps = loaded.maps.into_iter().map(|name| (name, Role::Map));
        self.waiting.extend(scripts.chain(maps).map(|(name, role)| Reference {
            path: read_in.join(name),
            role,
            required: false,
            read_in: read_in.clone(),
            named_by: path.display().to_string(),
        }));
        for name in loaded.read {
            self.leave_out(&read_in.join(name), "a script reads it; no part of the configuration");
        }
        if loaded.computed {
            let why =
                "this script loads something by a name that it computes, which cannot be known";
            self.leave_out(path, why);
        }
    }

    fn finish(mut self, not_taken: &[NotTaken]) -> Gathered {
        for one in not_taken {
            self.leave_out(&one.path, one.why);
        }
        let owned: Vec<PathBuf> = self
            .gathered
            .entries
            .values()
            .filter(|entry| matches!(entry.kind, Kind::Directory { own: true, .. }))
            .map(|entry| entry.path.0.clone())
            .collect();
        for path in owned {
            match tree::descend(self.request.root, &path).and_then(tree::attributes) {
                Ok(attributes) => {
                    if let Some(entry) = self.gathered.entries.get_mut(&path) {
                        entry.attributes = attributes;
                    }
                }
                // A directory that may be searched and not read shows no attributes.
                Err(Errno::ACCESS) => {}
                Err(error) => self.refused(&path, error),
            }
        }
        // The first name of a file may have been left out of the order of paths.
        self.gathered.left_out.sort();
        self.gathered.left_out.dedup();
        self.gathered
    }
}

/// An entry without roles and attributes.
pub(super) fn entry(path: &Path, kind: Kind, stat: &Stat) -> Entry {
    Entry {
        path: path.into(),
        kind,
        roles: BTreeSet::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: tree::modified(stat),
        attributes: BTreeMap::new(),
    }
}
