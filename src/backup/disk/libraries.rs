//! Finds where a program's loader and libraries lie, if that is outside of the places of the system.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The largest program that is searched. HAProxy has 3 to 7 MB.
const MOST_BYTES: u64 = 64 << 20;

/// The directories that a program names for its loader and its libraries, and its own. They stand in it as
/// strings (`PT_INTERP`, `DT_RPATH`, `DT_RUNPATH`); a string counts only if it is a loader, or a directory
/// with libraries.
#[must_use]
pub fn directories(program: &Path) -> BTreeSet<PathBuf> {
    let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let own = program.parent().unwrap_or(Path::new("/")).to_owned();
    let mut content = Vec::new();
    let read =
        File::open(&program).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut content));
    if read.is_err() {
        return [own].into();
    }
    let strings = content.split(|byte| *byte == 0);
    let parts = strings
        .filter(|string| matches!(string.first(), Some(b'/' | b'$')) && string.len() < 4096)
        .flat_map(|string| string.split(|byte| *byte == b':'));
    let named = parts.filter_map(|part| directory(Path::new(OsStr::from_bytes(part)), &own));
    named.chain([own.clone()]).collect()
}

fn directory(path: &Path, own: &Path) -> Option<PathBuf> {
    let path = match path.strip_prefix("$ORIGIN") {
        Ok(rest) => own.join(rest),
        Err(_) => path.to_owned(),
    };
    if !path.is_absolute() {
        return None;
    }
    let name = path.file_name()?.to_str()?;
    if name.starts_with("ld-") && name.contains(".so") && path.is_file() {
        return path.parent()?.canonicalize().ok();
    }
    let has_libraries = || {
        let listed = fs::read_dir(&path).ok()?;
        let mut names = listed.flatten().map(|entry| entry.file_name());
        names.find(|name| name.as_bytes().windows(3).any(|part| part == b".so"))
    };
    // Most strings are no paths at all.
    (path.is_dir() && has_libraries().is_some()).then(|| path.canonicalize().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaders_and_directories_of_libraries_are_found() {
        let scratch = tempfile::tempdir().unwrap();
        let place = scratch.path();
        for name in ["bin", "own", "loader", "data"] {
            fs::create_dir_all(place.join(name)).unwrap();
        }
        fs::write(place.join("own/libx.so.1"), "").unwrap();
        fs::write(place.join("loader/ld-linux.so.2"), "").unwrap();
        let here = place.display();
        let program = format!(
            "\x7fELF\0{here}/loader/ld-linux.so.2\0$ORIGIN/../own:{here}/data\0{here}/none\0"
        );
        fs::write(place.join("bin/haproxy"), program).unwrap();
        let found = directories(&place.join("bin/haproxy"));
        let expected = ["bin", "loader", "own"].map(|name| place.join(name));
        assert_eq!(found, expected.into());
    }
}
