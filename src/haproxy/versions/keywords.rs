//! Keywords that a version removed or deprecated.
//!
//! A row names the branch that first warned and the branch that first refused, by HAProxy's source at the
//! tag named. `tests/upgrade.rs` proves the rows from 2.7 to 3.3 on the real binaries: the later one
//! refuses, the one before accepts. Older and newer rows rest on that source alone.

use super::branch::Branch;
use crate::haproxy::config::Statement;

/// The position in a configuration at which a keyword is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// The first words of a line in `global`.
    Global,
    /// A whole line in `global`: with further words it means something else.
    GlobalAlone,
    /// The first words of a line in `defaults`, `frontend`, `listen` or `backend`.
    Proxy,
    /// An option of a `bind` or `stats socket` line.
    Bind,
    /// The first line of a section.
    Section,
}

use Context::{Bind, Global, GlobalAlone, Proxy, Section};

/// A keyword that some version no longer accepts, or warns about.
#[derive(Debug, Clone, Copy)]
pub struct Keyword {
    /// Its position in a configuration.
    pub context: Context,
    /// Its words, with one space between them.
    pub words: &'static str,
    /// The first branch that deprecates it.
    pub deprecated: Option<Branch>,
    /// The first branch that refuses it.
    pub removed: Option<Branch>,
    /// What to write instead; empty: nothing.
    pub instead: &'static str,
    /// Where HAProxy's source says so.
    pub source: &'static str,
}

impl Keyword {
    /// The line uses this keyword.
    #[must_use]
    pub fn is_in(&self, statement: &Statement) -> bool {
        let words: Vec<&str> = statement.words.iter().map(String::as_str).collect();
        let own: Vec<&str> = self.words.split(' ').collect();
        let positive = match words.split_first() {
            Some((&("no" | "default"), rest)) => rest,
            _ => words.as_slice(),
        };
        let section = statement.section.as_str();
        match self.context {
            Global => section == "global" && positive.starts_with(&own),
            GlobalAlone => section == "global" && positive == own,
            Proxy => is_proxy(section) && positive.starts_with(&own),
            Bind => {
                is_bind(section, &words) && words.iter().skip(2).any(|word| *word == self.words)
            }
            Section => words.starts_with(&own) && section == self.words,
        }
    }
}

fn is_proxy(section: &str) -> bool {
    matches!(section, "defaults" | "frontend" | "listen" | "backend")
}

fn is_bind(section: &str, words: &[&str]) -> bool {
    match words {
        ["bind", ..] => is_proxy(section),
        ["stats", "socket", ..] => section == "global",
        _ => false,
    }
}

const fn at(major: u64, minor: u64) -> Branch {
    Branch { major, minor }
}

const fn row(
    context: Context,
    words: &'static str,
    deprecated: Option<Branch>,
    removed: Option<Branch>,
    instead: &'static str,
    source: &'static str,
) -> Keyword {
    Keyword { context, words, deprecated, removed, instead, source }
}

/// Every keyword, by the branch that refuses it; then those that are only deprecated.
#[rustfmt::skip] // one row, one line
pub const KEYWORDS: &[Keyword] = &[
    row(Proxy, "reqrep", Some(at(2, 0)), Some(at(2, 1)), "http-request replace-path / replace-uri / replace-header", "3.5-dev5 src/cfgparse-listen.c:3096"),
    row(Proxy, "reqdel", Some(at(2, 0)), Some(at(2, 1)), "http-request del-header", "3.5-dev5 src/cfgparse-listen.c:3103"),
    row(Proxy, "reqdeny", Some(at(2, 0)), Some(at(2, 1)), "http-request deny", "3.5-dev5 src/cfgparse-listen.c:3109"),
    row(Proxy, "reqpass", Some(at(2, 0)), Some(at(2, 1)), "", "3.5-dev5 src/cfgparse-listen.c:3115"),
    row(Proxy, "reqallow", Some(at(2, 0)), Some(at(2, 1)), "http-request allow", "3.5-dev5 src/cfgparse-listen.c:3120"),
    row(Proxy, "reqtarpit", Some(at(2, 0)), Some(at(2, 1)), "http-request tarpit", "3.5-dev5 src/cfgparse-listen.c:3126"),
    row(Proxy, "reqirep", Some(at(2, 0)), Some(at(2, 1)), "http-request replace-header", "3.5-dev5 src/cfgparse-listen.c:3132"),
    row(Proxy, "reqidel", Some(at(2, 0)), Some(at(2, 1)), "http-request del-header", "3.5-dev5 src/cfgparse-listen.c:3138"),
    row(Proxy, "reqideny", Some(at(2, 0)), Some(at(2, 1)), "http-request deny", "3.5-dev5 src/cfgparse-listen.c:3144"),
    row(Proxy, "reqipass", Some(at(2, 0)), Some(at(2, 1)), "", "3.5-dev5 src/cfgparse-listen.c:3150"),
    row(Proxy, "reqiallow", Some(at(2, 0)), Some(at(2, 1)), "http-request allow", "3.5-dev5 src/cfgparse-listen.c:3155"),
    row(Proxy, "reqitarpit", Some(at(2, 0)), Some(at(2, 1)), "http-request tarpit", "3.5-dev5 src/cfgparse-listen.c:3161"),
    row(Proxy, "reqadd", Some(at(2, 0)), Some(at(2, 1)), "http-request add-header", "3.5-dev5 src/cfgparse-listen.c:3167"),
    row(Proxy, "rsprep", Some(at(2, 0)), Some(at(2, 1)), "http-response replace-header", "3.5-dev5 src/cfgparse-listen.c:3173"),
    row(Proxy, "rspdel", Some(at(2, 0)), Some(at(2, 1)), "http-response del-header", "3.5-dev5 src/cfgparse-listen.c:3179"),
    row(Proxy, "rspdeny", Some(at(2, 0)), Some(at(2, 1)), "http-response deny", "3.5-dev5 src/cfgparse-listen.c:3185"),
    row(Proxy, "rspirep", Some(at(2, 0)), Some(at(2, 1)), "http-response replace-header", "3.5-dev5 src/cfgparse-listen.c:3191"),
    row(Proxy, "rspidel", Some(at(2, 0)), Some(at(2, 1)), "http-response del-header", "3.5-dev5 src/cfgparse-listen.c:3197"),
    row(Proxy, "rspideny", Some(at(2, 0)), Some(at(2, 1)), "http-response deny", "3.5-dev5 src/cfgparse-listen.c:3203"),
    row(Proxy, "rspadd", Some(at(2, 0)), Some(at(2, 1)), "http-response add-header", "3.5-dev5 src/cfgparse-listen.c:3209"),
    row(Proxy, "cliexp", None, Some(at(2, 1)), "http-request replace-*", "3.5-dev5 src/cfgparse-listen.c:3096"),
    row(Proxy, "srvexp", None, Some(at(2, 1)), "http-response replace-header", "3.5-dev5 src/cfgparse-listen.c:3173"),
    row(Proxy, "block", None, Some(at(2, 1)), "http-request deny", "3.5-dev5 src/cfgparse-listen.c:1477"),
    row(Proxy, "redispatch", None, Some(at(2, 1)), "option redispatch", "3.5-dev5 src/cfgparse-listen.c:2547"),
    row(Proxy, "redisp", None, Some(at(2, 1)), "option redispatch", "3.5-dev5 src/cfgparse-listen.c:2547"),
    row(Proxy, "clitimeout", None, Some(at(2, 1)), "timeout client", "3.5-dev5 src/proxy.c:709"),
    row(Proxy, "timeout clitimeout", None, Some(at(2, 1)), "timeout client", "3.5-dev5 src/proxy.c:709"),
    row(Proxy, "contimeout", None, Some(at(2, 1)), "timeout connect", "3.5-dev5 src/proxy.c:715"),
    row(Proxy, "timeout contimeout", None, Some(at(2, 1)), "timeout connect", "3.5-dev5 src/proxy.c:715"),
    row(Proxy, "srvtimeout", None, Some(at(2, 1)), "timeout server", "3.5-dev5 src/proxy.c:712"),
    row(Proxy, "timeout srvtimeout", None, Some(at(2, 1)), "timeout server", "3.5-dev5 src/proxy.c:712"),
    row(Proxy, "option independant-streams", None, Some(at(2, 1)), "option independent-streams", "2.0.0 src/proxy.c:109"),
    row(Proxy, "appsession", Some(at(1, 6)), Some(at(1, 6)), "cookie / stick-table", "3.5-dev5 src/cfgparse-listen.c:1162"),
    row(Proxy, "http-request block", None, Some(at(2, 2)), "http-request deny", "2.1.0 src/http_rules.c:83"),
    row(Global, "debug", Some(at(2, 2)), Some(at(2, 3)), "command line -d", "2.2.0 src/cfgparse-global.c:60"),
    row(Proxy, "monitor-net", None, Some(at(2, 3)), "http-request return status 200 if { src NET }", "3.5-dev5 src/cfgparse-listen.c:616"),
    row(Proxy, "mode health", None, Some(at(2, 3)), "http-request return status 200", "3.5-dev5 src/cfgparse-listen.c:647"),
    row(Global, "nbproc", Some(at(2, 3)), Some(at(2, 5)), "nbthread (automatic)", "3.5-dev5 src/cfgparse-global.c:1580"),
    row(Global, "tune.chksize", Some(at(2, 4)), Some(at(2, 5)), "tune.bufsize", "3.5-dev5 src/cfgparse-global.c:1584"),
    row(Proxy, "grace", Some(at(2, 3)), Some(at(2, 5)), "'grace' in global, which holds for all proxies", "3.5-dev5 src/cfgparse-listen.c:2671"),
    row(Proxy, "option forceclose", None, Some(at(2, 5)), "option httpclose", "3.5-dev5 src/cfgparse-listen.c:2109"),
    row(Proxy, "option http-tunnel", Some(at(2, 0)), Some(at(2, 5)), "", "3.5-dev5 src/cfgparse-listen.c:2157"),
    row(Proxy, "option http_proxy", None, Some(at(2, 5)), "http-request set-dst / set-uri / do-resolve", "3.5-dev5 src/cfgparse-listen.c:2208"),
    row(Proxy, "option http-use-htx", Some(at(2, 1)), Some(at(2, 5)), "", "2.1.0 src/cfgparse-listen.c:2015"),
    row(Proxy, "bind-process", Some(at(2, 5)), Some(at(2, 7)), "bind … thread", "3.5-dev5 src/cfgparse-listen.c:769"),
    row(Bind, "process", Some(at(2, 5)), Some(at(2, 7)), "thread", "3.5-dev5 src/listener.c:2899"),
    row(Global, "stats bind-process", Some(at(2, 5)), Some(at(2, 7)), "", "3.5-dev5 src/cli.c:644"),
    row(Global, "tune.ssl.ocsp-update.maxdelay", Some(at(3, 0)), None, "ocsp-update.maxdelay", "3.5-dev5 doc/configuration.txt:3109"),
    row(Global, "tune.ssl.ocsp-update.mindelay", Some(at(3, 0)), None, "ocsp-update.mindelay", "3.5-dev5 doc/configuration.txt:3109"),
    row(Global, "trace", None, Some(at(3, 1)), "section traces", "3.0.0 src/trace.c:992"),
    row(Proxy, "option accept-invalid-http-request", Some(at(3, 1)), None, "option accept-unsafe-violations-in-http-request", "3.5-dev5 src/cfgparse-listen.c:2485"),
    row(Proxy, "option accept-invalid-http-response", Some(at(3, 1)), None, "option accept-unsafe-violations-in-http-response", "3.5-dev5 src/cfgparse-listen.c:2485"),
    row(Section, "program", Some(at(3, 1)), Some(at(3, 3)), "a unit of the init system", "3.2.0 src/mworker-prog.c:198"),
    row(Global, "no-quic", None, Some(at(3, 3)), "tune.quic.listen off", "3.2.0 src/cfgparse-global.c:82"),
    row(Global, "tune.quic.frontend.conn-tx-buffers.limit", Some(at(3, 1)), Some(at(3, 3)), "tune.quic.fe.cc.max-win-size (3.3+), tune.quic.mem.tx-max", "3.2.0 src/cfgparse-quic.c:439"),
    row(Proxy, "filter compression", Some(at(3, 4)), None, "filter comp-req / comp-res", "3.5-dev5 doc/configuration.txt:30674"),
    row(Proxy, "compression direction", Some(at(3, 4)), None, "filter comp-req / comp-res", "3.5-dev5 doc/configuration.txt:30674"),
    row(GlobalAlone, "master-worker", Some(at(3, 3)), Some(at(3, 5)), "-W or -Ws on the command line", "3.5-dev5 src/cfgparse-global.c:973"),
    row(Proxy, "dispatch", Some(at(3, 3)), Some(at(3, 5)), "server NAME ADDR", "3.5-dev5 src/cfgparse-listen.c:2677"),
    row(Proxy, "transparent", Some(at(3, 3)), Some(at(3, 5)), "server NAME 0.0.0.0", "3.5-dev5 src/cfgparse-listen.c:2625"),
    row(Proxy, "option transparent", Some(at(3, 3)), Some(at(3, 5)), "server NAME 0.0.0.0", "3.5-dev5 src/proxy.c:139"),
    row(Proxy, "filter opentracing", Some(at(3, 3)), Some(at(3, 5)), "filter opentelemetry (3.4+)", "3.4.0 addons/ot/src/filter.c:167"),
    row(Global, "tune.quic.cc-hystart", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.cc.hystart", "3.4.0 src/cfgparse-quic.c:742"),
    row(Global, "tune.quic.cc.cubic.min-losses", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.cc.cubic-min-losses", "3.4.0 src/cfgparse-quic.c:743"),
    row(Global, "tune.quic.disable-tx-pacing", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.tx.pacing off", "3.4.0 src/cfgparse-quic.c:744"),
    row(Global, "tune.quic.disable-udp-gso", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.tx.udp-gso off", "3.4.0 src/cfgparse-quic.c:745"),
    row(Global, "tune.quic.frontend.default-max-window-size", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.cc.max-win-size", "3.4.0 src/cfgparse-quic.c:746"),
    row(Global, "tune.quic.frontend.glitches-threshold", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.sec.glitches-threshold", "3.4.0 src/cfgparse-quic.c:747"),
    row(Global, "tune.quic.frontend.max-data-size", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.stream.rxbuf", "3.4.0 src/cfgparse-quic.c:748"),
    row(Global, "tune.quic.frontend.max-idle-timeout", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.max-idle-timeout", "3.4.0 src/cfgparse-quic.c:749"),
    row(Global, "tune.quic.frontend.max-streams-bidi", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.stream.max-concurrent", "3.4.0 src/cfgparse-quic.c:750"),
    row(Global, "tune.quic.frontend.max-tx-mem", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.mem.tx-max", "3.4.0 src/cfgparse-quic.c:751"),
    row(Global, "tune.quic.frontend.stream-data-ratio", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.stream.data-ratio", "3.4.0 src/cfgparse-quic.c:752"),
    row(Global, "tune.quic.max-frame-loss", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.cc.max-frame-loss", "3.4.0 src/cfgparse-quic.c:753"),
    row(Global, "tune.quic.reorder-ratio", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.cc.reorder-ratio", "3.4.0 src/cfgparse-quic.c:754"),
    row(Global, "tune.quic.retry-threshold", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.sec.retry-threshold", "3.4.0 src/cfgparse-quic.c:755"),
    row(Global, "tune.quic.socket-owner", Some(at(3, 3)), Some(at(3, 5)), "tune.quic.fe.sock-per-conn", "3.4.0 src/cfgparse-quic.c:756"),
    row(Global, "tune.ssl.capture-cipherlist-size", Some(at(2, 5)), None, "tune.ssl.capture-buffer-size", "3.5-dev5 src/cfgparse-ssl.c:431"),
    row(Global, "tune.takeover-other-tg-connections", Some(at(3, 5)), Some(at(3, 7)), "tune.idle-pool.shared", "3.5-dev5 src/cfgparse-global.c:1495"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::haproxy::config::{self, Launch, SourceFile};

    #[test]
    fn a_keyword_counts_only_where_it_stands() {
        let text = "global\n  nbproc 2\n  master-worker no-exit-on-failure\n  grace 5s\n  \
            stats socket /run/s process 1\ndefaults\n  grace 1s\nfrontend grace\n  \
            no option http-use-htx\n  bind :80 process 1\n  log global process\nprogram agent\n  \
            command sleep 1\nring program\n";
        let file = SourceFile { path: "f".into(), text: text.as_bytes().to_vec() };
        let statements = config::statements(&[file], &Launch::default());
        let mut found = Vec::new();
        for statement in &statements {
            let known = KEYWORDS.iter().filter(|keyword| keyword.is_in(statement));
            found.extend(known.map(|keyword| (statement.place.line, keyword.words)));
        }
        let expected = [
            (2, "nbproc"),
            (5, "process"),
            (7, "grace"),
            (9, "option http-use-htx"),
            (10, "process"),
            (12, "program"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_row_is_deprecated_before_it_is_removed() {
        for keyword in KEYWORDS {
            let in_order = match (keyword.deprecated, keyword.removed) {
                (Some(deprecated), Some(removed)) => deprecated <= removed,
                (None, None) => false,
                _ => true,
            };
            assert!(in_order && !keyword.source.is_empty(), "{}", keyword.words);
        }
    }
}
