//! The pages that are one list: metrics, kinds, and the versions of HAProxy.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use haproxy_host_exporter::metrics::catalogue;
use haproxy_host_exporter::policy::kind::{Kind, Severity};

use super::{code, codes, head, hold, table};

#[test]
fn metrics() {
    let (ours, process): (Vec<_>, Vec<_>) =
        catalogue::ALL.iter().partition(|row| row.name.starts_with("haproxy_host_"));
    let rows = |rows: Vec<&&catalogue::Row>| {
        table(
            &["metric", "type", "labels", "meaning"],
            rows.into_iter().map(|row| {
                let kind = format!("{:?}", row.kind).to_lowercase();
                let labels = codes(row.labels.iter().copied());
                vec![code(row.name), kind, labels, row.help.to_owned()]
            }),
        )
    };
    let mut page = head(
        "Metrics",
        "Everything on the page `/metrics`. The exporter looks at the host on a timer (`--sample.interval`), and a \
         scrape gets the page of the last look: it never waits for one, and never makes one slower. \
         `haproxy_host_sample_timestamp_seconds` is the time of that look, so that the age of every value on the \
         page is known. An unknown value has no series; it is never shown as 0.",
    );
    page += &rows(ours);
    page += "\n## About the exporter's own process\n\n";
    page += &rows(process);
    hold("metrics.md", &page);
}

#[test]
fn kinds() {
    let mut page = head(
        "Kinds of anomalies",
        "The values of the label `kind`, of the key `kind` in JSON, and of `ignore` in the configuration. An \
         anomaly is *pending* until it has held for `stale_grace` and in two consecutive samples; then it is \
         *firing*.",
    );
    for severity in [Severity::Critical, Severity::Warning, Severity::Info] {
        let about = match severity {
            Severity::Critical => {
                "clients are hurt now, or the next start or reload will hurt them"
            }
            Severity::Warning => "something is wrong and will not go away by itself",
            Severity::Info => "good to know; it never makes a command fail",
        };
        write!(page, "## {}: {about}\n\n", severity.as_str()).unwrap();
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.severity() == severity);
        page += &table(
            &["kind", "fires when", "what it does", "alert and runbook"],
            kinds.map(|kind| {
                let runbook = format!("alerts/runbooks/{}.md", kind.alert());
                let (title, steps) = title_of(&runbook);
                assert_eq!(title, kind.alert());
                let runbook = format!("[{}](../../{runbook})", kind.alert());
                vec![code(kind.as_str()), steps, kind.effect().to_owned(), runbook]
            }),
        );
        page.push('\n');
    }
    hold("kinds.md", &(page.trim_end().to_owned() + "\n"));
    hold_kinds_of_the_readme();
}

/// The table of the README lies between two marks.
#[track_caller]
fn hold_kinds_of_the_readme() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (begin, end) =
        ("<!-- kinds: made from the code by tests/reference -->\n", "<!-- kinds end -->");
    let (before, rest) = readme.split_once(begin).expect("the mark before the table of kinds");
    let (found, after) = rest.split_once(end).expect("the mark after the table of kinds");
    let rows = Kind::ALL.map(|kind| {
        let runbook = format!("alerts/runbooks/{}.md", kind.alert());
        let (_, about) = title_of(&runbook);
        vec![
            format!("[`{}`]({runbook})", kind.as_str()),
            kind.severity().as_str().to_owned(),
            about,
        ]
    });
    let wanted = table(&["kind", "severity", "fires when"], rows);
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    assert_eq!(found, wanted, "README.md; UPDATE_REFERENCE=1 writes it anew");
}

/// The title of a runbook, and the documentation of the kind that it is about.
fn title_of(runbook: &str) -> (String, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(runbook)).unwrap();
    let title = text.lines().next().unwrap().trim_start_matches("# ").to_owned();
    let source = fs::read_to_string(root.join("src/policy/kind.rs")).unwrap();
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let alert = format!("\"{title}\"");
    let at = lines.iter().position(|line| *line == alert).unwrap();
    // The row: documentation, then the variant with its name, then the alert.
    let about: Vec<&str> =
        lines[..at - 1].iter().rev().map_while(|line| line.strip_prefix("/// ")).collect();
    (title, about.into_iter().rev().collect::<Vec<_>>().join(" "))
}

#[test]
fn versions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = fs::read_to_string(root.join("tests/versions")).unwrap();
    let mut programs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in rows.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(program), Some(version)) = (words.next(), words.next()) else { continue };
        let versions = programs.entry(program).or_default();
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let mut page = head(
        "Supported versions",
        "The tests run on these versions. A number is a promise: the tests fail when no source has that version any \
         more. *stable* and *newest* are the versions of Debian 13 and of Debian's unreleased suites.",
    );
    let about = [
        ("haproxy", "HAProxy", "every scenario of the tests runs on each"),
        ("prometheus", "Prometheus", "the rules are checked, tested and run in each"),
        ("alertmanager", "Alertmanager", "the routing and the texts are checked in each"),
    ];
    page += &table(
        &["program", "versions", "how"],
        about.into_iter().map(|(name, shown, how)| {
            vec![shown.to_owned(), programs[name].join(", "), how.to_owned()]
        }),
    );
    hold("versions.md", &page);
}
