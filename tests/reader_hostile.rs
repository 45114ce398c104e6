//! Feeds the reader of configurations with mutated fixtures and random bytes. It must neither panic nor
//! take long, for any launch.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // a test fails by panicking

use std::path::Path;
use std::time::{Duration, Instant};

use haproxy_host_exporter::haproxy::config::{Launch, SourceFile, Version, read};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A time that no input of these sizes needs, even on a busy machine.
const SOON: Duration = Duration::from_secs(5);

fn corpus() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reader");
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One change to a text.
#[derive(Debug, Clone)]
enum Mutation {
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Flip(Index, u8),
    Repeat(Index, usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let bits = [
        &b"\""[..],
        b"'",
        b"\\",
        b"\\x",
        b"$",
        b"\"${A[*]}\"",
        b"\"${A-",
        b"}",
        b",",
        b":",
        b"-",
        b"\n",
        b"\r",
        b"\0",
        b"#",
        b".if ",
        b".endif\n",
        b".else\n",
        b"(",
        b")",
        b"!",
        b"&&",
        b"||",
        b"[",
        b"]",
        b"fd@",
        b"quic4@",
        b" bind ",
        b"frontend x\n",
        b"defaults\n",
        b"peers p\n",
        b"\xff\xfe",
        b"65535",
        b"99999999999999999999",
        b"disabled\n",
        b"resetenv\n",
        b"no ",
    ];
    let bits: Vec<Vec<u8>> = bits.iter().map(|bit| bit.to_vec()).collect();
    prop_oneof![
        (any::<Index>(), select(bits)).prop_map(|(at, bit)| Mutation::Insert(at, bit)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Flip(at, byte)),
        (any::<Index>(), 1..60_usize, 1..50_usize)
            .prop_map(|(at, length, times)| Mutation::Repeat(at, length, times)),
    ]
}

fn apply(text: &mut Vec<u8>, mutation: &Mutation) {
    let place = |index: &Index| index.index(text.len() + 1);
    match mutation {
        Mutation::Insert(at, bit) => {
            let at = place(at);
            text.splice(at..at, bit.iter().copied());
        }
        Mutation::Remove(at, length) => {
            let at = place(at);
            let end = (at + length).min(text.len());
            text.drain(at..end);
        }
        Mutation::Flip(at, byte) => {
            let at = place(at);
            if let Some(old) = text.get_mut(at) {
                *old ^= byte;
            }
        }
        Mutation::Repeat(at, length, times) => {
            let at = place(at);
            let end = (at + length).min(text.len());
            let piece = text[at..end].repeat(*times);
            text.splice(at..at, piece);
        }
    }
}

fn launch() -> impl Strategy<Value = Launch> {
    let versions = ["2.4.1", "2.6.12", "2.8.25", "3.0.11", "3.2.26", "3.5-dev5"];
    let versions = select(versions.map(Version::parse).to_vec());
    (versions, any::<[bool; 4]>()).prop_map(|(version, [knows, environment, master, local])| {
        Launch {
            environment: environment.then(|| {
                let values = [("A", "a b"), ("PORT", "80"), ("E", ""), ("W", " 127.0.0.1:80,:81 ")];
                values.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
            }),
            version: version.filter(|_| knows),
            master_worker: master,
            master_sockets: vec![":1,,level,admin".to_owned()],
            local_peer: local.then(|| "me".to_owned()),
            ..Launch::default()
        }
    })
}

/// Reads the files and asserts what must be true of every answer.
fn check(files: &[Vec<u8>], launch: &Launch) {
    let sources: Vec<SourceFile> =
        files.iter().map(|text| SourceFile { path: "f.cfg".into(), text: text.clone() }).collect();
    let start = Instant::now();
    let declared = read(&sources, launch);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let places = (declared.listeners.iter().map(|listener| &listener.place))
        .chain(declared.errors.iter().map(|error| &error.place))
        .chain(declared.uncertain.iter().map(|uncertain| &uncertain.place));
    for place in places {
        assert!(place.columns.start >= 1 && place.columns.start < place.columns.end, "{place:?}");
        // Line 0 is the command line.
        if let Some(line) = place.line.checked_sub(1) {
            let lengths = files.iter().filter_map(|text| line_length(text, line));
            let longest = lengths.max().expect("a line that is there");
            assert!(place.columns.end <= longest + 2, "{place:?}");
        }
    }
    for listener in &declared.listeners {
        assert!(listener.ports.first >= 1 && listener.ports.first <= listener.ports.last);
    }
}

fn line_length(text: &[u8], line: usize) -> Option<usize> {
    text.split(|&byte| byte == b'\n').nth(line).map(<[u8]>::len)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_configurations(
        text in select(corpus()),
        second in select(corpus()),
        mutations in vec(mutation(), 0..12),
        launch in launch(),
    ) {
        let mut text = text;
        for mutation in &mutations {
            apply(&mut text, mutation);
        }
        check(&[text, second], &launch);
    }

    #[test]
    fn random_bytes(text in vec(any::<u8>(), 0..2000), launch in launch()) {
        check(&[text], &launch);
    }

    #[test]
    fn random_lines(
        words in vec(select(vec![
            "global", "defaults", "frontend", "listen", "peers", "p", "from", "bind", ":80", "\"$A\"",
            "\"${W[*]}\"", "\"$NONE\"", "''", ".if", "defined(A)", "1", ".else", ".elif", ".endif",
            "disabled", "enabled", "stats", "socket", "setenv", "presetenv", "unsetenv", "resetenv",
            "A", "peer", "me", "interface", "eth0", "log-forward", "dgram-bind", "no", "\n", "\n", "\n",
        ]), 0..300),
        launch in launch(),
    ) {
        check(&[format!("{}\n", words.join(" ")).into_bytes()], &launch);
    }
}
