//! Files and directories below a descriptor: every name is one step, and no step follows a link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{Context, SHA256};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::backup::keys::Scanner;

/// The modes of everything in a backup.
pub const PRIVATE_DIRECTORY: Mode = Mode::RWXU;
/// The mode of a file in a backup.
pub const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// For an open file of another user's choice: never waits, never becomes a terminal.
pub const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The names below the root that a path consists of.
pub fn steps(path: &Path) -> impl Iterator<Item = &OsStr> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    })
}

/// Opens a directory of the caller's choice.
pub fn open(path: &Path) -> Result<OwnedFd, Errno> {
    fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens one directory below another.
pub fn enter(at: impl AsFd, name: impl AsRef<OsStr>) -> Result<OwnedFd, Errno> {
    fs::openat(at, name.as_ref(), DIRECTORY, Mode::empty())
}

/// Opens a directory below another, step by step.
pub fn descend(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    steps(path).try_fold(enter(root, ".")?, |here, name| enter(&here, name))
}

/// The same, but makes the private directories that are missing.
pub fn descend_making(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let into = |here: OwnedFd, name: &OsStr| match fs::mkdirat(&here, name, PRIVATE_DIRECTORY) {
        Ok(()) | Err(Errno::EXIST) => enter(&here, name),
        Err(error) => Err(error),
    };
    steps(path).try_fold(enter(root, ".")?, into)
}

/// The directory that holds a path, and the name there.
pub fn parent<'p>(root: &OwnedFd, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    Ok((descend(root, path.parent().unwrap_or(Path::new("/")))?, name))
}

/// Opens a regular file below a directory for reading, step by step.
pub fn open_below(root: &OwnedFd, path: &Path) -> Result<(File, Stat), Errno> {
    let (parent, name) = parent(root, path)?;
    open_file(&parent, name)
}

/// Whether this is the status of a regular file.
#[must_use]
pub fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Opens a regular file for reading.
pub fn open_file(at: impl AsFd, name: impl AsRef<OsStr>) -> Result<(File, Stat), Errno> {
    let opened = fs::openat(at, name.as_ref(), READ, Mode::empty())?;
    let stat = fs::fstat(&opened)?;
    if is_file(&stat) { Ok((File::from(opened), stat)) } else { Err(Errno::INVAL) }
}

/// Reads a file to its end; an error if it has more than `most` bytes.
pub fn read(at: impl AsFd, name: impl AsRef<OsStr>, most: u64) -> io::Result<Vec<u8>> {
    let (file, _) = open_file(at, name)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes)
}

/// Creates a private file, which must not exist.
pub fn create(at: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<File> {
    Ok(File::from(fs::openat(at, name.as_ref(), CREATE, PRIVATE_FILE)?))
}

/// Writes a new private file and syncs it.
pub fn write(at: impl AsFd, name: impl AsRef<OsStr>, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(at, name)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Puts a private file in the place of one that may be there, in one step.
pub fn replace(at: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = format!(".{name}.new-{}", std::process::id());
    let _ = fs::unlinkat(at, &beside, AtFlags::empty());
    let written = write(at, &beside, bytes)
        .and_then(|()| Ok(fs::renameat(at, &beside, at, name)?))
        .and_then(|()| Ok(fs::fsync(at)?));
    if written.is_err() {
        let _ = fs::unlinkat(at, &beside, AtFlags::empty());
    }
    written
}

/// What a file consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The hash of its bytes.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
    /// A private key is in it.
    pub private_key: bool,
}

/// Reads a stream to its end, copies it to `copy`, and says what it consists of.
pub fn digest(mut from: impl Read, copy: &mut impl Write) -> io::Result<Digest> {
    let mut context = Context::new(&SHA256);
    let mut scanner = Scanner::default();
    let mut size = 0;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = buffer.get(..read).unwrap_or_default();
        context.update(piece);
        scanner.feed(piece);
        copy.write_all(piece)?;
        size += read as u64;
    }
    let sha256 = hex(context.finish().as_ref());
    Ok(Digest { sha256, size, private_key: scanner.found() })
}

/// The hash of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The extended attributes of an open file, in base64. On a file system without any there are none.
pub fn attributes(file: impl AsFd) -> Result<std::collections::BTreeMap<String, String>, Errno> {
    let mut names = vec![0; 64 * 1024];
    let length = match fs::flistxattr(file.as_fd(), &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error),
    };
    let mut found = std::collections::BTreeMap::new();
    let names = names.get(..length).unwrap_or_default();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 * 1024];
        let length = match fs::fgetxattr(file.as_fd(), name, &mut value[..]) {
            Ok(length) => length,
            // It was removed meanwhile, or only the kernel's modules may read it.
            Err(Errno::NODATA | Errno::PERM | Errno::OPNOTSUPP) => continue,
            Err(error) => return Err(error),
        };
        let value = value.get(..length).unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        found.insert(name, BASE64_STANDARD.encode(value));
    }
    Ok(found)
}

/// The names in a directory, sorted.
pub fn names(directory: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes a file, or a directory with all that is in it.
pub fn remove(at: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match fs::unlinkat(at, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return done,
    }
    let directory = enter(at, name)?;
    for inner in names(&directory)? {
        remove(&directory, &inner)?;
    }
    fs::unlinkat(at, name, AtFlags::REMOVEDIR)
}

/// When a file was last changed.
#[must_use]
pub fn modified(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}
