//! The commands of `docs/release.md` that set a version reach every file that names it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::blocks::blocks;
use super::support::{text, tool};
use super::{read, root};

const PAGE: &str = "docs/release.md";
const NEW: &str = "97.98.99";
/// The files that keep an old version: histories, results of measurements, and versions of other programs.
const KEPT: [&str; 7] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "benches/BEYOND.md",
    "benches/FLEET.md",
    "benches/RESULTS.md",
    "benches/results.json",
    "deploy/debian/changelog",
];

/// The output of a command of `bash` in the copy.
#[track_caller]
fn run(copy: &Path, script: &str) -> String {
    let mut bash = Command::new(tool("bash"));
    let output = bash.args(["-euo", "pipefail", "-c", script]).current_dir(copy).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_release_page_sets_the_version_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let to = copy.display();
    run(root(), &format!("git ls-files -z | xargs -0 cp --parents --no-dereference -t {to}"));
    run(&copy, "git init -q && git add -A && git config user.email maintainers@example.com");
    let page = blocks().into_iter().filter(|block| block.page == Path::new(PAGE));
    let [prepare] = &page.filter(|block| block.mark.contains("release.rs")).collect::<Vec<_>>()[..]
    else {
        panic!("one block of {PAGE} is run here");
    };
    // What needs cargo and helm has tests of its own.
    let is_left_out = |command: &String| {
        ["cargo ", "UPDATE_REFERENCE=1 ", "deploy/kubernetes/generate"]
            .iter()
            .any(|start| command.starts_with(start))
    };
    let commands: Vec<String> =
        prepare.commands().into_iter().filter(|command| !is_left_out(command)).collect();
    assert_eq!(commands.len(), 6, "{commands:#?}");
    run(&copy, &format!("version={NEW}\n{}", commands.join("\n")));

    let old = env!("CARGO_PKG_VERSION");
    let left = run(&copy, &format!("git grep -lwF {old} || true"));
    let left: Vec<&str> = left.lines().filter(|file| !KEPT.contains(file)).collect();
    assert!(left.is_empty(), "{left:?} still name {old}");
    let changelog = fs::read_to_string(copy.join("deploy/debian/changelog")).unwrap();
    assert!(changelog.starts_with(&format!("haproxy-host-exporter ({NEW}) unstable; ")));
    assert!(changelog.ends_with(&read(Path::new("deploy/debian/changelog"))), "{changelog}");
    let changelog = fs::read_to_string(copy.join("CHANGELOG.md")).unwrap();
    let heading = format!("## [Unreleased]\n\n## [{NEW}] - ");
    assert!(changelog.contains(&heading) && changelog.matches("## [").count() > 2, "{changelog}");
}
