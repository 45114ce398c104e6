//! Holds the shape of the source: data flows one way, no two files import each other in a circle,
//! and an abandoned name does not come back.
//!
//! The sources are read as text. A path such as `crate::judge::case::Case` is an arrow from the file
//! that writes it to the file of the longest module in it; a re-export is an arrow to the `mod.rs`
//! that makes it. Comments and the unit tests at the end of a file are left out.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use sources::{Sources, arrows, circles, code_of, files_under, module_of, source_root};

/// A room, and the rooms whose names it may use. A file at the top of `src` is a room of its own.
const ROOMS: &[(&str, &[&str])] = &[
    ("build_info", &[]),
    ("yaml", &[]),
    ("rights", &[]),
    ("model", &[]),
    ("policy", &["model"]),
    ("haproxy", &["model"]),
    ("sample", &["model", "haproxy"]),
    ("config", &["model", "policy", "sample", "yaml"]),
    ("judge", &["model", "policy", "haproxy"]),
    ("check", &["model", "policy", "haproxy"]),
    ("reap", &["model", "policy", "haproxy", "judge"]),
    ("reap/execute", &["model", "policy", "sample"]),
    ("reap/store", &["sample", "reap"]),
    ("backup", &["model", "haproxy"]),
    ("backup/disk", &["model", "haproxy", "sample", "backup"]),
    ("watch", &["model", "policy", "haproxy", "sample", "judge", "config"]),
    ("metrics", &["build_info", "model", "policy", "haproxy", "judge", "backup", "reap"]),
    ("report", &["build_info", "model", "policy", "haproxy", "judge", "check", "reap"]),
    ("web", &["config", "model", "judge", "metrics", "report", "yaml"]),
    ("cli", &["build_info", "sample"]),
    (
        "cmd",
        &[
            "cli",
            "config",
            "model",
            "policy",
            "haproxy",
            "sample",
            "judge",
            "check",
            "reap",
            "reap/execute",
            "reap/store",
            "watch",
            "metrics",
            "report",
            "web",
            "rights",
            "backup",
            "backup/disk",
        ],
    ),
    ("main", &["cli", "cmd", "rights"]),
];

/// Rooms without I/O, clock and log.
const PURE: &[&str] =
    &["model", "policy", "haproxy", "judge", "check", "reap", "backup", "metrics", "report"];

/// Files and folders that are rooms of their own inside of another: the executors of what that one decides.
const EXECUTORS: &[&str] = &["backup/disk", "reap/execute", "reap/store"];

/// What a pure room may not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "std::io",
    "tokio",
    "procfs::",
    "rustix",
    "tracing::",
];

/// Names that the code has left behind: one thing has one name.
const ABANDONED: &[&str] = &[
    "Scene",
    "Inquiry",
    "Questions",
    "CloserLook",
    "Unit",
    "Standing",
    "Standings",
    "tell",
    "believe",
    "doubt",
    "Pace",
    "Lasting",
    "Lastings",
    "Told",
    "Sought",
    "doorway",
    "Stranger",
    "Stance",
    "Known",
    "Haproxy",
    "chosen_by",
];

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = circles(&arrows(&Sources::of_the_project()));
    assert!(circles.is_empty(), "files in circles:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    type Files = &'static [(&'static str, &'static str)];
    let sources = |files: Files| Sources {
        files: files.iter().map(|(path, text)| ((*path).into(), code_of(text))).collect(),
    };
    let table: [(&str, Files, usize); 8] = [
        ("none", &[("a.rs", "use crate::b::B;"), ("b.rs", "")], 0),
        ("direct", &[("a.rs", "use crate::b::{self, B};"), ("b.rs", "use crate::a::A;")], 1),
        (
            "through mod.rs",
            &[("r/mod.rs", "mod x;\npub use self::x::X;"), ("r/x.rs", "use crate::r::Y;")],
            1,
        ),
        (
            "through super",
            &[("r/mod.rs", "mod x;\nfn f() { x::g() }"), ("r/x.rs", "use super::f;")],
            1,
        ),
        (
            "in the middle of an expression",
            &[
                ("a.rs", "fn f() { crate::b::g() }"),
                ("b.rs", "use crate::{a::f, c};"),
                ("c.rs", ""),
            ],
            1,
        ),
        ("a declaration is no arrow", &[("r/mod.rs", "mod x;"), ("r/x.rs", "use super::Y;")], 0),
        (
            "a visibility is no arrow",
            &[
                ("r/mod.rs", "mod x;\npub use self::x::f;"),
                ("r/x.rs", "pub(in crate::r) fn f() {}"),
            ],
            0,
        ),
        (
            "unit tests are left out",
            &[
                ("a.rs", "use crate::b::B;"),
                (
                    "b.rs",
                    "#[cfg(test)]\n#[allow(x)]\npub(crate) mod tests {\n    use crate::a::A;\n}\n",
                ),
            ],
            0,
        ),
    ];
    for (what, files, expected) in table {
        assert_eq!(circles(&arrows(&sources(files))).len(), expected, "{what}");
    }
}

#[test]
fn rooms_use_only_what_lies_upstream() {
    let mut against = BTreeSet::new();
    let permitted: BTreeMap<_, _> = ROOMS.iter().copied().collect();
    for (from, to) in arrows(&Sources::of_the_project()) {
        let (here, there) = (room_of(&from), room_of(&to));
        let Some(upstream) = permitted.get(here.as_str()) else {
            panic!("src/{here} is in no row of ROOMS: say what it may use");
        };
        if here != there && there != "lib" && !upstream.contains(&there.as_str()) {
            against.insert(format!("{} uses {}", from.display(), to.display()));
        }
    }
    assert!(against.is_empty(), "arrows against the direction:\n{}", join(&against));
}

#[test]
fn pure_rooms_do_no_io() {
    let sources = Sources::of_the_project();
    let mut found = BTreeSet::new();
    for (path, code) in &sources.files {
        let pure = PURE.contains(&room_of(path).as_str()) || path.ends_with("network/wire.rs");
        for (number, line) in code.lines().enumerate().filter(|_| pure) {
            for name in IMPURE.iter().filter(|name| line.contains(**name)) {
                found.insert(format!("{}:{} names {name}", path.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "I/O in a pure room:\n{}", join(&found));
}

#[test]
fn abandoned_names_stay_away() {
    let mut found = BTreeSet::new();
    for (path, code) in &Sources::of_the_project().files {
        for name in abandoned(code) {
            found.insert(format!("{}: {name}", path.display()));
        }
    }
    assert!(found.is_empty(), "names that were given up:\n{}", join(&found));
}

#[test]
fn an_abandoned_name_is_found() {
    let table = [
        ("pub struct Scene;", true),
        ("pub(crate) enum Unit {}", true),
        ("struct Known<'a> {}", true),
        ("    fn tell() {}", true),
        ("pub async fn believe() {}", true),
        ("pub const fn doubt() {}", true),
        ("const Pace: u8 = 0;", true),
        ("type Told = u8;", true),
        ("struct KnownCause;", false),
        ("let known = Told;", false),
        ("enum Proof { Told }", false),
    ];
    for (code, expected) in table {
        assert_eq!(!abandoned(code).is_empty(), expected, "{code}");
    }
}

#[test]
fn long_files_say_why() {
    let mut silent = BTreeSet::new();
    for path in files_under(&source_root()) {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        let header: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if lines > 400 && !header.contains("One file, because") {
            silent.insert(format!("{}: {lines} lines", path.display()));
        }
    }
    let rule =
        "over 400 lines; split them or begin a sentence of their header with \"One file, because\"";
    assert!(silent.is_empty(), "{rule}:\n{}", join(&silent));
}

#[test]
fn one_file_names_the_yaml_library() {
    let sources = Sources::of_the_project();
    let naming = sources.files.iter().filter(|(_, code)| code.contains("serde_yaml"));
    assert_eq!(naming.map(|(path, _)| path.as_path()).collect::<Vec<_>>(), [Path::new("yaml.rs")]);
}

#[test]
fn only_main_exits_the_process() {
    let sources = Sources::of_the_project();
    for (path, code) in sources.files.iter().filter(|(path, _)| !path.ends_with("main.rs")) {
        assert!(!code.contains("process::exit"), "{} exits the process", path.display());
    }
}

/// An item, private or public, with its name.
static ITEM: LazyLock<Regex> = LazyLock::new(|| {
    let kinds = "struct|enum|trait|type|mod|fn|const|static";
    Regex::new(&format!(r"\b(?:(?:async|const|unsafe) )*(?:{kinds}) (\w+)")).unwrap()
});
/// The abandoned names that items of this code have.
fn abandoned(code: &str) -> Vec<&str> {
    let names = ITEM.captures_iter(code).map(|captures| captures.get(1).unwrap().as_str());
    names.filter(|name| ABANDONED.contains(name)).collect()
}

/// Every line of SECURITY.md that says what a user can or cannot do names a test that there is.
#[test]
fn what_is_said_of_security_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let name = Regex::new(r"`((?:src|tests)/[\w/]+\.rs)::(\w+)`").unwrap();
    let mut wrong = Vec::new();
    let (_, claims) = text.split_once("### Cannot").unwrap();
    let (claims, limits) = claims.split_once("### Known limits").unwrap();
    let lines: Vec<&str> = claims.split("\n- ").skip(1).collect();
    assert!(lines.len() >= 15, "the list has moved: {} lines", lines.len());
    wrong.extend(lines.iter().filter(|line| !name.is_match(line)).map(|line| (*line).to_owned()));
    for named in name.captures_iter(&format!("{claims}{limits}")) {
        let code = fs::read_to_string(root.join(&named[1])).unwrap_or_default();
        let is_test = code.split("\nfn ").chain(code.split(" fn ")).any(|function| {
            function.strip_prefix(&named[2]).is_some_and(|rest| rest.starts_with('('))
        });
        if !is_test {
            wrong.push(format!("there is no {}", &named[0]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The first folder of a file, or its own stem; for the files of an executor, that.
fn room_of(path: &Path) -> String {
    let stem = path.with_extension("");
    if let Some(executor) = EXECUTORS.iter().find(|executor| stem.starts_with(executor)) {
        return (*executor).to_owned();
    }
    module_of(path).first().map_or_else(|| "lib".to_owned(), Clone::clone)
}

fn join(lines: &BTreeSet<String>) -> String {
    lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}
