//! A backup as one file: a tar archive, compressed with zstd, with the manifest first.

use std::ffi::OsStr;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tar::{Archive, Builder, EntryType, Header};

use super::error::{Error, failed};
use super::layout::{ARCHIVE, FILES, MANIFEST, MANIFEST_HASH, MOST_MANIFEST, PARTIAL, VARIABLES};
use super::tree;

/// The level of zstd's command line.
const LEVEL: i32 = 3;

/// Packs a directory into a new file, and syncs that.
pub fn pack(at: &OwnedFd, name: &str, directory: &OwnedFd) -> io::Result<()> {
    let file = tree::create(at, name)?;
    let encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL)?;
    let mut builder = Builder::new(encoder);
    for name in [MANIFEST, MANIFEST_HASH, VARIABLES] {
        append(&mut builder, directory, name.as_ref(), Path::new(name))?;
    }
    append_all(&mut builder, &tree::enter(directory, FILES)?, Path::new(FILES))?;
    let file =
        builder.into_inner()?.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

fn append_all(builder: &mut Builder<impl io::Write>, at: &OwnedFd, path: &Path) -> io::Result<()> {
    for name in tree::names(at)? {
        let path = path.join(&name);
        match tree::enter(at, &name) {
            Ok(inner) => append_all(builder, &inner, &path)?,
            Err(rustix::io::Errno::NOTDIR) => append(builder, at, &name, &path)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn append(
    builder: &mut Builder<impl io::Write>,
    at: &OwnedFd,
    name: &OsStr,
    path: &Path,
) -> io::Result<()> {
    let (file, stat) = tree::open_file(at, name)?;
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(u64::try_from(stat.st_size).unwrap_or(0));
    header.set_mode(0o600);
    builder.append_data(&mut header, path, BufReader::new(file))
}

/// The manifest of an archive and its hash line.
pub fn manifest_text(at: &OwnedFd, name: &str) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (file, _) = tree::open_file(at, format!("{name}{ARCHIVE}"))?;
    let mut archive = Archive::new(zstd::Decoder::new(file)?);
    let mut entries = archive.entries()?;
    let mut next = |expected: &str| {
        let entry = entries.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        if entry.path_bytes() != expected.as_bytes() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not an archive of a backup",
            ));
        }
        let mut text = Vec::new();
        entry.take(MOST_MANIFEST).read_to_end(&mut text)?;
        Ok(text)
    };
    Ok((next(MANIFEST)?, next(MANIFEST_HASH)?))
}

/// An archive that was unpacked; it is removed when this is dropped.
#[derive(Debug)]
pub struct Unpacked {
    /// The name of its directory.
    pub name: String,
    at: OwnedFd,
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = tree::remove(&self.at, self.name.as_ref());
    }
}

/// Unpacks an archive into a private directory beside the backups.
pub fn unpack(store: &OwnedFd, place: &Path, name: &str) -> Result<Unpacked, Error> {
    let path = place.join(format!("{name}{ARCHIVE}"));
    let unpacked = || {
        let at = tree::enter(store, ".")?;
        let partial = format!(".{name}{PARTIAL}unpacked-{}", std::process::id());
        let _ = tree::remove(&at, partial.as_ref());
        rustix::fs::mkdirat(&at, &partial, tree::PRIVATE_DIRECTORY)?;
        let unpacked = Unpacked { name: partial, at };
        let directory = tree::enter(&unpacked.at, &unpacked.name)?;
        rustix::fs::mkdirat(&directory, FILES, tree::PRIVATE_DIRECTORY)?;
        let (file, _) = tree::open_file(store, format!("{name}{ARCHIVE}"))?;
        let mut archive = Archive::new(zstd::Decoder::new(file)?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let inside: PathBuf = tree::steps(&entry.path()?).collect();
            if entry.header().entry_type() != EntryType::Regular {
                let what = format!("{} is no file", inside.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            // Names are taken one by one, so that none leads out of the directory.
            let parent =
                tree::descend_making(&directory, inside.parent().unwrap_or(Path::new("")))?;
            let mut file = tree::create(&parent, inside.file_name().unwrap_or_default())?;
            io::copy(&mut entry, &mut file)?;
            file.flush()?;
        }
        Ok(unpacked)
    };
    unpacked().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
            Error::Altered {
                name: name.to_owned(),
                why: format!("its archive is damaged: {error}"),
            }
        }
        _ => failed("cannot unpack", &path)(error),
    })
}
