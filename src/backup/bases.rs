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
    /// The templates that `lua-prepend-path` adds.
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
                self.templates.push(self.join(None, template, None).to_string_lossy().into_owned());
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

    /// Where a name leads. `file`: the configuration file that has it.
    pub(super) fn join(&self, base: Option<&PathBuf>, name: &str, file: Option<&Path>) -> PathBuf {
        let name = Path::new(name);
        if name.is_absolute() {
            return name.to_owned();
        }
        let name = base.map_or_else(|| name.to_owned(), |base| base.join(name));
        let above = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
        let moved = match (&self.moved, file) {
            (Moved::Config, Some(file)) => above(file),
            (Moved::Parent, Some(file)) => above(&above(file)),
            (Moved::Origin(origin), _) => origin.clone(),
            _ => PathBuf::new(),
        };
        self.directory.join(moved).join(name)
    }
}
