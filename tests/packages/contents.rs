//! What is in the packages, and what lintian and rpmlint say of them.

use std::collections::BTreeSet;
use std::process::Command;

use super::build::packages;
use super::support::{text, tool};

/// Where the two packages differ on purpose.
const ONLY_DEBIANS: [&str; 4] = [
    "/usr/share/doc/haproxy-host-exporter/changelog.gz",
    "/usr/share/doc/haproxy-host-exporter/copyright",
    "/usr/share/lintian/overrides/haproxy-host-exporter",
    "/usr/share/zsh/vendor-completions/_haproxy-host-exporter",
];
const ONLY_RED_HATS: [&str; 2] = [
    "/usr/share/licenses/haproxy-host-exporter/LICENSE",
    "/usr/share/zsh/site-functions/_haproxy-host-exporter",
];

pub fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {all}");
    text(&output.stdout)
}

fn files_of_the_deb() -> BTreeSet<String> {
    let listing =
        said(Command::new(tool("dpkg-deb")).arg("--contents").arg(packages().file(".deb")));
    let paths = listing.lines().filter(|line| !line.starts_with('d'));
    let paths = paths.filter_map(|line| line.split_whitespace().nth(5));
    paths.map(|path| path.trim_start_matches('.').to_owned()).collect()
}

fn files_of_the_rpm() -> BTreeSet<String> {
    let mut query = Command::new(tool("rpm"));
    said(query.args(["-qpl"]).arg(packages().file(".rpm"))).lines().map(str::to_owned).collect()
}

#[test]
fn both_packages_have_the_same_files() {
    let (deb, rpm) = (files_of_the_deb(), files_of_the_rpm());
    let only = |these: &BTreeSet<String>, those: &BTreeSet<String>| {
        these.difference(those).cloned().collect::<Vec<_>>()
    };
    assert_eq!(only(&deb, &rpm), ONLY_DEBIANS);
    assert_eq!(only(&rpm, &deb), ONLY_RED_HATS);
}

/// Each command, alert and board is there.
#[test]
fn nothing_is_left_out() {
    let deb = files_of_the_deb();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = [
        ("deploy/systemd", ".service", "/usr/lib/systemd/system/"),
        ("deploy/systemd", ".socket", "/usr/lib/systemd/system/"),
        ("deploy/systemd", ".timer", "/usr/lib/systemd/system/"),
        ("alerts", ".rules.yaml", "/usr/share/haproxy-host-exporter/alerts/"),
        ("alerts/runbooks", ".md", "/usr/share/haproxy-host-exporter/runbooks/"),
        ("dashboards", ".json", "/usr/share/haproxy-host-exporter/dashboards/"),
        ("docs", ".md", "/usr/share/doc/haproxy-host-exporter/docs/"),
        ("docs/reference", "", "/usr/share/doc/haproxy-host-exporter/docs/reference/"),
    ];
    for (directory, ending, place) in shipped {
        for entry in std::fs::read_dir(root.join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let wanted = format!("{place}{name}");
            assert!(!name.ends_with(ending) || deb.contains(&wanted), "no {wanted}");
        }
    }
    for page in ["", "-serve", "-check", "-backup", "-backup-create", "-reap", "-man"] {
        let wanted = format!("/usr/share/man/man8/haproxy-host-exporter{page}.8.gz");
        assert!(deb.contains(&wanted), "no {wanted}");
    }
}

/// Whatever they say has a reason in `deploy/debian/lintian-overrides` or `deploy/rpm/rpmlint.toml`.
#[test]
fn lintian_and_rpmlint_find_nothing() {
    let mut lintian = Command::new(tool("lintian"));
    lintian.args(["--allow-root", "--fail-on=error,warning", "--tag-display-limit=0"]);
    let found = said(lintian.arg(packages().file(".deb")));
    assert_eq!(found.trim(), "");
    let mut rpmlint = Command::new(tool("rpmlint"));
    rpmlint.args(["--strict", "--config", "deploy/rpm/rpmlint.toml"]);
    let found = said(rpmlint.current_dir(env!("CARGO_MANIFEST_DIR")).arg(packages().file(".rpm")));
    assert!(found.contains("0 errors, 0 warnings"), "{found}");
}
