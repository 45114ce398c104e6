//! pint, whose findings are failures.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{files, root, run};

/// Writes past the test harness, which hides the output of a test that passes.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "shipped: SKIPPED: {what}");
}

/// pint, which tests/install builds where there is a go.
///
/// # Panics
/// When it could have been built and was not.
fn pint() -> Option<PathBuf> {
    let binary = root().join("tests/.cache/pint/pint");
    if !binary.exists() {
        let no_go = root().join("tests/.cache/no-go").exists();
        assert!(no_go, "{} is missing: run tests/install", binary.display());
        return None;
    }
    Some(binary)
}

#[test]
fn pint_finds_nothing() {
    let Some(pint) = pint() else {
        skipped("pint, because there is no go 1.26 on this machine");
        return;
    };
    let lint = |file: &Path| {
        let mut command = Command::new(&pint);
        command
            .current_dir(root())
            .args([
                "--no-color",
                "--offline",
                "--config",
                "alerts/pint.hcl",
                "lint",
                "--min-severity=info",
                "--fail-on=info",
            ])
            .arg(file);
        command
    };
    for file in files("alerts", ".rules.yaml") {
        run(&mut lint(&file));
    }
    // And it would: a rule without a severity is a finding.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bad = directory.path().join("bad.rules.yaml");
    fs::write(&bad, "groups: [{name: bad, rules: [{alert: HAProxyBad, expr: haproxy_host_up}]}]\n")
        .expect("bad.rules.yaml");
    assert!(!lint(&bad).output().expect("pint").status.success(), "pint accepts anything");
}
