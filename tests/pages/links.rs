//! The links of the pages.

use std::collections::BTreeSet;

use regex::Regex;

use super::{pages, read, root};

/// The lines outside blocks.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    page.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(page).filter(|(_, line)| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept: String = title
            .chars()
            .filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter))
            .collect();
        let anchor = kept.replace(' ', "-");
        let mut number = 0;
        let mut unique = anchor.clone();
        while !found.insert(unique.clone()) {
            number += 1;
            unique = format!("{anchor}-{number}");
        }
    }
    found
}

#[test]
fn every_link_inside_the_repository_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let content = read(&page);
        for (number, line) in prose(&content) {
            for target in link.captures_iter(line).map(|found| found[1].to_owned()) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                seen += 1;
                let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
                // A link from the root is one to the exporter itself, not to a file.
                if path.starts_with('/') {
                    continue;
                }
                let file =
                    if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
                let exists = root().join(&file).exists();
                if !exists || !anchor.is_empty() && !anchors(&read(&file)).contains(anchor) {
                    broken.push(format!("{}:{}: {target}", page.display(), number + 1));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} links");
    assert!(broken.is_empty(), "{broken:#?}");
}
