//! `backup` is killed at each system call that writes, or finds the disk full there: what was there before
//! stays whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;

/// System calls that change a file system.
const WRITING: &str = "write,pwrite64,mkdirat,mkdir,renameat,renameat2,rename,unlinkat,unlink,linkat,symlinkat,\
    fsync,fdatasync,syncfs,fchmod,fchmodat,fchown,fchownat,ftruncate,utimensat,fsetxattr,fremovexattr";
const FILES: usize = 10;

/// A HAProxy that reads ten files, without a bed of its own for each run.
struct Tree<'b> {
    bed: &'b Bed,
    service: Service<'b>,
    store: PathBuf,
}

impl<'b> Tree<'b> {
    fn new(bed: &'b Bed) -> Tree<'b> {
        let service = Service::new(bed, Version::V3_2, Manner::Daemon);
        let tree = Tree { bed, store: bed.directory().join("store"), service };
        let maps = (1..FILES).map(|number| {
            let path = tree.map(number);
            fs::write(&path, old(number)).unwrap();
            format!("    http-request set-var(txn.a{number}) src,map({})\n", path.display())
        });
        let maps: String = maps.collect();
        let text = format!(
            "defaults\n    mode http\n    timeout client 1h\n    timeout connect 1s\n    timeout server 1h\n\
             frontend f\n    bind 127.0.0.1:8001\n{maps}"
        );
        tree.service.configure_raw(&text);
        tree.service.start();
        tree
    }

    fn map(&self, number: usize) -> PathBuf {
        self.service.path(&format!("{number}.map"))
    }

    fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let store = self.store.display().to_string();
        ["backup"]
            .iter()
            .chain(arguments)
            .chain(&["--to", store.as_str()])
            .map(|word| (*word).to_owned())
            .collect()
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output =
            self.bed.command(Exporter::binary()).args(self.arguments(arguments)).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs it under strace. Only its first thread is traced, which does all the writing.
    fn traced(&self, strace: &[&str], arguments: &[&str]) -> Command {
        let mut command = self.bed.command(tool("strace"));
        command
            .args(["-f", "--seccomp-bpf", "-qq", "-o"])
            .arg(self.bed.directory().join("strace.log"))
            .args(strace);
        command.arg(Exporter::binary()).args(self.arguments(arguments));
        command
    }

    /// How often each system call that writes is made.
    fn counts(&self, arguments: &[&str]) -> BTreeMap<String, usize> {
        let trace = format!("trace={WRITING}");
        let output = self.traced(&["-e", &trace], arguments).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        let log = fs::read_to_string(self.bed.directory().join("strace.log")).unwrap();
        let mut counts = BTreeMap::new();
        for line in log.lines().filter(|line| !line.contains("resumed>")) {
            if let Some((name, _)) = line.split_once('(') {
                *counts.entry(name.to_owned()).or_default() += 1;
            }
        }
        counts
    }

    /// Kills it at each of these calls, and looks after each.
    fn at_each_call(&self, arguments: &[&str], prepare: impl Fn(), look: impl Fn(&str)) {
        prepare();
        let counts = self.counts(arguments);
        let total: usize = counts.values().sum();
        assert!(total > 3 * FILES, "{counts:?}");
        let mut killed = 0;
        for (call, count) in counts {
            for number in 1..=count {
                prepare();
                let inject = format!("inject={call}:signal=KILL:when={number}");
                let status = self.traced(&["-e", &inject], arguments).output().unwrap().status;
                killed += usize::from(!status.success());
                look(&format!("{call} {number}"));
            }
        }
        assert_eq!(killed, total, "each call is made again in each run");
    }

    /// Lets each write find the disk full, and looks after each; `was_done`: the run ended with 0.
    fn at_each_full_disk(&self, arguments: &[&str], prepare: impl Fn(), look: impl Fn(&str, bool)) {
        prepare();
        let counts = self.counts(arguments);
        for call in ["write", "mkdirat", "renameat", "fsync"] {
            for number in 1..=counts.get(call).copied().unwrap_or_default() {
                prepare();
                let inject = format!("inject={call}:error=ENOSPC:when={number}");
                let output = self.traced(&["-e", &inject], arguments).output().unwrap();
                let said = text(&output.stderr);
                let was_done = output.status.code() == Some(0);
                assert!(was_done || said.contains("No space left"), "{call} {number}: {said}");
                look(&format!("{call} {number}"), was_done);
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.run(&["list"])
            .lines()
            .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
            .collect()
    }
}

fn old(number: usize) -> String {
    format!("192.0.2.{number} old\n").repeat(number)
}

fn new(number: usize) -> String {
    format!("192.0.2.{number} new and longer\n").repeat(10)
}

#[test]
fn a_backup_that_was_killed_is_not_there() {
    let bed = Bed::new();
    let tree = Tree::new(&bed);
    tree.run(&["create"]);
    let first = tree.names().remove(0);
    let keep = |names: Vec<String>| {
        for name in names.iter().filter(|name| **name != first) {
            fs::remove_dir_all(tree.store.join(name)).unwrap();
        }
    };
    tree.at_each_call(
        &["create"],
        || keep(tree.names()),
        |at| {
            let names = tree.names();
            assert_eq!(names.first(), Some(&first), "{at}");
            // What has its name is whole: its manifest lists every file, and each has its bytes.
            for name in &names {
                whole(&tree.store.join(name), at);
            }
        },
    );
    keep(tree.names());
    tree.run(&["verify", &first]);
    let left = fs::read_dir(&tree.store)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains("partial"));
    let left: Vec<_> = left.collect();
    tree.run(&["create"]);
    let swept = fs::read_dir(&tree.store)
        .unwrap()
        .flatten()
        .all(|entry| !entry.file_name().to_string_lossy().contains("partial"));
    assert!(swept, "the next run sweeps away {left:?}");
}

#[test]
fn a_backup_for_which_the_disk_has_no_room_is_not_there() {
    let bed = Bed::new();
    let tree = Tree::new(&bed);
    tree.run(&["create"]);
    let first = tree.names().remove(0);
    let prepare = || {
        for name in tree.names().iter().filter(|name| **name != first) {
            fs::remove_dir_all(tree.store.join(name)).unwrap();
        }
    };
    tree.at_each_full_disk(&["create"], prepare, |at, was_done| {
        let names = tree.names();
        assert!(names.contains(&first), "{at}");
        assert!(!was_done || names.len() == 2, "{at}: it says that it is done");
        for name in &names {
            whole(&tree.store.join(name), at);
        }
    });
    tree.run(&["verify", &first]);
}

#[track_caller]
fn whole(backup: &Path, at: &str) {
    let text =
        fs::read(backup.join("manifest.json")).unwrap_or_else(|error| panic!("{at}: {error}"));
    let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let files =
        manifest["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "file");
    let mut count = 0;
    for entry in files {
        let path = Path::new(entry["path"].as_str().unwrap()).strip_prefix("/").unwrap();
        let size = fs::metadata(backup.join("files").join(path)).unwrap().len();
        assert_eq!(Some(size), entry["size"].as_u64(), "{at}: {}", path.display());
        count += 1;
    }
    assert_eq!(count, FILES, "{at}");
}

#[test]
fn a_restore_that_was_killed_leaves_no_half_written_file() {
    let bed = Bed::new();
    let tree = Tree::new(&bed);
    tree.run(&["create"]);
    let first = tree.names().remove(0);
    tree.run(&["verify", &first]);
    let prepare = || {
        for name in tree.names().iter().filter(|name| **name != first) {
            fs::remove_dir_all(tree.store.join(name)).unwrap();
        }
        for number in 1..FILES {
            fs::write(tree.map(number), new(number)).unwrap();
        }
    };
    tree.at_each_call(&["restore", &first, "--root", "/", "--execute"], prepare, |at| {
        for number in 1..FILES {
            let found = fs::read_to_string(tree.map(number)).unwrap();
            assert!(
                found == old(number) || found == new(number),
                "{at}: {number}.map is {found:?}"
            );
        }
    });
    // Whatever the last one left, the restore can be done.
    tree.run(&["restore", &first, "--execute"]);
    for number in 1..FILES {
        assert_eq!(fs::read_to_string(tree.map(number)).unwrap(), old(number));
    }
    tree.run(&["verify", &first]);
}

/// The safety backup and each file are written beside first, so that a full disk leaves the old file or the new one.
#[test]
fn a_restore_for_which_the_disk_has_no_room_leaves_no_half_written_file() {
    let bed = Bed::new();
    let tree = Tree::new(&bed);
    tree.run(&["create"]);
    let first = tree.names().remove(0);
    tree.run(&["verify", &first]);
    let prepare = || {
        for name in tree.names().iter().filter(|name| **name != first) {
            fs::remove_dir_all(tree.store.join(name)).unwrap();
        }
        for number in 1..FILES {
            fs::write(tree.map(number), new(number)).unwrap();
        }
    };
    let arguments = ["restore", &first, "--root", "/", "--execute"];
    tree.at_each_full_disk(&arguments, prepare, |at, was_done| {
        for number in 1..FILES {
            let found = fs::read_to_string(tree.map(number)).unwrap();
            let is_whole = found == old(number) || (!was_done && found == new(number));
            assert!(is_whole, "{at}: {number}.map is {found:?}");
        }
    });
    tree.run(&["restore", &first, "--execute"]);
    tree.run(&["verify", &first]);
}
