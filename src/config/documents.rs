//! The documents of a configuration: one file, or the `*.yaml` files of a directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::raw::{Fault, Raw};
use crate::yaml;

/// The most bytes that are read of one file. A file written by hand is far smaller.
const LIMIT_BYTES: u64 = 1 << 20;

/// The key whose entries every document may have.
const HAPROXYS: &str = "haproxys";

/// One document of a configuration.
#[derive(Debug)]
pub struct Document {
    /// The file that it was read from.
    pub path: PathBuf,
    /// Its text, for the positions of errors.
    text: String,
}

impl Document {
    /// Reads the keys of a text.
    pub fn parse(path: &Path, text: String) -> Result<(Document, Raw), Error> {
        let path = path.to_owned();
        match yaml::parse::<Raw>(&text) {
            Ok(raw) => Ok((Document { path, text }, raw.unwrap_or_default())),
            Err(message) => Err(Error::Invalid { path, message }),
        }
    }

    /// The error about an entry of its `haproxys`.
    pub fn invalid(&self, index: usize, fault: &Fault) -> Error {
        let index = index.to_string();
        let mut keys = vec![HAPROXYS, &index];
        keys.extend(fault.keys);
        let message = yaml::message_at(&self.text, &keys, &fault.message);
        Error::Invalid { path: self.path.clone(), message }
    }

    /// The error that two entries of `haproxys`, each given by its index, have one name.
    pub fn duplicate_name(&self, index: usize, name: &str, first: (&Document, usize)) -> Error {
        let position = |document: &Document, index: usize| {
            yaml::value_position(&document.text, &[HAPROXYS, &index.to_string(), "name"])
        };
        let (here, there) = (position(self, index), position(first.0, first.1));
        let file = first.0.path.display();
        let message = format!(
            "duplicate name {name:?} at {here}; {file} has it at {there}: rename one of the two"
        );
        Error::Invalid { path: self.path.clone(), message }
    }

    fn duplicate_key(&self, key: &str, first: &Document) -> Error {
        let (here, there) =
            (yaml::key_position(&self.text, key), yaml::key_position(&first.text, key));
        let file = first.path.display();
        let message = format!(
            "duplicate key {key} at {here}; {file} has it at {there}: write it in one file only"
        );
        Error::Invalid { path: self.path.clone(), message }
    }
}

/// Reads all documents of a configuration, in the order of the names of their files.
pub fn read(path: &Path) -> Result<Vec<(Document, Raw)>, Error> {
    let files = if path.is_dir() { files_of(path)? } else { vec![path.to_owned()] };
    let documents = files.iter().map(|file| Document::parse(file, text_of(file)?));
    let documents: Vec<(Document, Raw)> = documents.collect::<Result<_, Error>>()?;
    refuse_duplicate_keys(documents.iter().map(|(document, _)| document))?;
    Ok(documents)
}

/// Reads the text of a configuration file.
pub fn text_of(path: &Path) -> Result<String, Error> {
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LIMIT_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// The files of a directory that belong to the configuration, in the byte order of their names.
fn files_of(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |path: &Path, source| Error::Unreadable { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(|why| unreadable(directory, why))? {
        let name = entry.map_err(|why| unreadable(directory, why))?.file_name();
        if !is_read(&name) {
            continue;
        }
        let path = directory.join(name);
        // The target of a link counts, because Kubernetes links the files of a volume.
        let kind = fs::metadata(&path).map_err(|why| unreadable(&path, why))?.file_type();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file");
            return Err(unreadable(&path, why));
        }
        files.push(path);
    }
    files.sort();
    Ok(files)
}

/// Whether a file of this name belongs to the configuration: `*.yaml`, unless it is hidden. The backups
/// of editors and package managers end in something else.
fn is_read(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.ends_with(b".yaml") && !name.starts_with(b".")
}

/// Refuses a key that two documents have. Only `haproxys` may be in more than one.
fn refuse_duplicate_keys<'a>(documents: impl Iterator<Item = &'a Document>) -> Result<(), Error> {
    let mut seen: Vec<(String, &Document)> = Vec::new();
    for document in documents {
        for key in yaml::keys(&document.text).into_iter().filter(|key| key != HAPROXYS) {
            if let Some((_, first)) = seen.iter().find(|(known, _)| *known == key) {
                return Err(document.duplicate_key(&key, first));
            }
            seen.push((key, document));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_visible_files_that_end_in_yaml_are_read() {
        let table = [
            ("a.yaml", true),
            ("10-lb agent.yaml", true),
            (".a.yaml", false),
            (".yaml", false),
            ("..data", false),
            (".#a.yaml", false),
            ("a.yaml~", false),
            ("a.yaml.dpkg-old", false),
            ("a.yaml.rpmsave", false),
            ("a.yaml.bak", false),
            (".a.yaml.swp", false),
            ("a.yml", false),
            ("README", false),
        ];
        for (name, expected) in table {
            assert_eq!(is_read(OsStr::new(name)), expected, "{name}");
        }
    }
}
