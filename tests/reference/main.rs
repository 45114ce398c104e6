//! The pages of `docs/reference`, made from the code. A page that differs from the code fails its test; with
//! `UPDATE_REFERENCE=1` the tests write the pages instead.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod alerts;
mod answers;
mod configuration;
mod elsewhere;
mod flags;
mod form;
mod lists;

use std::fs;
use std::path::Path;

/// The page is what the code makes of it.
#[track_caller]
fn hold(name: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, wanted).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    for (number, (found, wanted)) in found.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(found, wanted, "{name}:{}; UPDATE_REFERENCE=1 writes it anew", number + 1);
    }
    assert_eq!(found, wanted, "{name}; UPDATE_REFERENCE=1 writes it anew");
}

/// The head of a page: its title, its purpose, and where it comes from.
fn head(title: &str, purpose: &str) -> String {
    format!(
        "# {title}\n\n<!-- Made from the code by tests/reference; UPDATE_REFERENCE=1 cargo test --test reference -->\n\n{purpose}\n\n"
    )
}

/// A table in Markdown. A bar inside a cell would end it.
fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | ").replace("  ", " "))
    };
    let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
    let mut text = line(&columns) + &format!("|{}\n", "---|".repeat(columns.len()));
    for row in rows {
        assert_eq!(row.len(), columns.len());
        text += &line(&row);
    }
    text
}

fn code(word: &str) -> String {
    if word.is_empty() { String::new() } else { format!("`{word}`") }
}

fn codes<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(code).collect::<Vec<_>>().join(", ")
}
