//! What `docs/reference` lists is listed nowhere else by hand: such a list is wrong as soon as the code changes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use haproxy_host_exporter::metrics::catalogue;
use haproxy_host_exporter::policy::kind::Kind;

/// More rows than this are a list, and not an example.
const MOST: usize = 3;

/// The pages that people write.
fn pages() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let pages = listed.lines().filter(|page| !page.starts_with("docs/reference/"));
    pages.map(str::to_owned).collect()
}

/// The page without the parts that programs write: those made from the code, and figures of benchmarks.
fn by_hand(text: &str) -> String {
    let mut kept = text.to_owned();
    for (begin, end) in [
        ("<!-- kinds: made from the code", "<!-- kinds end -->"),
        ("<!-- figures: ", "<!-- end -->"),
    ] {
        while let Some((before, rest)) = kept.split_once(begin) {
            let (_, after) = rest.split_once(end).unwrap();
            kept = format!("{before}{after}");
        }
    }
    kept
}

/// The first word of a row of a table or of an item of a list.
fn first_word(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let cell = line
        .strip_prefix("| ")
        .and_then(|row| row.split('|').next())
        .or_else(|| line.strip_prefix("- "))?;
    let word = cell.trim().trim_start_matches(['[', '`']);
    word.split(|letter: char| "` ],:=".contains(letter)).next()
}

/// The longest run of rows or items, in tables and lists, that begin with one of the names.
fn longest(page: &str, named: impl Fn(&str) -> bool) -> usize {
    let (mut longest, mut run) = (0, 0);
    for line in page.lines() {
        match first_word(line) {
            Some(word) if named(word) => run += 1,
            _ => run = 0,
        }
        longest = longest.max(run);
    }
    longest
}

/// Every key of the configuration, at any depth.
fn keys(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    if let Some(properties) = value.get("properties").and_then(|value| value.as_object()) {
        found.extend(properties.keys().cloned());
    }
    if let Some(map) = value.as_object() {
        map.values().for_each(|value| keys(value, found));
    }
}

#[test]
fn no_page_repeats_a_list_of_the_reference() {
    let schema =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/configuration.schema.json");
    let schema = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let mut known = BTreeSet::new();
    keys(&schema, &mut known);
    assert!(known.contains("allowed_ports") && known.contains("stale_processes"), "{known:?}");
    let metrics: BTreeSet<&str> = catalogue::ALL.iter().map(|row| row.name).collect();
    let mut wrong = Vec::new();
    let mut count = 0;
    for page in pages() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&page);
        let text = by_hand(&fs::read_to_string(path).unwrap());
        count += 1;
        let lists = [
            ("metrics", longest(&text, |word| metrics.contains(word))),
            ("kinds", longest(&text, |word| Kind::from_name(word).is_some())),
            ("alerts", longest(&text, |word| word.starts_with("HAProxy") && word.len() > 7)),
            ("flags", longest(&text, |word| word.starts_with("--"))),
            ("keys", longest(&text, |word| known.contains(word))),
            ("exit codes", longest(&text, |word| ["0", "1", "2", "3"].contains(&word))),
        ];
        for (list, rows) in lists {
            // The list of kinds in the changelog is history.
            if rows > MOST && page != "CHANGELOG.md" {
                wrong.push(format!("{page} has {rows} {list} by hand"));
            }
        }
    }
    assert!(count > 20);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_list_is_recognised() {
    let kinds = |word: &str| Kind::from_name(word).is_some();
    let table = "| kind | x |\n|---|---|\n| `port_missing` | a |\n| [`port_split`](y) | b |\n";
    assert_eq!(longest(table, kinds), 2);
    assert_eq!(longest("- `port_missing`: a\n- port_split\n\n- `port_split`\n", kinds), 2);
    assert_eq!(
        longest("| --strict VALUE | a |\n| `--port N` | b |\n", |word| word.starts_with("--")),
        2
    );
    assert_eq!(longest("text about port_missing\n| x | `port_missing` |\n", kinds), 0);
}
