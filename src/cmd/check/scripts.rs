//! Finds what a configuration lets HAProxy run: Lua scripts, their modules, and providers of OpenSSL.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::haproxy::config::Statement;

/// The number of bytes of a script that are searched for the names of variables.
const MOST_BYTES: u64 = 1 << 20;

/// The file or directory that a line lets HAProxy run code from.
pub fn loaded(statement: &Statement) -> Option<PathBuf> {
    let path = statement.words.get(1)?;
    match global_keyword(statement)? {
        "lua-load" | "lua-load-per-thread" | "ssl-provider-path" => Some(path.into()),
        // Question marks stand for the name of the module.
        "lua-prepend-path" => {
            let fixed = path.split('?').next().unwrap_or_default();
            Some(fixed.rsplit_once('/').map_or_else(PathBuf::new, |(above, _)| above.into()))
        }
        _ => None,
    }
}

/// The first word of a line in `global`.
pub fn global_keyword(statement: &Statement) -> Option<&str> {
    let keyword = statement.words.first().map(String::as_str);
    keyword.filter(|_| statement.section == "global")
}

/// The environment variables that the scripts of a configuration read by a literal name. Relative names
/// of scripts start from `directory`.
pub fn variables(statements: &[Statement], directory: &Path) -> BTreeSet<String> {
    let is_script = |statement: &&Statement| {
        matches!(global_keyword(statement), Some("lua-load" | "lua-load-per-thread"))
    };
    let scripts = statements.iter().filter(is_script).filter_map(loaded);
    scripts.flat_map(|path| names(&text(&directory.join(path)).unwrap_or_default())).collect()
}

fn text(path: &Path) -> Option<String> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).ok()?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in `os.getenv("NAME")` and `os.getenv 'NAME'`.
fn names(script: &str) -> BTreeSet<String> {
    let calls = script.split("getenv").skip(1);
    let name = |rest: &str| {
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('(').unwrap_or(rest).trim_start();
        let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''))?;
        let (name, _) = rest.strip_prefix(quote)?.split_once(quote)?;
        Some(name.to_owned())
    };
    calls.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_a_script() {
        let script = "local a = os.getenv(\"ONE\") or os.getenv ( 'TWO' )\nos.getenv'THREE'\n\
            os.getenv(name) getenv(\"open";
        let expected = ["ONE", "THREE", "TWO"].map(str::to_owned);
        assert_eq!(names(script), BTreeSet::from(expected));
    }
}
