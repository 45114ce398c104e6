//! What `inspect` says, cut to the cause in question, with stand-ins for what differs from run to run.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::support::{Bed, Exporter, await_some, text};

/// The pids of a bed begin here. All have four digits, so that lines break at the same words in each run,
/// and no scene uses a port between this and [`LAST_PID`].
const FIRST_PID: u32 = 4100;
const LAST_PID: u32 = 4999;

/// Lets the pids of a bed begin where the stand-ins do.
pub fn number_pids(bed: &Bed) {
    bed.shell(&format!("echo {FIRST_PID} >/proc/sys/kernel/ns_last_pid"));
}

/// The one kind that a single run of `inspect` calls pending: a process is a zombie when it was one in the
/// sample before, too.
const PENDING: &str = "process_zombie";

/// The block for a kind: `inspect`'s first sentence, and the lines of the cause. It is taken when nothing
/// else is pending and two runs in a row say the same.
pub fn take(bed: &Bed, kind: &str, configuration: &str) -> String {
    let file = bed.write("exporter.yaml", configuration).display().to_string();
    let mut last = None;
    await_some(kind, || {
        let output =
            Exporter::command(bed, &["inspect", "--config.file", &file, "--haproxy", "lbagent"]);
        let said = text(&output.stdout);
        let now = block(&said, kind).map(|block| with_stand_ins(&block));
        let settled =
            now.clone().filter(|_| now == last && said.contains(", pending") == (kind == PENDING));
        last = now;
        settled
    })
}

/// The first sentence and the cause; `None` when `inspect` does not name it.
fn block(said: &str, kind: &str) -> Option<String> {
    let (sentence, rest) = said.split_once("\n\n")?;
    let mut lines = rest.lines().skip_while(|line| line.split(' ').nth(1) != Some(kind));
    let head = lines.next()?;
    let below = lines.take_while(|line| line.starts_with(' '));
    let cause: Vec<&str> = std::iter::once(head).chain(below).collect();
    Some(format!(
        "$ haproxy-host-exporter inspect --haproxy lbagent\n{sentence}\n\n{}\n",
        cause.join("\n")
    ))
}

/// Ages become 40 s, and pids the first numbers after [`FIRST_PID`], in the order of the processes' age.
fn with_stand_ins(block: &str) -> String {
    let age = Regex::new(r"\bfor (\d+m )?\d+s\b").unwrap();
    let block = age.replace_all(block, "for 40s");
    let number = Regex::new(r"\b4\d{3}\b").unwrap();
    let is_pid = |number: &u32| (FIRST_PID + 1..=LAST_PID).contains(number);
    let pids: BTreeSet<u32> = number
        .find_iter(&block)
        .map(|found| found.as_str().parse().unwrap())
        .filter(is_pid)
        .collect();
    let names: BTreeMap<String, String> = pids
        .iter()
        .zip(FIRST_PID + 1..)
        .map(|(pid, name)| (pid.to_string(), name.to_string()))
        .collect();
    let renamed = number.replace_all(&block, |found: &regex::Captures<'_>| {
        names.get(&found[0]).cloned().unwrap_or_else(|| found[0].to_owned())
    });
    renamed.into_owned()
}
