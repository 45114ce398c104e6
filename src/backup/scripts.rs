//! What a Lua script loads by a literal name.

use std::collections::{BTreeMap, BTreeSet};

/// What a script loads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The names of modules (`require "name"`).
    pub modules: BTreeSet<String>,
    /// The names of further scripts (`dofile`, `loadfile`).
    pub files: BTreeSet<String>,
    /// The names of maps (`Map.new`).
    pub maps: BTreeSet<String>,
    /// The names of files that it only reads (`io.open`, `io.lines`): they may be any program's, and change at any time.
    pub read: BTreeSet<String>,
    /// It loads something by a name that it computes, which cannot be known.
    pub computed: bool,
}

/// Reads what a script loads. Comments are not told from code: a name too many does no harm.
#[must_use]
pub fn loaded(script: &str) -> Loaded {
    let mut computed = false;
    let mut all = |call: &str| {
        let mut names = BTreeSet::new();
        for (at, _) in script.match_indices(call) {
            let before = script.get(..at).and_then(|text| text.chars().next_back());
            if before.is_some_and(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.'))
            {
                continue;
            }
            let rest = script.get(at + call.len()..).unwrap_or_default();
            match literal(rest) {
                Some((name, after)) if !is_for_writing(after) => {
                    names.insert(name.to_owned());
                }
                None if rest.trim_start().starts_with('(') => computed = true,
                Some(_) | None => {}
            }
        }
        names
    };
    let modules = all("require");
    let files = &all("dofile") | &all("loadfile");
    let maps = all("Map.new");
    let read = &all("io.open") | &all("io.lines");
    Loaded { modules, files, maps, read, computed }
}

/// What follows the name of a file asks to write it: a second argument that is a mode with `w`, `a` or `+`.
fn is_for_writing(after: &str) -> bool {
    let mode = after.trim_start().strip_prefix(',').map(str::trim_start);
    let mode = mode.and_then(|mode| mode.strip_prefix(['"', '\'']));
    mode.and_then(|mode| mode.split(['"', '\'']).next())
        .is_some_and(|mode| mode.contains(['w', 'a', '+']))
}

/// The text of a string (`"x"`, `'x'`, `[[x]]`, `[=[x]=]`), and what follows it.
fn literal(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('(').unwrap_or(rest).trim_start();
    let level = rest.strip_prefix('[').map(|rest| rest.len() - rest.trim_start_matches('=').len());
    let (opens, closes) = if let Some(level) = level {
        (format!("[{}[", "=".repeat(level)), format!("]{}]", "=".repeat(level)))
    } else {
        let quote = rest.get(..1).filter(|first| matches!(*first, "\"" | "'"))?;
        (quote.to_owned(), quote.to_owned())
    };
    let (name, after) = rest.strip_prefix(&*opens)?.split_once(&*closes)?;
    // `require("a" .. b)` computes its name.
    (!after.trim_start().starts_with("..")).then_some((name, after))
}

/// The templates that Lua takes from the environment that HAProxy was started in (`LUA_PATH`, or the same with
/// Lua's version), without the system's own.
#[must_use]
pub fn templates(environment: Option<&BTreeMap<String, String>>) -> Vec<String> {
    let of = |version: &str| environment?.get(&format!("LUA_PATH{version}"));
    let paths = ["_5_4", "_5_3", ""].into_iter().filter_map(of);
    let each = paths.flat_map(|path| path.split(';')).filter(|template| template.contains('?'));
    each.map(str::to_owned).collect()
}

/// The paths at which a module may lie, by the templates of `package.path`.
pub fn places<'a>(module: &'a str, templates: &'a [String]) -> impl Iterator<Item = String> + 'a {
    let file = module.replace('.', "/");
    templates.iter().map(move |template| template.replace('?', &file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_loads() {
        let script = "local a = require \"one.two\"\nlocal b=require('three')\ndofile('/x/y.lua')\n\
                      loadfile [[z]]\nmyrequire('no')\nrequire [==[long]==]\n\
                      Map.new('/m/geo.map', Map._ip)\nio.open(\"/d/a.json\", \"r\")\nio.open('/w', 'a+')\n";
        let found = loaded(script);
        assert_eq!(found.modules, ["one.two", "three", "long"].map(str::to_owned).into());
        assert_eq!(found.files, ["/x/y.lua", "z"].map(str::to_owned).into());
        assert_eq!(found.maps, ["/m/geo.map"].map(str::to_owned).into());
        assert_eq!(found.read, ["/d/a.json"].map(str::to_owned).into());
        assert!(!found.computed);
        assert!(loaded("require(name)").computed && loaded("require('a' .. b)").computed);
        let templates = ["/l/?.lua".to_owned(), "/l/?/init.lua".to_owned()];
        let places: Vec<String> = places("one.two", &templates).collect();
        assert_eq!(places, ["/l/one/two.lua", "/l/one/two/init.lua"]);
    }
}
