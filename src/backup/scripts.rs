//! What a Lua script loads by a literal name.

use std::collections::BTreeSet;

/// What a script loads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The names of modules (`require "name"`).
    pub modules: BTreeSet<String>,
    /// The names of files (`dofile`, `loadfile`).
    pub files: BTreeSet<String>,
    /// It loads something by a name that it computes, which cannot be known.
    pub computed: bool,
}

/// Reads what a script loads. Comments are not told from code: a name too many does no harm.
#[must_use]
pub fn loaded(script: &str) -> Loaded {
    let mut loaded = Loaded::default();
    let mut all = |call: &str, names: &mut BTreeSet<String>| {
        for (at, _) in script.match_indices(call) {
            let before = script.get(..at).and_then(|text| text.chars().next_back());
            if before.is_some_and(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.'))
            {
                continue;
            }
            let rest = script.get(at + call.len()..).unwrap_or_default();
            match literal(rest) {
                Some(name) => drop(names.insert(name.to_owned())),
                None if rest.trim_start().starts_with('(') => loaded.computed = true,
                None => {}
            }
        }
    };
    let (mut modules, mut files) = (BTreeSet::new(), BTreeSet::new());
    all("require", &mut modules);
    all("dofile", &mut files);
    all("loadfile", &mut files);
    Loaded { modules, files, ..loaded }
}

fn literal(rest: &str) -> Option<&str> {
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('(').unwrap_or(rest).trim_start();
    let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let (name, after) = rest.strip_prefix(quote)?.split_once(quote)?;
    // `require("a" .. b)` computes its name.
    (!after.trim_start().starts_with("..")).then_some(name)
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
                      loadfile [[z]]\nmyrequire('no')\n";
        let found = loaded(script);
        assert_eq!(found.modules, ["one.two", "three"].map(str::to_owned).into());
        assert_eq!(found.files, ["/x/y.lua"].map(str::to_owned).into());
        assert!(!found.computed);
        assert!(loaded("require(name)").computed && loaded("require('a' .. b)").computed);
        let templates = ["/l/?.lua".to_owned(), "/l/?/init.lua".to_owned()];
        let places: Vec<String> = places("one.two", &templates).collect();
        assert_eq!(places, ["/l/one/two.lua", "/l/one/two/init.lua"]);
    }
}
