//! The block of a runbook that holds its sample.

use std::fs;
use std::path::PathBuf;

use haproxy_host_exporter::policy::kind::Kind;

/// The heading above the block.
const HEADING: &str = "\n## What inspect shows\n";
/// The most lines of a block. A person reads it in one glance, before anything else.
const MOST_LINES: usize = 12;

/// Compares the block with the sample, or writes it when `UPDATE_SAMPLES` is set.
pub fn hold(kind: &str, sample: &str) {
    let lines = sample.lines().count();
    assert!(lines <= MOST_LINES, "{kind}: {lines} lines:\n{sample}");
    let alert = Kind::from_name(kind).unwrap().alert();
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("alerts/runbooks/{alert}.md"));
    let text = fs::read_to_string(&path).unwrap();
    let (before, block, after) = cut(&text)
        .unwrap_or_else(|| panic!("{alert}.md has no block below \"{}\"", HEADING.trim()));
    if std::env::var_os("UPDATE_SAMPLES").is_some() {
        fs::write(&path, format!("{before}{sample}{after}")).unwrap();
    } else {
        assert_eq!(block, sample, "{alert}.md shows (left) what inspect does not say (right)");
    }
}

/// The runbook before the block's first line, the block, and the rest.
fn cut(text: &str) -> Option<(&str, &str, &str)> {
    let heading = text.find(HEADING)? + HEADING.len();
    let start = heading + text[heading..].find("```\n")? + "```\n".len();
    let end = start + text[start..].find("```\n")?;
    // The block belongs to this heading and not to a later one.
    let between = &text[heading..start];
    (!between.contains("\n## ")).then_some((&text[..start], &text[start..end], &text[end..]))
}
