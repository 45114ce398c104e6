//! What may happen to a service: each act, and the anomalies that it justifies.

use std::time::{Duration, Instant};

use super::{Actor, PORTS, connect};
use crate::chance::Chance;
use crate::mode::{Act, Mode};
use crate::now;
use crate::support::*;

/// How long a master may outlive its worker before it is killed too.
const OUTLIVES: Duration = Duration::from_secs(20);

/// How long an anomaly may outlive its reason: the grace, some samples and a busy machine.
const AFTERMATH: f64 = 12.0;

/// The first of the pids that no process has.
const NO_PROCESS: i32 = 4_000_000;

/// How many acts the report of a fault names.
const RECENT: usize = 6;

impl Actor<'_> {
    /// Does one act.
    pub fn act(&self, act: Act, chance: &mut Chance) {
        self.remember(act);
        if !self.mode.is_master() && self.answers().is_none() {
            // From 3.1 on a reload that cannot bind leaves the socket of the old process shut.
            return self.kill(self.pid_in_file(), chance);
        }
        let shared = matches!(act, Act::Ports | Act::Bad | Act::Blocked);
        match act {
            // The other twin reads the same file, so it stays as it is.
            _ if shared && self.mode == Mode::Twin => self.reload("-sf", chance),
            Act::Stop => self.reload_again("-st", chance),
            Act::Burst => (0..2 + chance.below(3)).for_each(|_| self.reload_again("-sf", chance)),
            Act::Ports => {
                self.draw_ports(chance);
                let before = self.numbered();
                self.reload_again("-sf", chance);
                let is_anew = matches!((before, self.numbered()), (Some(a), Some(b)) if a < b);
                if self.mode.is_master() && !is_anew {
                    // A master overlooks SIGUSR2 while it starts, and tells no number then, so it may not have
                    // read the new ports yet.
                    for kind in ["port_missing", "port_undeclared"] {
                        self.justify(kind, f64::INFINITY);
                    }
                }
            }
            Act::Strand if self.mode.can_strand() => self.strand(chance),
            Act::Reload | Act::Strand => self.reload_again("-sf", chance),
            Act::Bad => self.bad(chance),
            Act::Blocked => self.blocked(chance),
            Act::Hold => self.hold(chance),
            Act::Release => {
                let clients = &mut self.state.lock().unwrap().clients;
                clients.drain(..clients.len().div_ceil(2));
            }
            Act::KillMaster if self.mode.is_master() => self.kill(self.pid_in_file(), chance),
            Act::Kill | Act::KillMaster => self.kill(self.answers(), chance),
        }
    }

    /// Keeps the last acts for the report.
    fn remember(&self, act: Act) {
        let acts = &mut self.state.lock().unwrap().acts;
        acts.push_back((now(), act));
        let old = acts.len().saturating_sub(RECENT);
        acts.drain(..old);
    }

    /// Writes a configuration that listens on other ports.
    fn draw_ports(&self, chance: &mut Chance) {
        let all: Vec<u16> = (0..PORTS).map(|place| self.port(place)).collect();
        self.state.lock().unwrap().ports = chance.some(&all);
        self.write(chance, "");
    }

    /// A reload after one that was blocked or overlooked binds what the file declares.
    fn reload_again(&self, flag: &str, chance: &mut Chance) {
        self.reload(flag, chance);
        for kind in ["port_undeclared", "port_missing"] {
            if self.justifies(kind, now()) {
                self.justify(kind, now() + AFTERMATH);
            }
        }
    }

    fn reload(&self, flag: &str, chance: &mut Chance) {
        if self.mode.is_master() {
            if let Some(master) = self.pid_in_file().filter(|pid| self.bed.is_alive(*pid)) {
                self.justify("reload_failed", now() + AFTERMATH);
                self.bed.run("kill", &["-USR2", &master.to_string()]);
                self.state.lock().unwrap().asked += 1;
            }
            std::thread::sleep(Duration::from_millis(200 + chance.below(300) as u64));
            return;
        }
        let Some(old) = self.answers() else { return };
        if let Some(new) = self.replace(old, &[flag, &old.to_string()]) {
            self.state.lock().unwrap().told.insert((old, new));
        }
    }

    /// Starts a daemon beside the one that answers; returns which one answers in its stead.
    fn replace(&self, old: i32, list: &[&str]) -> Option<i32> {
        let mut command = self.command();
        command.arg("-D");
        if self.mode == Mode::Transfer {
            command.arg("-x").arg(self.socket());
        }
        command.args(list);
        self.run(&mut command).then(|| {
            self.state.lock().unwrap().reloads += 1;
            // Its successor may answer only a moment later.
            await_some(&format!("{} after a reload", self.title()), || {
                self.answers().filter(|pid| *pid != old)
            })
        })
    }

    /// The old process is not told to stop, and is told so later, as `reap` does it.
    fn strand(&self, chance: &mut Chance) {
        let Some(old) = self.answers() else { return };
        let kinds = ["port_stale_listener", "port_undeclared", "port_split"];
        for kind in kinds {
            self.justify(kind, f64::INFINITY);
        }
        if chance.once_in(2) {
            self.draw_ports(chance);
        }
        let number = {
            let stranded = &mut self.state.lock().unwrap().stranded;
            stranded.insert(old);
            stranded.len()
        };
        let dead = NO_PROCESS + i32::try_from(number).unwrap();
        self.replace(old, &["-sf", &dead.to_string()]);
        std::thread::sleep(Duration::from_secs(chance.below(8) as u64));
        self.bed.run("kill", &["-USR1", &old.to_string()]);
        await_true("the stranded process to give its ports up", || !self.bed.listens(old));
        for kind in kinds {
            self.justify(kind, now() + AFTERMATH);
        }
    }

    fn bad(&self, chance: &mut Chance) {
        self.write(chance, "    nonsense here\n");
        self.justify("reload_failed", f64::INFINITY);
        self.refuse();
        self.reload("-sf", chance);
        std::thread::sleep(Duration::from_millis(chance.below(1000) as u64));
        self.write(chance, "");
        if self.mode.is_master() {
            self.reload("-sf", chance);
        }
    }

    fn blocked(&self, chance: &mut Chance) {
        let port = self.port(9);
        let line = format!("TCP-LISTEN:{port},bind=127.0.0.1");
        let mut command = self.enter("socat");
        command.args([&line, "EXEC:sleep 60"]);
        let mut thief = self.bed.start(command, &format!("thief-{}.log", self.index));
        let has_port = await_some("the thief's port or its end", || {
            let listens = self.bed.listens(thief.pid());
            (listens || thief.has_ended()).then_some(listens)
        });
        if !has_port {
            return; // a reload that was blocked before got the port in the end
        }
        self.write(chance, &format!("    bind 127.0.0.1:{port}\n"));
        self.justify("reload_failed", f64::INFINITY);
        self.justify("port_blocked", f64::INFINITY);
        // While it tries to bind, it pauses the listeners of the process that serves.
        self.justify("port_missing", f64::INFINITY);
        self.refuse();
        self.reload("-sf", chance);
        std::thread::sleep(Duration::from_millis(chance.below(1000) as u64));
        self.write(chance, "");
        self.justify("port_blocked", now() + AFTERMATH);
        self.justify("port_missing", now() + AFTERMATH);
        drop(thief);
        if self.mode.is_master() {
            // A master that still tries gets the port now, which the file no longer declares, and may
            // overlook the next SIGUSR2 while it starts.
            self.justify("port_undeclared", f64::INFINITY);
            self.reload("-sf", chance);
        }
    }

    fn hold(&self, chance: &mut Chance) {
        let Some(network) = self.network() else { return };
        let ports = self.state.lock().unwrap().ports.clone();
        for _ in 0..=chance.below(3) {
            let client = connect(&network, chance.one(&ports)).ok();
            self.state.lock().unwrap().clients.extend(client);
        }
    }

    /// Kills a process of it, waits until nothing of it serves, and starts it again.
    fn kill(&self, pid: Option<i32>, chance: &mut Chance) {
        let Some(pid) = pid else { return };
        for kind in ["process_orphan", "pidfile_mismatch", "reload_failed", "port_missing"] {
            self.justify(kind, f64::INFINITY);
        }
        let master = self.mode.is_master().then(|| self.pid_in_file()).flatten();
        let workers = master.map(|master| self.bed.children(master)).unwrap_or_default();
        self.bed.run("kill", &["-KILL", &pid.to_string()]);
        let gone = |pid: &i32| !self.bed.is_alive(*pid);
        let deadline = Instant::now() + OUTLIVES;
        while !(gone(&pid) && workers.iter().all(gone) && master.iter().all(gone)) {
            if Instant::now() > deadline {
                // A master that outlives its worker by its own choice (no-exit-on-failure).
                let left = workers.iter().chain(&master);
                for pid in left {
                    self.bed.run("kill", &["-KILL", &pid.to_string()]);
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.start(chance);
        for kind in ["process_orphan", "pidfile_mismatch", "reload_failed", "port_missing"] {
            self.justify(kind, now() + AFTERMATH);
        }
    }
}
