//! The table of what HAProxy's versions removed, proved on the real binaries: the first version as new as a
//! row says refuses the line, and the one before accepts it.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;

use haproxy_host_exporter::haproxy::versions::branch::Branch;
use haproxy_host_exporter::haproxy::versions::keywords::{Context, KEYWORDS, Keyword};
use support::*;

fn branch(version: Version) -> Branch {
    let (major, minor) = version.name().split_once('.').unwrap();
    Branch { major: major.parse().unwrap(), minor: minor.parse().unwrap() }
}

/// Arguments with which a version that knows the keyword accepts it.
fn arguments(words: &str) -> &'static str {
    match words {
        "bind-process" | "stats bind-process" | "tune.quic.frontend.conn-tx-buffers.limit" => "1",
        "process" => "1/1",
        "trace" => "h1 sink stderr",
        "program" => "p\n    command sleep 1",
        _ => "",
    }
}

/// A configuration that uses the keyword.
fn configuration(keyword: &Keyword) -> String {
    let line = format!("{} {}", keyword.words, arguments(keyword.words));
    // Some are experimental or deprecated, and so accepted only on demand.
    let exposed = ".if version_atleast(2.4)\n    expose-experimental-directives\n.endif\n\
                   .if version_atleast(3.0)\n    expose-deprecated-directives\n.endif\n";
    let proxy = "listen l\n    mode http\n    timeout client 1s\n    timeout server 1s\n    \
                 timeout connect 1s\n    bind 127.0.0.1:8002\n";
    match keyword.context {
        Context::Global | Context::GlobalAlone => {
            format!("global\n{exposed}    {line}\n{proxy}")
        }
        Context::Proxy => format!("global\n{exposed}{proxy}    {line}\n"),
        Context::Bind => format!("global\n{exposed}{proxy}    bind 127.0.0.1:8001 {line}\n"),
        Context::Section => format!("global\n{exposed}{proxy}{line}\n"),
    }
}

/// Whether a version accepts the configuration, and what it says.
fn judge(bed: &Bed, version: Version, keyword: &Keyword) -> (bool, String) {
    let file = bed.write("keyword.cfg", &configuration(keyword)).display().to_string();
    // Programs belong to masters.
    let master = if keyword.words == "program" { "-W" } else { "-V" };
    let output = bed.run(version.binary(), &["-c", master, "-f", &file]);
    (output.status.success(), text(&output.stderr))
}

/// Builds of this version have no QUIC, so that they know none of its keywords.
fn lacks(version: Version, keyword: &Keyword) -> bool {
    keyword.words.contains("quic") && branch(version) < Branch { major: 3, minor: 0 }
}

#[test]
fn what_is_removed_is_refused_from_that_version_on() {
    let bed = Bed::new();
    let mut proved = BTreeSet::new();
    for keyword in KEYWORDS {
        let Some(removed) = keyword.removed else { continue };
        let newer = Version::ALL.into_iter().find(|version| branch(*version) >= removed);
        let Some(newer) = newer else { continue }; // rests on HAProxy's source alone
        let (accepted, said) = judge(&bed, newer, keyword);
        assert!(!accepted, "{} is accepted by {}: {said}", keyword.words, newer.name());
        let older = Version::ALL.into_iter().rfind(|version| branch(*version) < removed);
        let Some(older) = older.filter(|version| !lacks(*version, keyword)) else { continue };
        let (accepted, said) = judge(&bed, older, keyword);
        assert!(accepted, "{} is refused by {}: {said}", keyword.words, older.name());
        proved.insert(keyword.words);
    }
    let expected = [
        "bind-process",
        "no-quic",
        "process",
        "program",
        "stats bind-process",
        "trace",
        "tune.quic.frontend.conn-tx-buffers.limit",
    ];
    assert_eq!(proved, expected.into());
}

/// What is only deprecated is still accepted by every version.
#[test]
fn what_is_deprecated_is_accepted() {
    let bed = Bed::new();
    let newest = *Version::ALL.last().unwrap();
    let table = [
        ("master-worker", ""),
        ("dispatch", "127.0.0.1:9"),
        ("transparent", ""),
        ("option transparent", ""),
    ];
    for (words, arguments) in table {
        let keyword = KEYWORDS.iter().find(|keyword| keyword.words == words).unwrap();
        assert!(keyword.deprecated.is_some_and(|branch| branch <= self::branch(newest)), "{words}");
        let text =
            configuration(keyword).replace(&format!("{words} "), &format!("{words} {arguments}"));
        let file = bed.write("deprecated.cfg", &text).display().to_string();
        let output = bed.run(newest.binary(), &["-c", "-f", &file]);
        assert!(output.status.success(), "{words}: {}", support::text(&output.stderr));
    }
}
