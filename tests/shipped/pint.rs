//! pint, whose findings are failures.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{files, root, run};

/// The version of pint whose findings are failures.
const PINT: &str = "v0.87.0";

/// Says it past the test harness, which keeps the output of a test that passes to itself.
fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "shipped: SKIPPED: {what}");
}

/// pint, built once from the module proxy. `go install` would also list all versions of the module, which
/// not every proxy answers; a module that requires the one version needs only that one.
fn pint() -> Option<PathBuf> {
    let go = root().join("tests/.cache/go");
    let binary = go.join(format!("bin/pint-{PINT}"));
    if !binary.exists() {
        if Command::new("go").arg("version").output().is_err() {
            return None;
        }
        let module = go.join("pint");
        fs::create_dir_all(&module).expect("tests/.cache/go");
        fs::write(
            module.join("go.mod"),
            format!("module tools\n\ngo 1.26\n\nrequire github.com/cloudflare/pint {PINT}\n"),
        )
        .expect("go.mod");
        let build = Command::new("go")
            .current_dir(&module)
            .env("GOPATH", &go)
            .env("GOFLAGS", "-mod=mod -modcacherw -buildvcs=false -p=1")
            .args(["build", "-o"])
            .arg(&binary)
            .arg("github.com/cloudflare/pint/cmd/pint")
            .output()
            .expect("go");
        assert!(
            build.status.success(),
            "go build pint: {}",
            String::from_utf8_lossy(&build.stderr)
        );
    }
    Some(binary)
}

#[test]
fn pint_finds_nothing() {
    let Some(pint) = pint() else {
        skipped("pint, because there is no Go on this machine");
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
    let bad = root().join("target/bad.rules.yaml");
    fs::create_dir_all(root().join("target")).expect("target");
    fs::write(&bad, "groups: [{name: bad, rules: [{alert: HAProxyBad, expr: haproxy_host_up}]}]\n")
        .expect("bad.rules.yaml");
    assert!(!lint(&bad).output().expect("pint").status.success(), "pint accepts anything");
}
