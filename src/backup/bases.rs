//! The directories that the relative names in a configuration start from.

use std::path::{Path, PathBuf};

use crate::haproxy::config::Statement;

/// The directories that relative names start from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bases {
    /// The directory that HAProxy was started in.
    pub directory: PathBuf,
    pub(super) certificates: Option<PathBuf>,
    pub(super) keys: Option<PathBuf>,
    pub(super) authorities: Option<PathBuf>,
    pub(super) states: Option<PathBuf>,
    /// `default-path`.
    moved: Moved,
    /// A file in which HAProxy is back in its own directory for the rest of the lines.
    left: Option<PathBuf>,
    /// The templates of `lua-prepend-path`, as they are written.
    pub templates: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Moved {
    #[default]
    Current,
    Config,
    Parent,
    Origin(PathBuf),
}

impl Bases {
    /// The bases before any line is read.
    #[must_use]
    pub fn of(directory: &Path) -> Bases {
        Bases { directory: directory.to_owned(), ..Bases::default() }
    }

    /// Takes what a line sets.
    pub(super) fn learn(&mut self, line: &Statement) {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        let value =
            |word: &str| Some(PathBuf::from(word)).filter(|path| !path.as_os_str().is_empty());
        match (line.section.as_str(), words.as_slice()) {
            ("global" | "crt-store", ["crt-base", path, ..]) => self.certificates = value(path),
            ("global" | "crt-store", ["key-base", path, ..]) => self.keys = value(path),
            ("global", ["ca-base", path, ..]) => self.authorities = value(path),
            ("global", ["server-state-base", path, ..]) => self.states = value(path),
            ("global", ["lua-prepend-path", template, rest @ ..])
                if rest.first() != Some(&"cpath") =>
            {
                self.templates.push((*template).to_owned());
            }
            ("global", ["default-path", mode, rest @ ..]) => {
                self.moved = match (*mode, rest) {
                    ("config", _) => Moved::Config,
                    ("parent", _) => Moved::Parent,
                    ("origin", [path, ..]) => Moved::Origin(PathBuf::from(path)),
                    _ => Moved::Current,
                };
            }
            _ => {}
        }
    }

    /// Takes what a line leaves behind. The file of a SPOE filter is read in the middle of the configuration, and
    /// afterwards HAProxy is back where it was started (`parse_cfg` in `src/cfgparse.c` keeps only one place to go back
    /// to).
    pub(super) fn leave(&mut self, line: &Statement) {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        if words.starts_with(&["filter", "spoe"]) && words.contains(&"config") {
            self.left = Some(line.place.file.to_path_buf());
        }
    }

    /// The directory that HAProxy is in while it reads a configuration file.
    pub(super) fn while_reading(&self, file: &Path) -> PathBuf {
        if self.left.as_deref() == Some(file) {
            return self.directory.clone();
        }
        let above = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
        self.directory.join(match &self.moved {
            Moved::Current => PathBuf::new(),
            Moved::Config => above(file),
            Moved::Parent => above(&above(file)),
            Moved::Origin(origin) => origin.clone(),
        })
    }
}

/// Where a name leads that is read in `directory`; `base`: the directory of its kind.
pub(super) fn join(directory: &Path, base: Option<&PathBuf>, name: &str) -> PathBuf {
    directory.join(base.map_or_else(|| PathBuf::from(name), |base| base.join(name)))
}
