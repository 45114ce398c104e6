//! The pages for people: every link inside the repository leads somewhere, and every block of commands is run by
//! a test, or says where a reader sees it why it is not.
//!
//! The line before a block of commands is one of these:
//!
//! - `<!-- run on a healthy host -->`, `… on a broken host` or `… on a host before an upgrade`: here, with exit code 0 for each command, or with those
//!   after a colon, such as `<!-- run on a broken host: 1, 0 -->`;
//! - `<!-- run by tests/FILE -->`: by that test, which opens the page. At the head of a page it is about all its blocks;
//! - `*Not run by the tests: REASON.*`, for the reader.
//!
//! The runbooks have no such marks, because `explain` prints them as they are: what says nothing else is run beside a
//! HAProxy that was reloaded (`runbooks.rs`). A block without commands is of a language such as `text` or `yaml`.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod blocks;
mod figures;
mod gate;
mod host;
mod links;
mod paths;
mod release;
mod runbooks;
mod samples;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blocks::{NOT_RUN, blocks, said, test_of};
use host::Host;
use support::text;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages, as the repository has them.
fn pages() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(root())
        .output()
        .unwrap();
    let pages: Vec<PathBuf> = text(&listed.stdout).lines().map(PathBuf::from).collect();
    assert!(pages.len() > 20, "{pages:?} {}", text(&listed.stderr));
    pages
}

fn read(page: &Path) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let mut wrong = Vec::new();
    let all = blocks();
    assert!(all.len() > 10, "{all:#?}");
    for block in all.iter().filter(|block| !block.is_of_a_runbook()) {
        let page = read(&block.page);
        let by = said(&block.mark).and_then(|said| said.strip_prefix("by ")).or(test_of(&page));
        let runs_here = said(&block.mark).is_some_and(|said| said.starts_with("on a "));
        if let Some(test) = by {
            let code = fs::read_to_string(root().join(test)).unwrap_or_default();
            // A string of the code, not a word of a comment.
            let opened = format!("\"{}\"", block.page.display());
            let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            if !lines.any(|line| line.contains(&opened)) {
                wrong.push(format!("{}: {test} does not open {opened}", block.place()));
            }
        } else if !runs_here && !block.mark.starts_with(NOT_RUN) {
            wrong.push(format!("{}: no mark, but {:?}", block.place(), block.mark));
        }
        if block.commands().is_empty() {
            wrong.push(format!("{}: no command", block.place()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_commands_of_the_pages_do_what_their_marks_say() {
    let mut count = 0;
    for block in blocks() {
        let Some(said) = said(&block.mark).and_then(|said| said.strip_prefix("on a ")) else {
            continue;
        };
        let (host, codes) = said.split_once(": ").unwrap_or((said, ""));
        let host = match host {
            "healthy host" => Host::healthy(),
            "broken host" => Host::broken(),
            "host before an upgrade" => Host::before_an_upgrade(),
            other => panic!("{}: no host {other:?}", block.place()),
        };
        let codes: Vec<i32> = codes
            .split(", ")
            .filter(|code| !code.is_empty())
            .map(|code| code.parse().unwrap())
            .collect();
        let commands = block.commands();
        assert!(codes.is_empty() || codes.len() == commands.len(), "{}: {codes:?}", block.place());
        for (place, command) in commands.iter().enumerate() {
            let wanted = codes.get(place).copied().unwrap_or(0);
            let (code, said) = host.shell(command);
            assert_eq!(code, wanted, "{}: {command}\n{said}", block.place());
            count += 1;
        }
    }
    assert!(count > 5, "only {count} commands were run");
}
