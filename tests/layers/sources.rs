//! Reads the sources as text: which file uses which, and which reach one another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// The code of each file of `src`, by its path there.
pub struct Sources {
    pub files: BTreeMap<PathBuf, String>,
}

impl Sources {
    /// All files but `stage.rs` and `readings.rs`, which only unit tests see.
    pub fn of_the_project() -> Sources {
        let root = source_root();
        let files = files_under(&root)
            .into_iter()
            .filter(|path| !path.ends_with("stage.rs") && !path.ends_with("readings.rs"));
        let files = files.map(|path| {
            let code = code_of(&fs::read_to_string(&path).unwrap());
            (path.strip_prefix(&root).unwrap().to_owned(), code)
        });
        Sources { files: files.collect() }
    }

    /// The file of each module.
    fn modules(&self) -> BTreeMap<Vec<String>, &PathBuf> {
        self.files.keys().map(|path| (module_of(path), path)).collect()
    }
}

/// Which file uses which: all pairs, each once.
pub fn arrows(sources: &Sources) -> BTreeSet<(PathBuf, PathBuf)> {
    let mut arrows = BTreeSet::new();
    let modules = sources.modules();
    for (path, code) in &sources.files {
        for item in items_used(&module_of(path), code) {
            // The longest module that begins the item's path is the file that has it.
            let target = (1..=item.len()).rev().find_map(|length| modules.get(&item[..length]));
            if let Some(target) = target.filter(|target| **target != path) {
                arrows.insert((path.clone(), (*target).clone()));
            }
        }
    }
    arrows
}

/// An import.
static IMPORT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?use ([^;]+);").unwrap());
/// A path in the middle of an expression or a type.
static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[A-Za-z_]\w*(?:::\w+)+").unwrap());
/// Where an item is visible: no import, though it may name a module.
static VISIBILITY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bpub\(in [^)]*\)").unwrap());
/// The unit tests at the end of a file.
static TESTS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"#\[cfg\(test\)\]\n(?:#\[[^\n]*\n)*(?:pub(?:\([^)]*\))? )?mod \w+ \{").unwrap()
});
/// The declaration of a module that lies in a file of its own.
static CHILD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?m)^\s*(?:pub(?:\([^)]*\))? )?mod (\w+);").unwrap());

/// The absolute paths of all items that the code of a module names.
fn items_used(module: &[String], code: &str) -> Vec<Vec<String>> {
    let code = &VISIBILITY.replace_all(code, "pub");
    let children: BTreeSet<_> = CHILD.captures_iter(code).map(|c| c[1].to_owned()).collect();
    let imported = IMPORT.captures_iter(code).flat_map(|captures| leaves(&captures[1]));
    let rest = IMPORT.replace_all(code, "");
    let named = PATH.find_iter(&rest).map(|found| found.as_str().to_owned());
    let absolute = |path: String| {
        let mut words: Vec<String> = path.split("::").map(|word| word.trim().to_owned()).collect();
        let first = words.first()?.clone();
        let mut base = match first.as_str() {
            "crate" | "haproxy_host_exporter" => Vec::new(),
            "self" | "super" => module.to_vec(),
            child if children.contains(child) => {
                words.insert(0, "self".to_owned());
                module.to_vec()
            }
            _ => return None,
        };
        words.remove(0);
        if first == "super" {
            base.pop();
        }
        while words.first().is_some_and(|word| word == "super") {
            words.remove(0);
            base.pop();
        }
        base.extend(words);
        Some(base)
    };
    imported.chain(named).filter_map(absolute).collect()
}

/// The paths of a use tree: `a::{b, c::{self, d}}` is `a::b`, `a::c` and `a::c::d`.
fn leaves(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.trim_end_matches("::*").trim_end_matches("::self").to_owned()];
    };
    let (prefix, group) = (&tree[..open], &tree[open + 1..tree.rfind('}').unwrap()]);
    let mut depth = 0;
    let parts = group.split(|letter| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    let parts = parts.filter(|part| !part.trim().is_empty());
    parts
        .flat_map(|part| {
            let part = part.trim();
            let joined = if part == "self" {
                prefix.trim_end_matches("::").to_owned()
            } else {
                format!("{prefix}{part}")
            };
            leaves(&joined)
        })
        .collect()
}

/// Each group of files that reach one another, as one line.
pub fn circles(arrows: &BTreeSet<(PathBuf, PathBuf)>) -> Vec<String> {
    let files: BTreeSet<&PathBuf> = arrows.iter().flat_map(|(from, to)| [from, to]).collect();
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        files.iter().map(|file| (*file, reach(arrows, file))).collect();
    let mut groups = BTreeSet::new();
    for (file, reached_from_it) in &reached {
        let group: BTreeSet<_> =
            reached_from_it.iter().filter(|other| reached[*other].contains(file)).collect();
        if !group.is_empty() {
            let names: Vec<_> = group.iter().map(|path| path.display().to_string()).collect();
            groups.insert(names.join(" ↔ "));
        }
    }
    groups.into_iter().collect()
}

/// All files that a file uses, directly or through others.
fn reach<'a>(arrows: &'a BTreeSet<(PathBuf, PathBuf)>, from: &'a PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        let used = arrows.iter().filter(|(user, _)| user == file).map(|(_, used)| used);
        next.extend(used.filter(|used| reached.insert(*used)));
    }
    reached
}

/// The module of a file, as the words of its path.
pub fn module_of(path: &Path) -> Vec<String> {
    let words = path.with_extension("");
    let mut words: Vec<String> =
        words.iter().map(|word| word.to_str().unwrap().to_owned()).collect();
    if words.last().is_some_and(|last| last == "mod" || last == "lib") {
        words.pop();
    }
    words
}

pub fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

pub fn files_under(place: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_under(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file's code: neither comments nor the unit tests at its end.
pub fn code_of(text: &str) -> String {
    let code = TESTS.split(text).next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}
