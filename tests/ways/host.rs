//! The host of the table: one bed in which every row runs, each in a directory with ports of its own.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::compare::Wrong;
use crate::row::Row;
use crate::support::{Bed, Exporter, Running, Version, View, await_within, fetch, installed};
use crate::truth::{self, RowTruth, ServiceTruth, Truth};

const PRELUDE: &str = include_str!("prelude.sh");

/// Rows that are started or reloaded at the same time.
const WORKERS: usize = 12;

/// How long a start, a reload or a sample may take while the whole table runs on a busy machine.
const SAMPLING: Duration = Duration::from_secs(90);

/// The number of ports that a row may use.
const PORTS: usize = 9;

/// Every row on one host.
pub struct Host<'r> {
    pub version: Version,
    rows: &'r [Row],
    bed: Bed,
    /// What each row has been seen to do.
    progress: Vec<Mutex<Progress>>,
    failures: Mutex<Vec<Wrong>>,
}

#[derive(Default)]
struct Progress {
    reloaded: bool,
    /// The row could not be started or reloaded: it has no truth.
    failed: bool,
    /// Pids that have answered, for each service.
    answered: Vec<BTreeSet<i32>>,
    /// Masters of those.
    masters: Vec<BTreeSet<i32>>,
    /// Clients that hold a connection.
    clients: Vec<TcpStream>,
}

impl<'r> Host<'r> {
    pub fn new(version: Version, rows: &'r [Row]) -> Self {
        let bed = Bed::new();
        bed.shell(
            "mkdir -p cgroup /run/netns && mount -t cgroup2 none cgroup && \
             mount -t tmpfs none /run/netns && mkdir -p /mnt/way && mount -t tmpfs none /mnt/way",
        );
        let progress = rows
            .iter()
            .map(|row| Progress {
                answered: vec![BTreeSet::new(); row.services.len()],
                masters: vec![BTreeSet::new(); row.services.len()],
                ..Progress::default()
            })
            .map(Mutex::new)
            .collect();
        Self { version, rows, bed, progress, failures: Mutex::default() }
    }

    /// The directory of a row.
    pub fn directory(&self, row: usize) -> PathBuf {
        self.bed.directory().join(format!("w{row}"))
    }

    /// Starts an exporter on a port of its own.
    pub fn exporter(&self, port: u16, configuration: &str) -> Running {
        let file = self.bed.write("exporter.yaml", configuration);
        // The sampling thread gives way by ten, so on a busy machine it would take minutes.
        let mut command = self.bed.command("nice");
        command
            .args(["-n", "-10"])
            .arg(Exporter::binary())
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.args(["--sample.interval=500ms", "--log.level=error", "--config.file"]).arg(file);
        let running = self.bed.start(command, &format!("exporter-{port}.log"));
        await_within(SAMPLING, "an exporter's first sample", || self.get(port, "/state.json"));
        running
    }

    /// The state of an exporter, from a sample that was begun after this call.
    pub fn view(&self, port: u16, exporter: &Running) -> View {
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let json: Value =
            await_within(SAMPLING, &format!("a new sample; log: {}", exporter.log()), || {
                let json: Value = serde_json::from_str(&self.get(port, "/state.json")?).ok()?;
                (json["taken_timestamp"].as_f64()? > now + 0.5).then_some(json)
            });
        View::read(&json)
    }

    /// What a fresh `inspect` says.
    pub fn inspect(&self) -> View {
        let file = self.bed.directory().join("exporter.yaml").display().to_string();
        let mut command = self.bed.command("nice");
        command.args(["-n", "-10"]).arg(Exporter::binary());
        command.args(["inspect", "--output", "json", "--config.file", &file]);
        let output = command.output().unwrap();
        let json = serde_json::from_slice(&output.stdout);
        View::read(&json.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
    }

    fn get(&self, port: u16, path: &str) -> Option<String> {
        self.bed.inside(|| fetch(&format!("127.0.0.1:{port}"), path))
    }

    /// Starts every service of every row and waits until each answers.
    pub fn start_all(&self) {
        self.for_each_row(|index, row| {
            fs::create_dir(self.directory(index)).unwrap();
            self.run(index, 0, &row.setup, &[])?;
            for (number, service) in row.services.iter().enumerate() {
                self.run(index, number, &service.start, &[])?;
                if !service.silent {
                    self.answer(index, number, &format!("service {number}"), |_| true)?;
                }
            }
            Ok(())
        });
    }

    /// Reloads the first service of every row that has a reload, under a client's connection.
    pub fn reload_all(&self) {
        self.for_each_row(|index, row| {
            if row.reload.is_empty() {
                return Ok(());
            }
            if row.hold {
                self.hold(index)?;
            }
            let old = *self.lock(index).answered[0].last().ok_or("nothing to reload")?;
            let processes = truth::processes(&self.bed);
            let own = processes.iter().find(|process| process.pid == old);
            let own = own.ok_or("the process to reload is gone")?;
            let master = truth::master(&processes, own).map_or(0, |master| master.own_pid);
            let numbers = [("OLD", own.own_pid.to_string()), ("MASTER", master.to_string())];
            self.run(index, 0, &row.reload, &numbers)?;
            self.lock(index).reloaded = true;
            for (number, service) in row.services.iter().enumerate() {
                let new = |pid| number != 0 || !row.replaces || pid != old;
                let frozen = row.frozen && number == 0;
                if !frozen && !row.down.contains(&number) && !service.silent {
                    self.answer(index, number, &format!("service {number} after the reload"), new)?;
                }
            }
            Ok(())
        });
    }

    /// Rows that could not be started or reloaded.
    pub fn failures(&self) -> Vec<Wrong> {
        std::mem::take(&mut self.failures.lock().unwrap())
    }

    /// Some rows could not be started or reloaded.
    pub fn has_failures(&self) -> bool {
        !self.failures.lock().unwrap().is_empty()
    }

    /// The truth now. Rows that could not be started have none.
    pub fn truth(&self) -> Truth {
        let processes = truth::processes(&self.bed);
        let rows = self.rows.iter().enumerate();
        let rows = rows.filter(|(index, _)| !self.lock(*index).failed);
        Truth { rows: rows.map(|(index, row)| self.row_truth(index, row, &processes)).collect() }
    }

    fn row_truth(&self, index: usize, row: &Row, processes: &[truth::Process]) -> RowTruth {
        let reloaded = self.lock(index).reloaded;
        let services = (0..row.services.len())
            .map(|number| self.service_truth(index, number, row, processes))
            .collect();
        let required = if reloaded { &row.anomalies[..] } else { &[] };
        RowTruth {
            way: row.way.clone(),
            services,
            required: required.iter().cloned().collect(),
            tolerated: row.tolerated.iter().cloned().collect(),
            unreadable: row.unreadable.clone(),
        }
    }

    fn service_truth(
        &self,
        index: usize,
        number: usize,
        row: &Row,
        processes: &[truth::Process],
    ) -> ServiceTruth {
        let progress = self.lock(index);
        let down = progress.reloaded && row.down.contains(&number);
        let serving = if down {
            None
        } else if row.frozen && progress.reloaded && number == 0 {
            progress.answered[number].last().copied()
        } else {
            self.ask(index, number, processes).map(|process| process.pid)
        };
        let alive = |pid: &i32| processes.iter().any(|process| process.pid == *pid);
        let current = |pid: i32| {
            let serving = serving.and_then(|pid| processes.iter().find(|own| own.pid == pid));
            serving.is_some_and(|own| own.parent == pid)
        };
        let states =
            if row.stale.is_empty() { vec!["draining".to_owned()] } else { row.stale.clone() };
        let mut old: BTreeSet<i32> = progress.answered[number].clone();
        old.retain(|pid| alive(pid) && serving != Some(*pid));
        let masters = progress.masters[number].iter().copied().filter(|pid| alive(pid));
        ServiceTruth {
            name: row.services[number].name.clone(),
            serving,
            down,
            masters: masters.map(|pid| (pid, down || current(pid))).collect(),
            old: old.into_iter().map(|pid| (pid, states.clone())).collect(),
        }
    }

    /// Waits until the service is answered for by a process that `fits`, and remembers it.
    fn answer(
        &self,
        index: usize,
        number: usize,
        what: &str,
        fits: impl Fn(i32) -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + SAMPLING;
        let (process, processes) = loop {
            let processes = truth::processes(&self.bed);
            if let Some(process) = self.ask(index, number, &processes)
                && fits(process.pid)
                && !self.is_unseen_haproxy(process.parent, &processes)
            {
                break (process.clone(), processes.clone());
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.directory(index).join("log")).unwrap_or_default();
                return Err(format!("{what} does not answer; {log}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        let mut progress = self.lock(index);
        progress.answered[number].insert(process.pid);
        if !self.rows[index].services[number].alone
            && let Some(master) = truth::master(&processes, &process)
        {
            progress.masters[number].insert(master.pid);
        }
        Ok(())
    }

    /// A master that executes itself anew has no environment for a moment, and so is not among the
    /// processes of its row.
    fn is_unseen_haproxy(&self, pid: i32, processes: &[truth::Process]) -> bool {
        let name = self.bed.process_file(pid, "comm").unwrap_or_default();
        name.trim_end() == "haproxy" && !processes.iter().any(|process| process.pid == pid)
    }

    /// The process that answers for a service.
    fn ask<'p>(
        &self,
        index: usize,
        number: usize,
        processes: &'p [truth::Process],
    ) -> Option<&'p truth::Process> {
        let service = &self.rows[index].services[number];
        let port = port(index, number + 1);
        let answer = match (&service.ask, &*service.via) {
            (Some(line), _) => self.print(index, number, line),
            (None, "") => self.bed.inside(|| fetch(&format!("127.0.0.1:{port}"), "/")),
            (None, via) => {
                self.print(index, number, &format!("{via} curl -s -m 2 http://127.0.0.1:{port}/"))
            }
        };
        let adopted = service.start == ":";
        truth::find(processes, index, number, adopted, answer?.trim().parse().ok()?)
    }

    /// A client sends half a request to the first service and waits.
    fn hold(&self, index: usize) -> Result<(), String> {
        const HALF: &[u8] = b"POST / HTTP/1.1\r\nHost: w\r\nContent-Length: 9\r\n\r\n";
        let service = &self.rows[index].services[0];
        let port = port(index, 1);
        if service.via.is_empty() {
            let client = self.bed.inside(|| TcpStream::connect(("127.0.0.1", port)));
            let mut client = client.map_err(|error| format!("no client: {error}"))?;
            client.write_all(HALF).unwrap();
            self.lock(index).clients.push(client);
            return Ok(());
        }
        self.run(index, 0, &format!("client {port} {}", service.via), &[])
    }

    fn run(
        &self,
        index: usize,
        number: usize,
        line: &str,
        more: &[(&str, String)],
    ) -> Result<(), String> {
        let log = self.directory(index).join("log");
        let file = fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.shell(index, number, &format!("set -e\n{line}"));
        for (name, value) in more {
            command.env(name, value);
        }
        let status = command.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        Err(format!("{status} of {}: {said}", line.trim()))
    }

    fn print(&self, index: usize, number: usize, line: &str) -> Option<String> {
        let output = self.shell(index, number, line).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn shell(&self, index: usize, number: usize, line: &str) -> std::process::Command {
        let mut command = self.bed.command("bash");
        let directory = self.directory(index);
        command.args(["-c", &format!("{PRELUDE}\ncd {}\n{line}", directory.display())]);
        command
            .env("D", &directory)
            .env("HAPROXY", self.version.binary())
            .env("OTHER", other(self.version))
            .env("CGROUPS", self.bed.directory().join("cgroup").join(self.group()))
            .env("WAY", format!("{index}.{number}"));
        for place in 1..=PORTS {
            command.env(format!("P{place}"), port(index, place).to_string());
        }
        command
    }

    /// The hierarchy of control groups is the machine's, so the host's part of it has a name of its own.
    fn group(&self) -> String {
        let name = self.bed.directory().file_name().unwrap().to_string_lossy().into_owned();
        format!("{name}.slice")
    }

    fn lock(&self, row: usize) -> std::sync::MutexGuard<'_, Progress> {
        self.progress[row].lock().unwrap()
    }

    fn for_each_row(&self, work: impl Fn(usize, &Row) -> Result<(), String> + Sync) {
        let begun = Instant::now();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let Some((index, row)) = {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        self.rows.get(index).map(|row| (index, row))
                    } {
                        if self.lock(index).failed {
                            continue;
                        }
                        if let Err(why) = work(index, row) {
                            self.lock(index).failed = true;
                            eprintln!("{}: {why}", row.way);
                            let wrong = Wrong::new(&row.way, "-", "the way itself", why);
                            self.failures.lock().unwrap().push(wrong);
                        }
                    }
                });
            }
        });
        let (version, count) = (self.version.name(), self.rows.len());
        eprintln!("{version}: {count} rows in {:?}", begun.elapsed());
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        // A group can be removed once nothing runs in it.
        let group = format!("cgroup/{}", self.group());
        let _ = self.bed.run(
            "sh",
            &["-c", &format!(
                "[ -d {group} ] || exit 0; for n in 1 2 3 4 5 6 7 8 9 10; do \
                 find {group} -name cgroup.procs -exec cat {{}} + | xargs -r kill -9 2>/dev/null; \
                 find {group} -depth -type d -exec rmdir {{}} + 2>/dev/null; [ -d {group} ] || break; sleep 0.1; done"
            )],
        );
    }
}

fn port(row: usize, place: usize) -> u16 {
    u16::try_from(11_000 + row * 10 + place).unwrap()
}

/// Another version, for ways that mix two: the one after, or the one before the newest.
fn other(version: Version) -> PathBuf {
    let mut names: Vec<String> = fs::read_dir(installed("haproxy"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let own = names.iter().position(|name| name == version.name()).unwrap();
    let other = names.get(own + 1).unwrap_or_else(|| &names[own - 1]);
    installed(&format!("haproxy/{other}/haproxy")).canonicalize().unwrap()
}
