//! Compares the rule of binding with the kernel: for every socket that may hold a port, and every
//! bind that HAProxy may make beside it, the rule's answer is that of a real bind.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use haproxy_host_exporter::haproxy::binding::{self, Answer, Bind, Reuse};
use haproxy_host_exporter::model::{PortUse, Protocol};
use haproxy_host_exporter::sample::on_demand::bind_trial::{self, Location};
use serde_json::{Value, json};
use support::*;

/// The uid of another user than the one that starts HAProxy.
const OTHER_UID: u32 = 65534;

/// Addresses, each with its `IPV6_V6ONLY`.
const ADDRESSES: [(&str, bool); 6] = [
    ("0.0.0.0", false),
    ("127.0.0.1", false),
    ("127.0.0.2", false),
    ("::", true),
    ("::", false),
    ("::1", false),
];

/// Local addresses of connections, each with its `IPV6_V6ONLY`; the last is IPv4 in an IPv6 socket.
const CONNECTED: [(&str, bool); 4] =
    [("127.0.0.1", false), ("::1", false), ("::1", true), ("::ffff:127.0.0.1", false)];

const INTERFACES: [Option<&str>; 3] = [None, Some("lo"), Some("eth0")];

/// `SO_REUSEADDR` and `SO_REUSEPORT` of the holder.
const OPTIONS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

/// A program in a bed that opens and binds sockets on request.
struct Binder {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Binder {
    fn start(bed: &Bed) -> Binder {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/binder.py");
        let mut command = bed.command(installed("python/bin/python3"));
        command.arg(program).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Binder { _child: child, input, output: BufReader::new(output) }
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.input, "{request}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {request}"))
    }
}

/// How a port is held, without the options that no table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    protocol: Protocol,
    role: &'static str,
    address: &'static str,
    v6only: bool,
    interface: Option<&'static str>,
}

impl Holder {
    fn spec(&self, (reuse_address, reuse_port): (bool, bool), port: u16) -> Value {
        json!({
            "protocol": self.protocol.as_str(), "role": self.role, "address": self.address,
            "port": port, "v6only": self.v6only, "interface": self.interface, "uid": 0,
            "reuse_address": reuse_address, "reuse_port": reuse_port,
        })
    }
}

/// A protocol, what the socket does, and the addresses it does that on.
type Role<'a> = (Protocol, &'a str, &'a [(&'a str, bool)]);

/// Every way to hold a port.
fn holders() -> Vec<Holder> {
    let mut holders = Vec::new();
    let roles: [Role<'_>; 7] = [
        (Protocol::Tcp, "listening", &ADDRESSES),
        (Protocol::Tcp, "paused", &ADDRESSES),
        (Protocol::Tcp, "outgoing", &CONNECTED),
        (Protocol::Tcp, "accepted", &ADDRESSES),
        (Protocol::Udp, "peerless", &ADDRESSES),
        (Protocol::Udp, "connected", &CONNECTED),
        (Protocol::Udp, "sending", &[("0.0.0.0", false), ("::", true), ("::", false)]),
    ];
    for (protocol, role, addresses) in roles {
        let bound = matches!(role, "listening" | "paused" | "peerless");
        for &(address, v6only) in addresses {
            // Connections and senders use lo.
            for &interface in INTERFACES.iter().take(if bound { 3 } else { 2 }) {
                // Only lo has ::1.
                if (address, interface) != ("::1", Some("eth0")) {
                    holders.push(Holder { protocol, role, address, v6only, interface });
                }
            }
        }
    }
    holders
}

/// Every bind that HAProxy may make of a port.
fn binds(protocol: Protocol, port: u16) -> Vec<Bind<'static>> {
    let mut binds = Vec::new();
    for (address, v6only) in ADDRESSES {
        for interface in INTERFACES {
            for uid in [0, OTHER_UID] {
                for reuse_port in [true, false] {
                    binds.push(Bind {
                        protocol,
                        address: address.parse().unwrap(),
                        port,
                        interface,
                        v6only,
                        reuse_port,
                        uid: Some(uid),
                    });
                }
            }
        }
    }
    binds
}

fn attempt(bind: &Bind<'_>) -> Value {
    json!({
        "protocol": bind.protocol.as_str(), "address": bind.address.to_string(),
        "port": bind.port, "v6only": bind.v6only, "interface": bind.interface, "uid": bind.uid,
        "reuse_address": true, "reuse_port": bind.reuse_port,
    })
}

/// The kernel's answers. `None`: the interface does not have that address.
fn attempts(binder: &mut Binder, binds: &[Bind<'_>]) -> Vec<Option<Answer>> {
    let specs: Vec<Value> = binds.iter().map(attempt).collect();
    let answers = binder.ask(&json!({ "attempts": specs }));
    let read = |answer: &Value| match answer.as_str().unwrap() {
        "free" => Some(Answer::Free),
        "EADDRINUSE" => Some(Answer::Blocked),
        "EADDRNOTAVAIL" => None,
        other => panic!("{other}"),
    };
    answers.as_array().unwrap().iter().map(read).collect()
}

/// The sockets that the kernel's tables show on a port.
fn on_port(network: &Location, port: u16) -> Vec<PortUse> {
    bind_trial::look(network, &BTreeSet::from([port]), &BTreeSet::new()).unwrap().uses.unwrap()
}

/// One case of the comparison: a socket as the tables show it, what is known of its options, and a
/// bind. Ports and inodes differ from trial to trial and are left out.
type Case = (String, String, String);

/// For every case the kernel's answers and the rule's answer.
#[derive(Default)]
struct Comparison {
    cases: BTreeMap<Case, (BTreeSet<bool>, Answer, bool)>,
    binds: usize,
}

impl Comparison {
    fn add(&mut self, used: &PortUse, bind: &Bind<'_>, reuse: Reuse, exact: bool, real: Answer) {
        let answer = bind.answer(used, reuse);
        let remote = used.remote.map(|(address, _)| (address, 1));
        let shown = PortUse { port: 1, inode: None, remote, ..used.clone() };
        let case = (
            format!("{shown:?}"),
            format!("{reuse:?}"),
            format!("{:?}", Bind { port: 1, ..*bind }),
        );
        let entry = self.cases.entry(case).or_insert((BTreeSet::new(), answer, exact));
        entry.0.insert(real == Answer::Free);
        assert_eq!(entry.1, answer, "the same case");
    }

    /// Adds a bind with all that may be known of the holder, and without what only some tables show.
    fn add_all(&mut self, used: &PortUse, bind: &Bind<'_>, options: (bool, bool), real: Answer) {
        self.binds += 1;
        let known = match options {
            (true, true) => Some(Reuse::Both),
            (false, false) => Some(Reuse::Neither),
            _ => None,
        };
        let in_procfs =
            PortUse { v6only: None, interface: None, receive_buffer_bytes: None, ..used.clone() };
        for reuse in [Some(Reuse::Unknown), known].into_iter().flatten() {
            self.add(used, bind, reuse, true, real);
            self.add(used, &Bind { uid: None, ..*bind }, reuse, false, real);
            self.add(&in_procfs, bind, reuse, false, real);
        }
    }

    /// The cases in which the rule differs from the kernel. Where the kernel has two answers, the rule
    /// must be unsure. Where it has one, the rule must not give the other, and must give it if `exact`.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (case, (real, answer, exact)) in &self.cases {
            let expected = match (real.contains(&true), real.contains(&false)) {
                (true, false) => Answer::Free,
                (false, true) => Answer::Blocked,
                _ => Answer::Unsure,
            };
            if *answer != expected && (*exact || *answer != Answer::Unsure) {
                wrong.push(format!("{case:?}: {answer:?}, not {expected:?}"));
            }
        }
        wrong
    }
}

struct World {
    here: Binder,
    elsewhere: Binder,
    network: Location,
    beds: [Bed; 2],
}

fn world() -> World {
    let beds = [Bed::new(), Bed::new()];
    for bed in &beds {
        bed.shell("ip link add eth0 type veth peer name eth1 && ip link set eth0 up");
    }
    let network = Location::At(beds[0].procfs().join("1/ns/net"));
    World { here: Binder::start(&beds[0]), elsewhere: Binder::start(&beds[1]), network, beds }
}

#[test]
fn every_answer_is_that_of_a_real_bind() {
    let mut world = world();
    let mut comparison = Comparison::default();
    for (number, holder) in holders().into_iter().enumerate() {
        for options in OPTIONS {
            let wanted = 20_000 + u16::try_from(number).unwrap();
            let port = world.here.ask(&json!({ "hold": holder.spec(options, wanted) }));
            let port = u16::try_from(port.as_u64().unwrap()).unwrap();
            let uses = on_port(&world.network, port);
            let [held] = uses.as_slice() else { panic!("{holder:?} {options:?}: {uses:?}") };
            assert_eq!(binding::only_sends(held), holder.role == "sending", "{holder:?}");
            let binds = binds(holder.protocol, port);
            let real = attempts(&mut world.here, &binds);
            for (bind, real) in binds.iter().zip(real) {
                if let Some(real) = real {
                    comparison.add_all(held, bind, options, real);
                }
            }
            world.here.ask(&json!({}));
        }
    }
    let Comparison { binds, cases } = &comparison;
    assert!(*binds > 15_000, "only {binds} binds were compared");
    let wrong = comparison.wrong();
    assert!(
        wrong.is_empty(),
        "{} of {}: {:#?}",
        wrong.len(),
        cases.len(),
        &wrong[..wrong.len().min(20)]
    );
}

/// A port number of another network namespace is another port: the tables do not show its holder
/// here, and the bind succeeds.
#[test]
fn a_holder_in_another_network_namespace_is_not_in_the_way() {
    let mut world = world();
    for holder in holders().iter().filter(|h| matches!(h.role, "listening" | "peerless")) {
        world.elsewhere.ask(&json!({ "hold": holder.spec((false, false), 20_000) }));
        assert_eq!(on_port(&world.network, 20_000), [], "{holder:?}");
        let binds = binds(holder.protocol, 20_000);
        let real = attempts(&mut world.here, &binds);
        assert!(real.iter().flatten().all(|answer| *answer == Answer::Free), "{holder:?}");
        world.elsewhere.ask(&json!({}));
    }
    drop(world.beds);
}

/// A connection beside a listener was accepted; one from a port of the kernel's choice is outgoing.
#[test]
fn the_direction_of_a_connection_is_known_from_what_is_beside_it() {
    let bed = Bed::new();
    let network = Location::At(bed.procfs().join("1/ns/net"));
    let (listener, client) = bed.inside(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:8080").unwrap();
        let client = std::net::TcpStream::connect("127.0.0.1:8080").unwrap();
        (listener, client)
    });
    let (accepted, _) = listener.accept().unwrap();
    let source = client.local_addr().unwrap().port();
    let range = 32768..=60999;
    let direction = |port| {
        let uses = on_port(&network, port);
        let connected = |used: &&PortUse| used.remote.is_some();
        let ephemeral = binding::Ephemeral { range: Some(&range), reserved: &[] };
        let connection = uses.iter().find(connected).unwrap();
        binding::is_outgoing(connection, &uses, ephemeral, false)
    };
    assert_eq!(direction(8080), Some(false));
    assert_eq!(direction(source), Some(true));
    drop(listener);
    // A child that another test is just forking may hold the listener for a moment.
    await_true("the listener's end, after which 8080 may be a bound source", || {
        direction(8080).is_none()
    });
    drop(accepted);
}
