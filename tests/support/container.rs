//! A container in a bed: pid, mount, network, ipc, uts and cgroup namespaces of its own, with its
//! own root, `/proc` and `/run`, as a runtime makes them.

use std::process::Command;

use super::bed::text;
use super::{Bed, Running, await_some, tool};

/// What runs in it dies with its bed.
pub struct Container<'b> {
    bed: &'b Bed,
    /// Pid of its init in the bed.
    pub init: i32,
}

impl<'b> Container<'b> {
    /// Its host name is `name`.
    pub fn start(bed: &'b Bed, name: &str) -> Self {
        Self::with_volumes(bed, name, &[])
    }

    /// The same, with these directories of the bed mounted in it, each at its second name.
    pub fn with_volumes(bed: &'b Bed, name: &str, volumes: &[(&str, &str)]) -> Self {
        let root = bed.directory().join(name);
        let root = root.display();
        let mounts: Vec<String> = volumes
            .iter()
            .map(|(from, to)| format!("mkdir -p {root}{to} && mount --rbind {from} {root}{to} && "))
            .collect();
        let mounts = mounts.concat();
        let script = format!(
            "hostname {name} && ip link set lo up && mkdir {root} && mount --bind / {root} && \
             mount -t tmpfs none {root}/run && mkdir {root}/run/old && \
             mount --rbind /dev {root}/dev && mount -t proc proc {root}/proc && {mounts}\
             cd {root} && {} . run/old && umount -l /run/old && rmdir /run/old && \
             exec {} -- sleep infinity",
            tool("pivot_root"),
            tool("tini"),
        );
        let before = bed.pids_of("tini");
        let log = bed.directory().join(format!("{name}.log"));
        let mut command = bed.command("setsid");
        command
            .args(["--fork", "sh", "-c", "log=$1; shift; exec \"$@\" >$log 2>&1", "sh"])
            .arg(&log)
            .args(["unshare", "--pid", "--mount", "--net", "--ipc", "--uts", "--cgroup", "--fork"])
            .args(["--kill-child", "sh", "-c", &script]);
        assert!(command.status().unwrap().success());
        let init = await_some("the container's init", || {
            let failed = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(failed.is_empty(), "the container did not come up: {failed}");
            // Not the bed's own, which may only now become one.
            bed.pids_of("tini").into_iter().find(|pid| *pid != 1 && !before.contains(pid))
        });
        Self { bed, init }
    }

    /// A command that will run in it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.bed.command(tool("nsenter"));
        command
            .arg(format!("--target={}", self.init))
            .args(["--pid", "--mount", "--net", "--ipc", "--uts", "--cgroup", "--"])
            .arg(program);
        command
    }

    /// Starts a command made by [`Container::command`].
    pub fn start_command(&self, command: Command, log: &str) -> Running {
        self.bed.start(command, log)
    }

    /// Runs a shell line in it and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn shell(&self, line: &str) -> String {
        let output = self.command("sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Writes a file in it, at an absolute path.
    pub fn write(&self, path: &str, content: &str) {
        let inside = format!("/proc/{}/root{path}", self.init);
        let through = self.bed.procfs().join(inside.trim_start_matches("/proc/"));
        std::fs::write(through, content).unwrap();
    }
}
