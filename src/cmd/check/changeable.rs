//! Finds what another user can change of all that HAProxy would read and run.
//!
//! A Lua script runs with the rights of the caller. So no other user may have written it, nor be able to
//! put one where HAProxy looks for it: relative names, and the modules that a script requires, start from
//! the working directory.

use std::path::{Path, PathBuf};

use super::target::Target;
use crate::haproxy::config::{self, SourceFile, Statement};
use crate::sample::paths::writers::is_only_of;

/// Names the first path that a user other than root and `caller` can change. `None`: there is none.
pub fn changeable(target: &Target, files: &[SourceFile], caller: u32) -> Option<String> {
    let directory = &target.base.directory;
    let changed = |path: &Path| !is_only_of(&directory.join(path), caller);
    let said = |path: &Path| format!("another user can change {}", path.display());
    let read = target.names.iter().chain(files.iter().map(|file| &file.path));
    if let Some(path) = read.map(PathBuf::as_path).find(|path| changed(path)) {
        return Some(said(path));
    }
    if changed(Path::new("")) {
        return Some(format!("{}, where it would start", said(directory)));
    }
    let statements = config::statements(files, &target.launch);
    let is_moved =
        statements.iter().any(|line| is_global(line) && starts_with(line, "default-path"));
    for path in statements.iter().filter_map(loaded) {
        if is_moved && path.is_relative() {
            let path = path.display();
            return Some(format!("'default-path' decides where {path} is; write an absolute path"));
        }
        if changed(&path) {
            return Some(said(&path));
        }
    }
    None
}

fn is_global(statement: &Statement) -> bool {
    statement.section == "global"
}

fn starts_with(statement: &Statement, keyword: &str) -> bool {
    statement.words.first().is_some_and(|word| word == keyword)
}

/// The file or directory that a line lets HAProxy run code from.
fn loaded(statement: &Statement) -> Option<PathBuf> {
    let [keyword, path, ..] = statement.words.as_slice() else { return None };
    match keyword.as_str() {
        "lua-load" | "lua-load-per-thread" | "ssl-provider-path" if is_global(statement) => {
            Some(path.into())
        }
        // Question marks stand for the name of the module.
        "lua-prepend-path" if is_global(statement) => {
            let fixed = path.split('?').next().unwrap_or_default();
            Some(fixed.rsplit_once('/').map_or_else(PathBuf::new, |(above, _)| above.into()))
        }
        _ => None,
    }
}
