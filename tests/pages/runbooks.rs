//! The runbooks' commands are run as they stand, on a host such as an alert is about: a master that was reloaded, and an
//! old worker that drains. What a runbook shows as their answers are samples; those of `inspect` in
//! `## What inspect shows` are held by `tests/samples`.

use regex::{Captures, Regex};

use super::blocks::{Block, NOT_RUN, blocks};
use super::host::Host;
use super::support::*;

/// Why a block may be left out.
const REASONS: [&str; 1] = ["it needs systemd.*"];

struct Reloaded {
    host: Host,
    /// The old worker.
    stale: i32,
    /// The exporter, and the parent of a zombie.
    _others: [Running; 2],
    _server: DeafServer,
    _clients: [Flow; 2],
}

impl Reloaded {
    fn new() -> Self {
        let host = Host::new();
        host.bed.shell(
            "mkdir /run/haproxy && cd /etc/haproxy && ln -s haproxy.cfg h.cfg && ln -s /run/haproxy.pid h.pid
             cat >haproxy.cfg <<END
global
    stats socket /run/haproxy/admin.sock
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen one
    bind 127.0.0.1:8080
    server one 127.0.0.1:9000
END",
        );
        let server = DeafServer::start(&host.bed, "127.0.0.1:9000");
        let start = "haproxy -W -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg -S /run/haproxy-master.sock";
        assert_eq!(host.shell(start).0, 0);
        let worker = |except: Option<i32>| {
            let (_, said) = host.shell("pgrep -P $(cat /run/haproxy.pid)");
            said.lines().filter_map(|pid| pid.parse().ok()).find(|pid| Some(*pid) != except)
        };
        let stale = await_some("the worker", || worker(None));
        let clients = [0, 1].map(|_| Flow::held_by(&host.bed, "127.0.0.1:8080", stale));
        clients[0].half_close();
        let (code, said) = host.shell("haproxy-host-exporter backup create --haproxy lbagent");
        assert_eq!(code, 0, "{said}");
        host.shell("kill -USR2 $(cat /run/haproxy.pid)");
        await_some("the new worker", || worker(Some(stale)));
        let mut parent = host.bed.command("sh");
        parent.args(["-c", "true & exec sleep 600"]);
        let others = [host.serve(), host.bed.start(parent, "parent.log")];
        await_true("the old worker to drain", || {
            let (_, said) = host.shell("haproxy-host-exporter inspect --haproxy lbagent");
            said.contains("draining")
        });
        Self { host, stale, _others: others, _server: server, _clients: clients }
    }

    /// The command with what is of this host: the pid of the old process for any pid, and the names.
    fn fill(&self, command: &str) -> String {
        let pid = Regex::new(r"(/proc/|pid=|kill -USR1 |@!)\d+").unwrap();
        let command =
            pid.replace_all(command, |found: &Captures<'_>| format!("{}{}", &found[1], self.stale));
        let names = [("HAPROXY", "lbagent"), ("FILE", "/etc/haproxy-host-exporter/config.yaml")];
        names.into_iter().fold(command.into_owned(), |command, (name, own)| {
            Regex::new(&format!(r"\b{name}\b")).unwrap().replace_all(&command, own).into_owned()
        })
    }

    /// What is wrong with a block: a command fails, or says nothing where the runbook shows an answer.
    fn faults(&self, block: &Block) -> Vec<String> {
        let mut faults = Vec::new();
        for command in block.commands() {
            let own = self.fill(&command);
            let (code, said) = self.host.shell(&format!("cd /etc/haproxy && {own}"));
            // A problem on the host is no failure of these.
            let good = if own.starts_with("haproxy-host-exporter") { 0..=1 } else { 0..=0 };
            let answer = block
                .content
                .lines()
                .skip_while(|line| line.strip_prefix("$ ") != Some(&command))
                .nth(1)
                .is_some_and(|line| !line.starts_with("$ "));
            if !good.contains(&code) || answer && said.trim().is_empty() {
                faults.push(format!("{}: {own}: exit code {code}\n{said}", block.place()));
            }
        }
        faults
    }
}

#[test]
fn the_commands_of_the_runbooks_can_be_run_as_they_stand() {
    let host = Reloaded::new();
    let mut faults = Vec::new();
    let mut count = 0;
    for block in blocks().iter().filter(|block| block.is_of_a_runbook()) {
        if block.commands().is_empty() {
            faults.push(format!("{}: no command", block.place()));
        }
        if let Some(reason) = block.mark.strip_prefix(NOT_RUN) {
            let needs_it =
                block.content.contains("systemctl") || block.content.contains("journalctl");
            if !REASONS.contains(&reason) || !needs_it {
                faults.push(format!("{}: {reason}", block.place()));
            }
            continue;
        }
        faults.extend(host.faults(block));
        count += 1;
    }
    assert!(count > 40, "only {count} blocks were run");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
