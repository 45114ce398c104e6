//! Defaults and behaviour that a version changed, where they bear on processes, ports, sockets and
//! reloads. `haproxy -c` is silent about most of them.

use super::branch::Branch;
use crate::haproxy::config::{Launch, Statement};
use crate::model::declared::Place;

/// The configuration and how HAProxy is started with it.
pub struct Setup<'s> {
    /// Every line that counts.
    pub statements: &'s [Statement],
    /// How HAProxy is started.
    pub launch: &'s Launch,
}

/// What of a configuration a change concerns.
#[derive(Debug, Clone, Copy)]
pub enum Concern<'s> {
    /// Nothing.
    None,
    /// The configuration, and no line more than another.
    Whole,
    /// A line.
    Line(&'s Place),
}

/// One change.
pub struct Behaviour {
    /// The branch that brought it.
    pub branch: Branch,
    /// HAProxy does not start any more.
    pub is_refused: bool,
    /// Whether it concerns a configuration.
    pub concerns: for<'s> fn(&Setup<'s>) -> Concern<'s>,
    /// The change, as the end of "from HAProxy X on, …".
    pub what: &'static str,
    /// What to do about it, as a sentence without a full stop; empty if there is nothing to do.
    pub instead: &'static str,
    /// Where HAProxy documents it.
    pub source: &'static str,
}

impl<'s> Setup<'s> {
    /// The first line of `global` that begins with these words.
    fn global(&self, words: &[&str]) -> Option<&'s Statement> {
        self.statements.iter().find(|statement| {
            statement.section == "global"
                && words.iter().zip(&statement.words).all(|(word, own)| word == own)
                && statement.words.len() >= words.len()
        })
    }

    fn is_set(&self, keyword: &str) -> bool {
        self.global(&[keyword]).is_some() || self.global(&["no", keyword]).is_some()
    }

    fn is_master(&self) -> bool {
        self.launch.master_worker || self.global(&["master-worker"]).is_some()
    }

    /// The first bind of QUIC.
    fn quic(&self) -> Option<&'s Statement> {
        self.statements.iter().find(|statement| {
            let quic = |word: &String| word.starts_with("quic4@") || word.starts_with("quic6@");
            statement.words.first().is_some_and(|word| word == "bind")
                && statement.words.get(1).is_some_and(quic)
        })
    }

    /// HAProxy decides by itself how many groups of threads it runs.
    fn groups_are_left_open(&self) -> bool {
        !["nbthread", "thread-groups", "cpu-policy", "cpu-map", "cpu-set", "thread-hard-limit"]
            .iter()
            .any(|keyword| self.is_set(keyword))
    }
}

fn whole<'s>(holds: bool) -> Concern<'s> {
    if holds { Concern::Whole } else { Concern::None }
}

fn at(statement: Option<&Statement>) -> Concern<'_> {
    statement.map_or(Concern::None, |statement| Concern::Line(&statement.place))
}

const fn branch(major: u64, minor: u64) -> Branch {
    Branch { major, minor }
}

/// Every change, by its branch.
pub const BEHAVIOURS: &[Behaviour] = &[
    Behaviour {
        branch: branch(2, 3),
        is_refused: false,
        concerns: |setup| whole(!setup.is_set("strict-limits")),
        what: "HAProxy does not start when it cannot raise its limit of open files as far as maxconn needs",
        instead: "raise LimitNOFILE of its unit, or write 'no strict-limits'",
        source: "CHANGELOG 2.3-dev1; 2.3.0 src/haproxy.c:1600",
    },
    Behaviour {
        branch: branch(2, 6),
        is_refused: false,
        concerns: |setup| whole(setup.is_master()),
        what: "a master hands its listeners over by itself, and -x sockpair@N appears among its arguments",
        instead: "",
        source: "commit 2be557f7c",
    },
    Behaviour {
        branch: branch(2, 7),
        is_refused: false,
        concerns: |setup| {
            let by_process = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
            let map = setup.global(&["cpu-map"]);
            at(map.filter(|map| map.words.get(1).is_some_and(by_process)))
        },
        what: "the first number of 'cpu-map' is a group of threads, no longer a process",
        instead: "write cpu-map GROUP/THREADS CPUS",
        source: "2.7.0 src/cfgparse-global.c:1054",
    },
    Behaviour {
        branch: branch(2, 8),
        is_refused: false,
        concerns: |setup| {
            let groups = setup.global(&["thread-groups"]);
            let several = |word: &String| word.parse().is_ok_and(|count: u16| count > 1);
            let groups = groups.filter(|line| line.words.get(1).is_some_and(several));
            at(groups.filter(|_| !setup.is_set("tune.listener.default-shards")))
        },
        what: "each port has one listening socket for each group of threads",
        instead: "to keep it as it was, write tune.listener.default-shards by-process",
        source: "commit 0e875cf29",
    },
    Behaviour {
        branch: branch(2, 8),
        is_refused: false,
        concerns: |setup| at(setup.quic().filter(|_| !setup.is_set("tune.quic.socket-owner"))),
        what: "each QUIC connection has a UDP socket of its own",
        instead: "to keep it as it was, write tune.quic.socket-owner listener",
        source: "CHANGELOG 2.8-dev1",
    },
    Behaviour {
        branch: branch(2, 9),
        is_refused: true,
        concerns: |setup| whole(!setup.launch.master_sockets.is_empty() && !setup.is_master()),
        what: "HAProxy refuses -S without -W or -Ws",
        instead: "add -W or -Ws to its arguments, or drop -S",
        source: "3.5-dev5 src/haproxy.c:2786",
    },
    Behaviour {
        branch: branch(3, 0),
        is_refused: false,
        concerns: |setup| {
            at(setup.quic().filter(|_| !setup.is_set("harden.reject-privileged-ports.quic")))
        },
        what: "QUIC clients whose source port is below 1024 are refused",
        instead: "to keep it as it was, write harden.reject-privileged-ports.quic off",
        source: "CHANGELOG 3.0-dev13",
    },
    Behaviour {
        branch: branch(3, 1),
        is_refused: false,
        concerns: |setup| whole(setup.is_master()),
        what: "a master starts its worker before the configuration is read, and refuses a reload while \
            another one goes on",
        instead: "",
        source: "commits 8dd4efe42, 5f1645308",
    },
    Behaviour {
        branch: branch(3, 1),
        is_refused: false,
        concerns: |setup| whole(!setup.is_set("fd-hard-limit") && !setup.is_set("maxconn")),
        what: "the limit of open files that maxconn is computed from is at most 1,048,576",
        instead: "to keep it as it was, write fd-hard-limit NUMBER",
        source: "commit 41275a691",
    },
    Behaviour {
        branch: branch(3, 3),
        is_refused: false,
        concerns: |setup| whole(setup.groups_are_left_open()),
        what: "HAProxy uses all cores in several groups of threads, so a port may have several \
            listening sockets",
        instead: "to keep it as it was, write cpu-policy first-usable-node",
        source: "commit b74336984",
    },
    Behaviour {
        branch: branch(3, 3),
        is_refused: false,
        concerns: |setup| whole(setup.is_master() && !setup.is_set("mworker-max-reloads")),
        what: "a master ends a worker that has outlived 50 reloads, and cuts its connections",
        instead: "to keep it as it was, write mworker-max-reloads NUMBER",
        source: "commit 036722737; src/mworker.c:48",
    },
    Behaviour {
        branch: branch(3, 4),
        is_refused: false,
        concerns: |setup| {
            whole(setup.groups_are_left_open() && !setup.is_set("max-threads-per-group"))
        },
        what: "a group has at most 16 threads instead of 64, so a port may have several listening sockets",
        instead: "to keep it as it was, write max-threads-per-group 64",
        source: "commit 0af603f46",
    },
];
