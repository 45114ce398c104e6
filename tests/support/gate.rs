//! Runs `check` in a bed, and reads its answer.

use std::process::Output;

use serde_json::Value;

use super::bed::text;
use super::{Bed, Exporter};

/// Runs `check`; gives its output, and what it said on both streams.
pub fn check(bed: &Bed, arguments: &[&str]) -> (Output, String) {
    let output = Exporter::command(bed, &[&["check"], arguments].concat());
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!said.contains("panicked"), "{said}");
    (output, said)
}

/// Runs `check`, and expects this exit code and these words. Gives what it said.
#[track_caller]
pub fn assert_exit(bed: &Bed, arguments: &[&str], code: i32, words: &[&str]) -> String {
    let (output, said) = check(bed, arguments);
    assert_eq!(output.status.code(), Some(code), "check {arguments:?}:\n{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
    said
}

/// What `check --output json` says.
pub fn check_json(bed: &Bed, arguments: &[&str]) -> Value {
    let (output, said) = check(bed, &[arguments, &["--output", "json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}
