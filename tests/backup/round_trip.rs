//! Create, change everything, restore: on random trees everything is as it was.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use haproxy_host_exporter::backup::bases::Bases;
use haproxy_host_exporter::backup::differences;
use haproxy_host_exporter::backup::disk::gather::{self, Gathered, Request};
use haproxy_host_exporter::backup::disk::present::{self, Hashes};
use haproxy_host_exporter::backup::disk::restore::Restorer;
use haproxy_host_exporter::backup::disk::stage::Stage;
use haproxy_host_exporter::backup::disk::store::Store;
use haproxy_host_exporter::backup::disk::tree;
use haproxy_host_exporter::backup::manifest::{Command, Kind, Manifest, Program, Role, VERSION};
use haproxy_host_exporter::backup::reference::Reference;
use haproxy_host_exporter::sample::paths::access::Reader;
use proptest::prelude::*;

/// What is seen of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    what: String,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    /// The first path that is the same file.
    same_as: PathBuf,
    attribute: Option<Vec<u8>>,
}

/// Everything below a place.
fn looks(place: &Path) -> BTreeMap<PathBuf, Look> {
    let mut found = BTreeMap::new();
    let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut next = vec![place.to_owned()];
    let mut all = Vec::new();
    while let Some(path) = next.pop() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.push(path);
    }
    all.sort();
    for path in all {
        let stat = fs::symlink_metadata(&path).unwrap();
        let what = if stat.is_symlink() {
            format!("link {}", fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii())
        } else if stat.is_file() {
            format!("file {}", fs::read(&path).unwrap().escape_ascii())
        } else {
            "directory".to_owned()
        };
        let same_as = first.entry(stat.ino()).or_insert_with(|| path.clone()).clone();
        let mut value = [0; 64];
        let attribute = rustix::fs::lgetxattr(&path, "user.note", &mut value[..]);
        let look = Look {
            what,
            mode: if stat.is_symlink() { 0 } else { stat.mode() & 0o7777 },
            owner: (stat.uid(), stat.gid()),
            modified: (stat.mtime(), stat.mtime_nsec()),
            same_as,
            attribute: attribute.ok().map(|length| value[..length].to_vec()),
        };
        found.insert(path, look);
    }
    found
}

/// One thing in a tree.
#[derive(Debug, Clone)]
enum Thing {
    File { content: Vec<u8>, mode: u32, owner: u32, time: i64, note: Option<Vec<u8>> },
    Link { target: OsString },
    HardLink { of: usize },
}

fn name() -> impl Strategy<Value = OsString> {
    let odd = prop::collection::vec(
        prop_oneof![Just(b' '), Just(b'\n'), Just(b'\\'), Just(0xff), b'a'..=b'e', Just(0xc3)],
        1..6,
    );
    odd.prop_map(|bytes| OsString::from_vec([b"n".as_slice(), &bytes].concat()))
}

fn thing() -> impl Strategy<Value = Thing> {
    let content = prop::collection::vec(any::<u8>(), 0..64);
    let file = (
        content,
        0u32..0o1000,
        0u32..3,
        1i64..2_000_000_000,
        prop::option::of(prop::collection::vec(any::<u8>(), 1..16)),
    )
        .prop_map(|(content, mode, owner, time, note)| Thing::File {
            content,
            mode,
            owner,
            time,
            note,
        });
    let target = prop_oneof![
        Just(OsString::from("/etc/hostname")),
        Just(OsString::from("../../outside")),
        name(),
    ];
    prop_oneof![
        6 => file,
        1 => target.prop_map(|target| Thing::Link { target }),
        2 => (0usize..8).prop_map(|of| Thing::HardLink { of }),
    ]
}

fn plant(place: &Path, things: &[(u8, OsString, Thing)]) -> Vec<PathBuf> {
    let mut planted: Vec<PathBuf> = Vec::new();
    for (home, name, thing) in things {
        let directory = place.join(["conf", "conf/sub dir", "conf/\u{e9}"][usize::from(home % 3)]);
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(name);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match thing {
            Thing::File { content, mode, owner, time, note } => {
                fs::write(&path, content).unwrap();
                if let Some(note) = note {
                    let flags = rustix::fs::XattrFlags::empty();
                    rustix::fs::lsetxattr(&path, "user.note", note, flags).unwrap();
                }
                lchown(&path, Some(*owner), Some(*owner)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                touch(&path, *time);
            }
            Thing::Link { target } => {
                // Two links to each other lead nowhere, and no HAProxy reads them.
                let target = Some(target).filter(|target| {
                    target.as_bytes().contains(&b'/') || directory.join(target).is_file()
                });
                let target = target.map_or("../../outside".as_ref(), |target| target.as_os_str());
                symlink(target, &path).unwrap();
            }
            Thing::HardLink { of } => {
                let files: Vec<_> = planted
                    .iter()
                    .filter(|path| fs::symlink_metadata(path).unwrap().is_file())
                    .collect();
                let Some(other) = files.get(of % files.len().max(1)) else { continue };
                fs::hard_link(other, &path).unwrap();
            }
        }
        planted.push(path);
    }
    planted
}

fn touch(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

/// Changes a path in one of several ways.
fn change(path: &Path, how: u8) {
    let is_file = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    match how % 6 {
        0 => fs::remove_file(path).unwrap(),
        1 if is_file => fs::write(path, "changed").unwrap(),
        2 if is_file => fs::set_permissions(path, fs::Permissions::from_mode(0o7000)).unwrap(),
        3 => lchown(path, Some(7), Some(7)).unwrap(),
        4 => {
            fs::remove_file(path).unwrap();
            symlink("/nowhere", path).unwrap();
        }
        _ => touch(path, 5),
    }
}

fn gathered(root: &std::os::fd::OwnedFd, references: Vec<Reference>) -> Gathered {
    let bases = Bases::default();
    let reader = Reader::Root;
    let request = Request { root, reader, bases: &bases, include_keys: true, exclude: &[] };
    gather::gather(&request, references, &[])
}

fn manifest(name: &str, gathered: Gathered) -> Manifest {
    Manifest {
        version: VERSION,
        name: name.to_owned(),
        haproxy: "a".to_owned(),
        taken: 0,
        hostname: String::new(),
        exporter: String::new(),
        safety: false,
        other_root: false,
        command: Command::default(),
        program: Program::default(),
        entries: gathered.entries.into_values().collect(),
        left_out: gathered.left_out,
    }
}

fn reference(path: &Path) -> Reference {
    let named_by = "the test".to_owned();
    let (path, read_in) = (path.to_owned(), "/".into());
    Reference { path, role: Role::Certificate, required: false, read_in, named_by }
}

fn round_trip(place: &Path, planted: &[PathBuf], changes: &[u8]) {
    let directories = ["conf", "conf/sub dir", "conf/\u{e9}"].map(|name| place.join(name));
    for (number, directory) in directories.iter().enumerate().filter(|(_, path)| path.exists()) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o751)).unwrap();
        touch(directory, 1_000_000 + i64::try_from(number).unwrap());
    }
    let before = looks(&place.join("conf"));
    let root = tree::open(Path::new("/")).unwrap();
    let references =
        directories.iter().map(PathBuf::as_path).chain(planted.iter().map(PathBuf::as_path));
    let found = gathered(&root, references.map(reference).collect());
    assert_eq!(found.problems, []);
    let store = Store::open(&place.join("store"), true).unwrap();
    let name = "a-20260101T000000Z";
    let manifest = manifest(name, found);
    let mut stage = Stage::begin(&store, name).unwrap();
    for entry in &manifest.entries {
        assert!(stage.copy(&root, entry).unwrap(), "{}", entry.path);
    }
    stage.commit(&manifest, &BTreeMap::new(), false).unwrap();
    for (path, how) in planted.iter().zip(changes) {
        change(path, *how);
    }
    // What a restore left behind that was killed and had the same pid.
    for number in 1..=3 {
        let left = format!("conf/.hhe-restore-{}-{number}", std::process::id());
        fs::write(place.join(left), "half of a file").unwrap();
    }
    fs::set_permissions(place.join("conf"), fs::Permissions::from_mode(0o700)).unwrap();
    let backup = store.backup(name).unwrap();
    let disk = present::look(&root, &backup.manifest, &mut Hashes::default());
    let restorer = Restorer::new(&root, &backup.directory);
    let all = differences::of(&backup.manifest, &disk);
    let is_link = |one: &&differences::Difference<'_>| {
        matches!(one.entry.kind, Kind::File { same_as: Some(_), .. })
    };
    for one in all.iter().filter(|one| !is_link(one)).chain(all.iter().filter(is_link)) {
        restorer.restore(one, &disk).unwrap_or_else(|error| panic!("{error}: {:?}", one.aspects));
    }
    let own = backup.manifest.entries.iter();
    restorer
        .times(own.filter(|entry| matches!(entry.kind, Kind::Directory { own: true, .. })))
        .unwrap();
    let after = looks(&place.join("conf"));
    // A link that leads out of the tree to nothing is no file that HAProxy could read: it is not kept, and
    // so it need not be as it was.
    for (path, look) in &before {
        if look.what.starts_with("link") && backup.manifest.entry(path).is_none() {
            continue;
        }
        assert_eq!(after.get(path), Some(look), "{}", path.as_os_str().as_bytes().escape_ascii());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_restored_is_as_it_was(
        things in prop::collection::vec((0u8..3, name(), thing()), 1..10),
        changes in prop::collection::vec(0u8..6, 10),
    ) {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path();
        let planted = plant(place, &things);
        round_trip(place, &planted, &changes);
    }
}

/// Ten thousand certificates and a map of 100 MB.
#[test]
fn a_large_configuration() {
    let scratch = tempfile::tempdir().unwrap();
    let place = scratch.path();
    let conf = place.join("conf");
    fs::create_dir_all(conf.join("sub dir")).unwrap();
    let mut planted = Vec::new();
    for number in 0..10_000 {
        let path = conf.join(format!("{number}.pem"));
        fs::write(
            &path,
            format!("-----BEGIN CERTIFICATE-----\n{number}\n-----END CERTIFICATE-----\n"),
        )
        .unwrap();
        planted.push(path);
    }
    let map = conf.join("sub dir/large.map");
    fs::write(&map, "198.51.100.1 backend-one\n".repeat(4 << 20)).unwrap();
    planted.push(map);
    let changes: Vec<u8> =
        (0..planted.len()).map(|number| u8::try_from(number % 6).unwrap()).collect();
    round_trip(place, &planted, &changes);
    // Hashes are computed once, and again only for what has changed.
    let root = tree::open(Path::new("/")).unwrap();
    let store = Store::open(&place.join("store"), false).unwrap();
    let backup = store.backup("a-20260101T000000Z").unwrap();
    let mut hashes = Hashes::default();
    for (change, expected) in [(None, 10_001), (None, 0), (Some("7.pem"), 1)] {
        if let Some(name) = change {
            fs::write(conf.join(name), "x").unwrap();
        }
        let before = hashes.computed;
        let disk = present::look(&root, &backup.manifest, &mut hashes);
        assert!(disk.unread.is_empty());
        assert_eq!(hashes.computed - before, expected);
    }
}
