//! Reads a whole configuration: one or two walks over its files, then the sockets of the command
//! line.

use std::path::Path;
use std::sync::Arc;

use super::context::{Context, Defaults};
use super::findings::{Findings, Line, Switch};
use super::globals;
use super::launch::{Launch, SourceFile};
use super::lexer::Word;
use super::statement::Statement;
use super::variables::{Dialect, Variables};
use super::walker::walk;
use crate::model::declared::Declared;

/// How many bytes variables may expand to, beyond the size of the files. No sensible configuration
/// needs as many; the limit bounds the work that a hostile one can cause.
const MOST_EXPANSION: usize = 16 << 20;

/// Reads the files in this order, as a HAProxy that is launched like this would.
///
/// Reading never fails, and takes time and memory linear in the size of the files and of the environment,
/// for any content. Errors are in [`Declared::errors`], and lines that cannot be decided in
/// [`Declared::uncertain`].
#[must_use]
pub fn read(files: &[SourceFile], launch: &Launch) -> Declared {
    read_with(files, launch, None).findings.declared
}

/// Returns every line that counts, or may count, for a HAProxy that is launched like this.
#[must_use]
pub fn statements(files: &[SourceFile], launch: &Launch) -> Vec<Statement> {
    read_with(files, launch, Some(Vec::new())).statements.unwrap_or_default()
}

fn read_with<'l>(
    files: &[SourceFile],
    launch: &'l Launch,
    statements: Option<Vec<Statement>>,
) -> Context<'l> {
    let local_peer = launch.local_peer.clone().or_else(|| launch.host_name.clone());
    let size: usize = files.iter().map(|file| file.text.len()).sum();
    let context = |variables: Variables, local_peer: Option<String>| Context {
        launch,
        dialect: Dialect::of(launch.version),
        variables,
        local_peer,
        defaults: Defaults::default(),
        findings: Findings::default(),
        statements: None,
        switched: Vec::new(),
        quic_off: Switch::Off,
        unix_prefix: None,
        room: MOST_EXPANSION + size,
    };
    let mut variables = Variables::new(launch, local_peer.as_deref());
    let mut local_peer = local_peer;
    if launch.version.is_some_and(|version| version.is_at_least(3, 1)) {
        // Since 3.1 HAProxy reads the files twice, the first time for global settings only. A worker
        // then restores its environment; other modes keep the changed one.
        let mut first = context(variables, local_peer);
        walk(files, &mut first, true);
        local_peer = first.local_peer;
        variables = if launch.master_worker || first.findings.declared.globals.master_worker {
            Variables::new(launch, local_peer.as_deref())
        } else {
            first.variables
        };
        if let Some(name) = &local_peer {
            variables.set(b"HAPROXY_LOCALPEER", name.as_bytes());
        }
    }
    let mut context = Context { statements, ..context(variables, local_peer) };
    context.findings.declared.globals.noreuseport = launch.switches.contains("dR");
    walk(files, &mut context, false);
    master_sockets(&mut context);
    globals::close_quic(&mut context);
    context.findings.declared.variables = context.variables.asked();
    context
}

/// Reads `-S ADDRESS[,KEYWORD…]`, a bind line with commas for spaces. Only a master opens it.
fn master_sockets(context: &mut Context<'_>) {
    if !context.launch.master_worker && !context.findings.declared.globals.master_worker {
        return;
    }
    let file: Arc<Path> = Arc::from(Path::new("command line"));
    for argument in &context.launch.master_sockets {
        let mut at = 0;
        let mut words = Vec::new();
        for piece in argument.split(',') {
            let source = at..at + piece.len();
            at = source.end + 1;
            if words.is_empty() || !piece.is_empty() {
                let text = piece.as_bytes().to_vec();
                words.push(Word { text, source, literal: true, doubt: None });
            }
        }
        let line = Line { words: &words, file: &file, number: 0, doubt: None };
        if let Some((word, keywords)) = words.split_first() {
            context.sockets(word, &line, keywords, "-S");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::version::Version;
    use super::*;
    use crate::model::declared::{Family, HostQuery};

    fn launch() -> Launch {
        Launch {
            environment: Some([("PORT".to_owned(), "80".to_owned())].into()),
            version: Version::parse("3.2.4"),
            host_name: Some("host".to_owned()),
            ..Launch::default()
        }
    }

    fn read_text(text: &str, launch: &Launch) -> Declared {
        let file = SourceFile { path: "f.cfg".into(), text: text.as_bytes().to_vec() };
        read(&[file], launch)
    }

    /// Formats everything found as `line:columns what`.
    fn show(declared: &Declared) -> Vec<String> {
        let mut shown = Vec::new();
        for listener in &declared.listeners {
            let (place, ports) = (&listener.place, listener.ports);
            shown.push(format!(
                "{}:{:?} {} {}:{}-{} {}",
                place.line,
                place.columns,
                listener.protocol,
                listener.address,
                ports.first,
                ports.last,
                listener.section
            ));
        }
        for inherited in &declared.inherited {
            let place = &inherited.place;
            shown.push(format!("{}:{:?} fd {}", place.line, place.columns, inherited.fd));
        }
        for error in &declared.errors {
            shown.push(format!("{}:{:?} error", error.place.line, error.place.columns));
        }
        for uncertain in &declared.uncertain {
            let ports: Vec<String> = uncertain
                .may_bind
                .iter()
                .map(|possible| possible.ports.map_or("?".to_owned(), |p| p.first.to_string()))
                .collect();
            let place = &uncertain.place;
            shown.push(format!("{}:{:?} maybe [{}]", place.line, place.columns, ports.join(",")));
        }
        shown
    }

    #[test]
    fn listeners_and_their_places() {
        for (text, expected) in [
            ("frontend web\n bind :80\n", vec!["2:7..10 tcp 0.0.0.0:80-80 frontend web"]),
            (
                "listen l\n\tbind 127.0.0.1:1-3,[::1]:4\n",
                vec!["2:7..20 tcp 127.0.0.1:1-3 listen l", "2:21..28 tcp ::1:4-4 listen l"],
            ),
            (
                "frontend web\n bind \"127.0.0.1:$PORT\",:81\n",
                vec![
                    "2:7..28 tcp 127.0.0.1:80-80 frontend web",
                    "2:7..28 tcp 0.0.0.0:81-81 frontend web",
                ],
            ),
            ("peers p\n peer host :1024\n", vec!["2:12..17 tcp 0.0.0.0:1024-1024 peers p"]),
            ("global\n stats socket :9\n", vec!["2:15..17 tcp 0.0.0.0:9-9 stats socket"]),
            ("log-forward l\n dgram-bind :9\n", vec!["2:13..15 udp 0.0.0.0:9-9 log-forward l"]),
            ("frontend web\n bind fd@3\n", vec!["2:7..11 fd 3"]),
            ("frontend web\n bind \"fd@$PORT\"\n", vec!["2:7..17 fd 80"]),
        ] {
            assert_eq!(show(&read_text(text, &launch())), expected, "{text}");
        }
    }

    #[test]
    fn errors_and_their_places() {
        for (text, expected) in [
            ("frontend web\n bind :80,127.0.0.1:x\n", vec!["2:11..22 error"]),
            ("frontend web\n bind \":80\n", vec!["2:7..11 error"]),
            ("bind :80\n", vec!["1:1..5 error"]),
            ("global\n.if 1\n", vec!["2:1..2 error"]),
            ("global\n.if foo(1)\n.endif\n", vec!["2:5..11 error"]),
            ("global", vec!["1:7..8 error"]),
            ("global\n a\0b\nfrontend w\n bind :1\n", vec!["2:3..4 error"]),
            ("frontend\n", vec!["1:1..9 error"]),
            ("frontend a from b\n", vec!["1:17..18 error"]),
            ("global\n setenv A\n", vec!["2:2..8 error"]),
        ] {
            let declared = read_text(text, &launch());
            let shown = show(&declared);
            let errors: Vec<&String> = shown.iter().filter(|one| one.ends_with("error")).collect();
            assert_eq!(
                errors,
                expected.iter().collect::<Vec<_>>(),
                "{text}: {:?}",
                declared.errors
            );
        }
    }

    #[test]
    fn unknown_values_make_lines_uncertain() {
        let blind = Launch::default();
        for (text, expected) in [
            // An unknown value, count of words, condition or name each makes its line uncertain.
            ("frontend w\n bind \"$A\"\n", vec!["2:7..11 maybe [?]"]),
            (
                "frontend w\n bind $A:80,:81\n",
                vec!["2:13..16 tcp 0.0.0.0:81-81 frontend w", "2:7..12 maybe [?]"],
            ),
            ("frontend w\n bind :80 \"${A[*]}\"\n", vec!["2:7..10 maybe [80]"]),
            ("frontend w\n bind :80 name \"$A\"\n", vec!["2:7..10 maybe [80]"]),
            (
                "frontend w\n.if defined(A)\n bind :80\n.endif\n bind :81\n",
                vec![
                    "5:7..10 tcp 0.0.0.0:81-81 frontend w",
                    "2:5..15 maybe []",
                    "3:7..10 maybe [80]",
                ],
            ),
            (
                "frontend w\n bind :80\n.if defined(A)\n disabled\n.endif\n",
                vec!["3:5..15 maybe []", "2:7..10 maybe [80]"],
            ),
            (
                ".if defined(A)\nfrontend w\n.endif\n bind :80\nfrontend v\n bind :81\n",
                vec![
                    "6:7..10 tcp 0.0.0.0:81-81 frontend v",
                    "1:5..15 maybe []",
                    "4:7..10 maybe [80]",
                ],
            ),
            ("frontend w\n bind localhost:80\n", vec!["2:7..19 maybe [80]"]),
            (
                "peers p\n peer me :1\nfrontend w\n bind :80\n",
                vec!["4:7..10 tcp 0.0.0.0:80-80 frontend w", "2:10..12 maybe [1]"],
            ),
            ("\"$A\" b\n", vec!["1:1..5 maybe [?]"]),
            (
                "global\n setenv A 80\nfrontend w\n bind \":$A\"\n",
                vec!["4:7..12 tcp 0.0.0.0:80-80 frontend w"],
            ),
            (
                "frontend w\n.if defined(A)\n.alert no\n bind x\n.endif\n",
                vec!["2:5..15 maybe []", "3:1..7 maybe []", "4:7..8 maybe []"],
            ),
        ] {
            assert_eq!(show(&read_text(text, &blind)), expected, "{text}");
        }
    }

    #[test]
    fn host_names_stand_for_the_addresses_that_were_found() {
        let text = "frontend w\n bind web:80,ipv6@web:81\n bind gone:82\n bind new:83\n";
        let query = |name: &str, family| HostQuery { name: name.to_owned(), family };
        let mut launch = launch();
        let asked = read_text(text, &launch).host_names;
        let asked: Vec<HostQuery> = asked.into_iter().map(|name| name.query).collect();
        let six = Some(Family::V6);
        let expected =
            [query("web", None), query("web", six), query("gone", None), query("new", None)];
        assert_eq!(asked, expected);
        launch.names = [
            (query("web", None), Ok("10.0.0.1".parse().unwrap())),
            (query("web", six), Ok("2001:db8::1".parse().unwrap())),
            (query("gone", None), Err("unknown".to_owned())),
        ]
        .into();
        let expected = [
            "2:7..13 tcp 10.0.0.1:80-80 frontend w",
            "2:14..25 tcp 2001:db8::1:81-81 frontend w",
            "3:7..14 error",
            "4:7..13 maybe [83]",
        ];
        let declared = read_text(text, &launch);
        assert_eq!(show(&declared), expected);
        assert_eq!(declared.errors[0].what, "host name 'gone' does not resolve: unknown");
        assert_eq!(declared.host_names.len(), 4);
    }

    #[test]
    fn a_bind_in_another_namespace() {
        let text = "frontend w\n bind :80 namespace blue transparent v6only\n";
        let declared = read_text(text, &launch());
        let listener = &declared.listeners[0];
        assert_eq!(listener.namespace.as_deref(), Some("blue"));
        assert!(listener.transparent);
        assert_eq!(listener.v6only, Some(true));
    }

    #[test]
    fn globals() {
        let text = "global\n pidfile /run/a\n pidfile /run/b\n grace 10s\n hard-stop-after 1h\n \
                    daemon\n mworker-max-reloads 7\n noreuseport\n stats socket /run/s\n unix-bind prefix /p\n\
                    frontend a\n bind /b\n";
        let declared = read_text(text, &launch());
        let globals = declared.globals;
        assert_eq!(globals.pidfile.as_deref(), Some("/run/a"));
        assert_eq!(globals.grace, Some(std::time::Duration::from_secs(10)));
        assert_eq!(globals.hard_stop_after, Some(std::time::Duration::from_secs(3600)));
        assert_eq!(globals.max_reloads, Some(7));
        assert!(globals.daemon && globals.noreuseport && !globals.master_worker);
        let paths: Vec<_> = declared.unix.iter().map(|unix| unix.path.as_str()).collect();
        assert_eq!(paths, ["/run/s", "/p/b"], "a stats socket has no prefix");
    }

    #[test]
    fn hostile_sizes_end_soon() {
        let long_line = format!("frontend w\n bind :80 name {}\n", "x".repeat(1 << 20));
        let doubling = format!("global\n setenv A aaaaaaaa\n{}", " setenv A \"$A$A\"\n".repeat(64));
        let bad_commas = format!("frontend w\n bind {}\n", "x,".repeat(300_000));
        let huge_ranges = format!("frontend w\n{}", " bind :1-65535\n".repeat(20_000));
        let commas = format!("frontend w\n bind {}\n", ":80,".repeat(300_000));
        let nests = ".if 1\n".repeat(200_000);
        let quotes = "\"\n".repeat(200_000);
        let again = format!("frontend w\n bind {}\n", "$PORT".repeat(200_000));
        for (name, text) in [
            ("long line", long_line),
            ("doubling", doubling),
            ("huge ranges", huge_ranges),
            ("commas", commas),
            ("bad commas", bad_commas),
            ("nests", nests),
            ("quotes", quotes),
            ("expanded again", again),
        ] {
            let start = std::time::Instant::now();
            let declared = read_text(&text, &launch());
            assert!(start.elapsed().as_secs() < 30, "{name}"); // generous, for an unoptimized build on a busy machine
            assert!(declared.errors.len() <= 51, "{name}");
        }
    }
}
