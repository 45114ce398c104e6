//! Finds what another user can change of all that HAProxy would read and run.
//!
//! A Lua script runs with the rights of the caller. So no other user may have written it, nor be able to
//! put one where HAProxy looks for it: relative names, and the modules that a script requires, start from
//! the working directory.

use std::path::{Path, PathBuf};

use super::scripts::{global_keyword, loaded};
use super::target::Target;
use crate::haproxy::config::{self, SourceFile};
use crate::sample::paths::writers::is_only_of;

/// What the caller can do where another user can change what HAProxy would read or run.
pub const REMEDY: &str = "let only you or root own and write it (chown, chmod), or, if you trust it as it \
    is, name HAProxy with --binary PATH";

/// Names the first path that a user other than root and `caller` can change, and what to do. `None`:
/// there is none.
pub fn changeable(target: &Target, files: &[SourceFile], caller: u32) -> Option<String> {
    let directory = &target.base.directory;
    let changed = |path: &Path| !is_only_of(&directory.join(path), caller);
    let said = |path: &Path, role: &str| {
        format!("another user can change {}{role}: {REMEDY}", path.display())
    };
    let read = target.names.iter().chain(files.iter().map(|file| &file.path));
    if let Some(path) = read.map(PathBuf::as_path).find(|path| changed(path)) {
        return Some(said(path, ""));
    }
    if changed(Path::new("")) {
        return Some(said(directory, ", where it would start"));
    }
    let statements = config::statements(files, &target.launch);
    let is_moved = statements.iter().any(|line| global_keyword(line) == Some("default-path"));
    for path in statements.iter().filter_map(loaded) {
        if is_moved && path.is_relative() {
            let path = path.display();
            return Some(format!("'default-path' decides where {path} is; write an absolute path"));
        }
        if changed(&path) {
            return Some(said(&path, ""));
        }
    }
    None
}
