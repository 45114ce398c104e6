//! The figures that the pages quote are those that were measured last.

use std::path::Path;

use super::read;

/// The CPU milliseconds of a program in the first table of the results.
fn milliseconds(results: &str, row: &str) -> String {
    let line = results.lines().find(|line| line.starts_with(&format!("| {row}"))).unwrap();
    line.split('|').nth(3).unwrap().trim().to_owned()
}

#[test]
fn the_readme_has_the_figures_of_the_last_measurement() {
    let results = read(Path::new("benches/RESULTS.md"));
    let readme = read(Path::new("README.md")).split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted = format!(
        "Beside 10 HAProxys with 1,000 listeners and 180,000 sockets a sample takes {} ms of CPU time, where `ss -tlnp` \
         takes {} ms.",
        milliseconds(&results, "**haproxy-host-exporter, a sample**"),
        milliseconds(&results, "`ss -tlnp`"),
    );
    assert!(results.contains("\n## At 10 processes, 1,000 listeners, 180,000 sockets"));
    assert!(readme.contains(&wanted), "README.md does not say {wanted:?}");
}

/// The parts of a page that are marked as figures, by their names.
fn figures(page: &str) -> Vec<(&str, &str)> {
    let parts = page.split("<!-- figures: ").skip(1);
    parts
        .map(|part| {
            let (name, rest) = part.split_once(" -->\n").expect("a name");
            (name, rest.split_once("<!-- end -->").expect("an end").0)
        })
        .collect()
}

#[test]
fn the_page_about_fleets_has_the_figures_of_the_last_measurement() {
    let page = read(Path::new("docs/fleet.md"));
    for (results, names) in [
        ("benches/FLEET.md", &["pages", "conditions", "costs"][..]),
        ("benches/BEYOND.md", &["beyond"]),
    ] {
        let written = read(Path::new(results));
        for name in names {
            let of = |page| figures(page).into_iter().find(|(found, _)| found == name);
            let measured = of(&written).unwrap_or_else(|| panic!("{results} has no {name}"));
            assert_eq!(of(&page), Some(measured), "{name}: docs/fleet.md is not as {results}");
        }
    }
}
