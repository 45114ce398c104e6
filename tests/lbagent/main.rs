//! Cloudpods' load balancer agent on a real HAProxy: change after change of its listeners, and the faults of
//! the founding reports between them. docs/cloudpods.md says in a table what each of them makes the exporter
//! say; its rows are proved here.
//!
//! `LBAGENT_CHANGES` is how many changes are played; `tests/lbagent/run` plays 200.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::float_cmp)] // counts on a page are small whole numbers

#[path = "../support/mod.rs"]
mod support;

mod agent;

use std::collections::BTreeSet;
use std::fs;

use agent::Agent;
use support::proxies::{BROKEN, something_down, something_wrong, stale};
use support::*;

/// Where lbagent's listeners of a VPC are; HAProxy reaches its servers from the same address.
const ADDRESS: &str = "169.254.0.107";
/// The ephemeral range, widened as on hosts with many connections: only so the kernel gives out 30885.
const RANGE: &str = "30000 60999";
/// Changes until each of the faults has come once more.
const ROUND: usize = 20;

/// The anomaly and the alert of each fault: the last two cells of the rows of the page.
const ROWS: [&str; 5] = [
    "| none | `HAProxyDrainingLong`, `HAProxyStaleProcessesPilingUp` ",
    "| none | none |",
    "| `port_blocked`, holder `haproxy outgoing` | `HAProxyDown`, `HAProxyPortBlocked` |",
    "| none | `HAProxyDown` |",
    "| `port_split` | `HAProxyPortSplit` |",
];

#[test]
fn v2_6() {
    replay(Version::V2_6);
}

#[test]
fn v3_4() {
    replay(Version::V3_4);
}

#[test]
fn the_pages_have_what_the_faults_make_the_exporter_say() {
    for page in ["docs/cloudpods.md", "docs/cloudpods.zh.md"] {
        let path = format!("{}/{page}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();
        let rows = text.rsplit_once("|---|---|---|\n").unwrap().1.lines();
        let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), ROWS.len(), "{page}");
        for (row, said) in rows.iter().zip(ROWS) {
            assert!(row.contains(said), "{page}: {row} does not have {said}");
        }
    }
}

fn replay(version: Version) {
    let changes = std::env::var("LBAGENT_CHANGES").map_or(ROUND, |number| number.parse().unwrap());
    let bed = Bed::new();
    bed.shell(&format!("ip addr add {ADDRESS}/32 dev lo"));
    bed.sysctl("ipv4/ip_local_port_range", RANGE);
    let _echo = EchoServer::start(&bed, &format!("{ADDRESS}:9000"));
    let mut replay = Replay { bed: &bed, agent: Agent::new(&bed, version), ports: BTreeSet::new() };
    replay.change(0);
    assert!(replay.apply());
    let exporter = Exporter::configured(&bed, &replay.policy());
    let recorder = exporter.record();
    for change in 1..=changes {
        replay.change(change);
        assert!(replay.apply(), "change {change}");
        replay.await_calm(&exporter);
        if is_fault(change) {
            recorder.never("an anomaly without a fault", something_wrong);
            recorder.never("a haproxy down without a fault", something_down);
            replay.provoke(change, &exporter);
            replay.await_calm(&exporter);
            recorder.forget();
        }
    }
    exporter.await_samples(2);
    recorder.never("an anomaly without a fault", something_wrong);
    recorder.never("a haproxy down without a fault", something_down);
}

/// Whether a fault follows this change.
fn is_fault(change: usize) -> bool {
    [3, 7, 11, 14, 17].contains(&(change % ROUND))
}

struct Replay<'b> {
    bed: &'b Bed,
    agent: Agent<'b>,
    ports: BTreeSet<usize>,
}

impl Replay<'_> {
    /// The shipped policy for lbagent, with this bed's pidfile and graces that can be waited for.
    fn policy(&self) -> String {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/policy/lbagent.yaml");
        let mut policy = fs::read_to_string(shipped).unwrap();
        let pidfile = self.agent.service.pidfile().display().to_string();
        for (from, to) in [
            ("/opt/cloud/workspace/lbagent/run/haproxy.pid", pidfile.as_str()),
            ("listening: 30s", "listening: 0s"),
            ("idle: 1m", "idle: 0s"),
        ] {
            assert_eq!(policy.matches(from).count(), 1, "{from} in the policy");
            policy = policy.replace(from, to);
        }
        format!("defaults: {{stale_grace: 1s}}\n{policy}")
    }

    /// The listeners after this change: every third one takes the oldest away, the others add one.
    fn change(&mut self, number: usize) {
        if number % 3 == 2 {
            self.ports.pop_first();
        } else {
            self.ports.insert(20_000 + number);
        }
    }

    fn proxies(&self) -> String {
        let binds = self.ports.iter().map(|port| format!("    bind {ADDRESS}:{port}\n"));
        let binds: String = binds.collect();
        // The second proxy connects to its server when the client has sent something.
        format!(
            "listen many\n    mode tcp\n    server nobody 127.0.0.1:9\n{binds}\
             listen vpc\n    mode tcp\n    bind {ADDRESS}:8002\n    option nolinger\n    \
             tcp-request inspect-delay 1h\n    tcp-request content accept if {{ req.len gt 0 }}\n    \
             server echo {ADDRESS}:9000\n"
        )
    }

    fn apply(&mut self) -> bool {
        let proxies = self.proxies();
        self.agent.apply(&proxies)
    }

    /// The fault that follows this change.
    fn provoke(&mut self, change: usize, exporter: &Exporter<'_>) {
        match change % ROUND {
            3 => self.draining(exporter),
            7 => self.source_port_59044(exporter),
            11 => self.source_port_30885(exporter),
            14 => self.refused_configuration(exporter),
            _ => self.empty_pidfile(exporter),
        }
    }

    /// Every listener is bound, nothing is left of older processes, and nothing is wrong.
    #[track_caller]
    fn await_calm(&self, exporter: &Exporter<'_>) {
        let expected = f64::from(u32::try_from(self.ports.len() + 1).unwrap());
        exporter.await_page("the change and nothing else", |page| {
            let current = [("protocol", "tcp"), ("generation", "current")];
            page.is("haproxy_host_up", &[], 1.0)
                && page.sum("haproxy_host_bound_ports", &current) == expected
                && page.anomalies_are(&[])
                && stale(page) == 0.0
        });
    }

    /// A client of the serving process whose connection to the server has this source port.
    fn flow_from(&self, port: u16) -> Flow {
        let serving = self.agent.service.serving();
        let mut flow = Flow::held_by(self.bed, &format!("{ADDRESS}:8002"), serving);
        let beside = port + 1;
        self.bed.sysctl("ipv4/ip_local_port_range", &format!("{port} {beside}"));
        self.bed.sysctl("ipv4/ip_local_reserved_ports", &beside.to_string());
        flow.prove();
        await_true("the connection to the server", || self.bed.connections(serving) == 2);
        self.bed.sysctl("ipv4/ip_local_port_range", RANGE);
        self.bed.shell("echo >/proc/sys/net/ipv4/ip_local_reserved_ports");
        flow
    }

    /// Clients stay over reloads: old processes pile up, rightly.
    fn draining(&mut self, exporter: &Exporter<'_>) {
        let mut held = Vec::new();
        for count in 1..=3 {
            let serving = self.agent.service.serving();
            held.push(Flow::held_by(self.bed, &format!("{ADDRESS}:8002"), serving));
            assert!(self.apply());
            exporter.await_page("another that drains", |page| {
                page.stale("draining") == f64::from(count) && page.anomalies_are(&[])
            });
        }
        exporter.await_samples(7);
        assert!(exporter.page().anomalies_are(&[]));
        drop(held);
    }

    /// A number of a port that was deleted long ago, and that is no listener.
    fn source_port_59044(&mut self, exporter: &Exporter<'_>) {
        let flow = self.flow_from(59044);
        let page = exporter.await_samples(7);
        assert!(page.anomalies_are(&[]), "{}", page.brief());
        assert!(!page.label_values("haproxy_host_port_info", "port").contains("59044"));
        let said = self.ask(&["inspect", "--port", "59044"], None);
        assert!(said.contains("outgoing") && said.contains("30000-60999"), "{said}");
        drop(flow);
    }

    /// The number is the source port of a process that drains. The reload fails, and so does the start after
    /// it: everything is down.
    fn source_port_30885(&mut self, exporter: &Exporter<'_>) {
        let flow = self.flow_from(30885);
        assert!(self.apply());
        exporter.await_page("one that drains", |page| page.stale("draining") == 1.0);
        // Before the number is handed out: what holds it, and that the policy keeps it free.
        let port = format!("tcp/{ADDRESS}:30885");
        let said = self.ask(&["check", "--haproxy", "lbagent", "--port", &port], Some(1));
        assert!(said.contains("Kubernetes NodePort") && said.contains("a stale process"), "{said}");

        let new = format!("    bind {ADDRESS}:30885\n    server nobody 127.0.0.1:9\n");
        let proxies = self.proxies() + "listen new\n    mode tcp\n" + &new;
        assert!(!self.agent.apply(&proxies), "the port was free");
        let page = exporter.await_page("the blocked port", |page| {
            page.is("haproxy_host_up", &[], 0.0) && page.anomalies().contains("port_blocked")
        });
        let blocked: Vec<_> =
            page.all("haproxy_host_anomaly_info", &[("kind", "port_blocked")]).collect();
        assert_eq!(blocked.len(), 1, "{}", page.brief());
        assert_eq!(blocked[0].label("port"), "30885");
        assert_eq!(blocked[0].label("holder"), "haproxy outgoing", "{}", page.brief());
        drop(flow);
        exporter.await_page("the end of the holder", |page| stale(page) == 0.0);
        assert!(self.apply());
    }

    /// HAProxy refuses the file, to which the link leads already.
    fn refused_configuration(&mut self, exporter: &Exporter<'_>) {
        let proxies = self.proxies() + BROKEN;
        assert!(!self.agent.apply(&proxies), "the configuration was accepted");
        exporter.await_page("a haproxy down", |page| {
            page.is("haproxy_host_up", &[], 0.0) && page.anomalies_are(&[])
        });
        let link = self.agent.link().display().to_string();
        // No service runs these files while HAProxy is down, so that one has to be named.
        let binary = self.agent.service.binary.display().to_string();
        let said = self.ask(&["check", "-f", &link, "--binary", &binary], Some(1));
        assert!(said.contains("nonsense"), "{said}");
        assert!(self.apply());
    }

    /// The agent does not find the serving process, and starts another beside it; the next reload replaces
    /// only that one.
    fn empty_pidfile(&mut self, exporter: &Exporter<'_>) {
        let old = self.agent.service.serving();
        fs::write(self.agent.service.pidfile(), "").unwrap();
        for _ in 0..2 {
            assert!(self.apply());
            assert!(self.bed.listens(old));
            exporter.await_page("two that accept", |page| page.anomalies_are(&["port_split"]));
        }
        let state = self.bed.shell("mktemp -d -p /run reap.XXXXXX").trim().to_owned();
        let policy = self.bed.write("reap.yaml", &self.policy()).display().to_string();
        let (old, state) = (old.to_string(), format!("{state}/reap.json"));
        let reap = ["reap", "--haproxy", "lbagent", "--config.file", &policy];
        let said = self.ask(&reap, Some(1));
        assert!(said.contains(&old), "{said}");
        let execute = ["--pid", &old, "--execute", "--reap.state-file", &state];
        let said = self.ask(&[&reap[..], &execute].concat(), None);
        assert!(said.contains("SIGUSR1"), "{said}");
    }

    /// What a command says on both streams; `code` is its exit code, where it matters.
    #[track_caller]
    fn ask(&self, arguments: &[&str], code: Option<i32>) -> String {
        let policy = self.bed.directory().join("exporter.yaml").display().to_string();
        let mut words = arguments.to_vec();
        if !words.contains(&"--config.file") {
            words.extend(["--config.file", &policy]);
        }
        let output = Exporter::command(self.bed, &words);
        let said = text(&output.stdout) + &text(&output.stderr);
        if code.is_some() {
            assert_eq!(output.status.code(), code, "{arguments:?}: {said}");
        }
        said
    }
}
