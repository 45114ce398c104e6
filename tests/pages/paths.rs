//! The table of HTTP paths in `docs/web.md` has every path that the exporter answers, and no other.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

use super::host::Host;
use super::read;

/// The paths of the table, by row.
fn table() -> Vec<Vec<String>> {
    let code = Regex::new("`(/[^`]*)`").unwrap();
    let page = read(Path::new("docs/web.md"));
    let rows = page.lines().filter(|line| line.starts_with("| `/"));
    rows.map(|row| {
        let first = row.split('|').nth(1).unwrap();
        code.captures_iter(first).map(|found| found[1].to_owned()).collect()
    })
    .collect()
}

#[test]
fn every_path_of_the_table_is_answered() {
    let host = Host::healthy();
    let _exporter = host.serve();
    for path in table().concat() {
        // Without its flag the exporter refuses to read its configuration again.
        let (method, wanted) = if path == "/-/reload" { ("POST", "403") } else { ("GET", "200") };
        let path = path.replace("NAME", "port_blocked");
        let ask =
            format!("curl -s -o /dev/null -w '%{{http_code}}' -X {method} localhost:10101{path}");
        assert_eq!(host.shell(&ask), (0, wanted.to_owned()), "{path}");
    }
}

#[test]
fn every_path_of_the_code_is_in_the_table() {
    let constant = Regex::new(r#"const [A-Z]+: &str = "(/[^"]*)";"#).unwrap();
    let routes = read(Path::new("src/web/routes.rs"));
    let mut routes: BTreeSet<String> =
        constant.captures_iter(&routes).map(|found| found[1].to_owned()).collect();
    assert!(routes.len() > 4, "{routes:?}");
    // Neither is a constant: the page for a person, and the path that --web.telemetry-path changes.
    routes.extend(["/", "/metrics"].map(str::to_owned));
    let table: BTreeSet<String> = table().concat().into_iter().collect();
    let fixed = table.iter().filter(|path| !path.contains("NAME")).cloned();
    assert_eq!(fixed.collect::<BTreeSet<_>>(), routes);
}
