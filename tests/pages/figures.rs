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
    assert!(results.contains("\n## At 10 processes, 1,000 listeners, 180,000 sockets\n"));
    assert!(readme.contains(&wanted), "README.md does not say {wanted:?}");
}
