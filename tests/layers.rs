//! Data flows one way: the pure rooms may not name what does I/O, and nobody names a room downstream.

#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::{Path, PathBuf};

/// A room, and what it may not name.
const WALLS: &[(&str, &[&str])] = &[
    (
        "model",
        &[
            "crate::haproxy",
            "crate::judge",
            "crate::sample",
            "crate::metrics",
            "crate::report",
            "crate::config",
        ],
    ),
    (
        "haproxy",
        &["crate::judge", "crate::sample", "crate::metrics", "crate::report", "crate::config"],
    ),
    ("judge", &["crate::sample", "crate::metrics", "crate::report", "crate::config", "crate::web"]),
    (
        "check",
        &[
            "crate::sample",
            "crate::metrics",
            "crate::report",
            "crate::config",
            "crate::web",
            "crate::cmd",
        ],
    ),
    ("metrics", &["crate::sample", "crate::report", "crate::web", "crate::cmd", "crate::config"]),
    ("report", &["crate::sample", "crate::metrics", "crate::web", "crate::cmd", "crate::config"]),
    (
        "sample",
        &[
            "crate::judge",
            "crate::check",
            "crate::metrics",
            "crate::report",
            "crate::web",
            "crate::cmd",
        ],
    ),
    ("web", &["crate::sample", "crate::cmd", "crate::watch"]),
];

/// Rooms without I/O, clock and log.
const PURE: &[&str] = &[
    "model",
    "policy",
    "haproxy",
    "judge",
    "check",
    "metrics",
    "report",
    "sample/network/wire.rs",
];
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
    "tracing",
];

#[test]
fn no_room_names_one_downstream() {
    for (room, forbidden) in WALLS {
        assert_free(room, forbidden);
    }
}

#[test]
fn pure_rooms_do_no_io() {
    for room in PURE {
        assert_free(room, IMPURE);
    }
}

#[test]
fn yaml_is_known_to_one_file() {
    let all = sources(&source_root());
    let naming: Vec<_> = all.iter().filter(|path| code_of(path).contains("serde_yaml")).collect();
    assert_eq!(naming, [&source_root().join("yaml.rs")]);
}

#[test]
fn only_the_program_exits() {
    for path in sources(&source_root()) {
        assert!(!code_of(&path).contains("process::exit"), "{} exits", path.display());
    }
}

fn assert_free(room: &str, forbidden: &[&str]) {
    let place = source_root().join(room);
    let files = sources(&place);
    assert!(!files.is_empty(), "the room {room} has no files: mend the map in this test");
    for path in files {
        for (number, line) in code_of(&path).lines().enumerate() {
            for name in forbidden {
                let at = format!("{}:{}", path.display(), number + 1);
                assert!(!line.contains(name), "{at} names {name}: {line}");
            }
        }
    }
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file's code: neither comments nor the unit tests at its end.
fn code_of(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}
