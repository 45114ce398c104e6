//! The pages for people: every link inside the repository leads somewhere, and every block of commands is run by
//! a test, or says where a reader sees it why it is not.
//!
//! The line before a block of commands is one of these:
//!
//! - `<!-- run on a healthy host -->`, or `… on a broken host`: here, with exit code 0 for each command, or with those
//!   after a colon, such as `<!-- run on a broken host: 1, 0 -->`;
//! - `<!-- run by tests/FILE -->`: by that test, which names the page. At the head of a page it is about all its blocks;
//! - `*Not run by the tests: REASON.*`, for the reader.
//!
//! A block without commands is of a language such as `text` or `yaml`. The runbooks are left out: what `inspect` says in
//! them is staged by `tests/samples`, and their other blocks are of the host that has the trouble.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use support::*;

/// The languages of blocks that a shell would run; a block without a language is one.
const COMMANDS: [&str; 4] = ["", "console", "sh", "bash"];
const NOT_RUN: &str = "*Not run by the tests: ";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages, as the repository has them.
fn pages() -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.md"])
        .current_dir(root())
        .output()
        .unwrap();
    let pages: Vec<PathBuf> = text(&listed.stdout).lines().map(PathBuf::from).collect();
    assert!(pages.len() > 20, "{pages:?} {}", text(&listed.stderr));
    pages
}

fn read(page: &Path) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

/// The lines outside blocks.
fn prose(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    page.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(page).filter(|(_, line)| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept: String = title
            .chars()
            .filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter))
            .collect();
        let anchor = kept.replace(' ', "-");
        let mut number = 0;
        let mut unique = anchor.clone();
        while !found.insert(unique.clone()) {
            number += 1;
            unique = format!("{anchor}-{number}");
        }
    }
    found
}

#[test]
fn every_link_inside_the_repository_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages() {
        let content = read(&page);
        for (number, line) in prose(&content) {
            for target in link.captures_iter(line).map(|found| found[1].to_owned()) {
                if target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                seen += 1;
                let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
                // A link from the root is one to the exporter itself, not to a file.
                if path.starts_with('/') {
                    continue;
                }
                let file =
                    if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
                let exists = root().join(&file).exists();
                if !exists || !anchor.is_empty() && !anchors(&read(&file)).contains(anchor) {
                    broken.push(format!("{}:{}: {target}", page.display(), number + 1));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} links");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A block of commands.
#[derive(Debug)]
struct Block {
    page: PathBuf,
    line: usize,
    language: String,
    /// The line of text before it.
    mark: String,
    content: String,
}

impl Block {
    fn place(&self) -> String {
        format!("{}:{}", self.page.display(), self.line)
    }

    /// The commands: a script is one.
    fn commands(&self) -> Vec<String> {
        if self.language == "sh" || self.language == "bash" {
            return vec![self.content.clone()];
        }
        let mut commands: Vec<String> = Vec::new();
        for line in self.content.lines() {
            if let Some(command) = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")) {
                commands.push(command.to_owned());
            }
        }
        commands
    }
}

fn blocks() -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    for page in pages().into_iter().filter(|page| !page.starts_with("alerts/runbooks")) {
        let content = read(&page);
        let mut before = String::new();
        let mut inside: Option<Block> = None;
        for (number, line) in content.lines().enumerate() {
            let trimmed = line.trim_start();
            match (trimmed.strip_prefix("```"), inside.take()) {
                (Some(language), None) => {
                    inside = Some(Block {
                        page: page.clone(),
                        line: number + 1,
                        language: language.trim().to_owned(),
                        mark: before.clone(),
                        content: String::new(),
                    });
                }
                (Some(_), Some(block)) => found.push(block),
                (None, Some(mut block)) => {
                    block.content += trimmed;
                    block.content.push('\n');
                    inside = Some(block);
                }
                (None, None) if !trimmed.is_empty() => trimmed.clone_into(&mut before),
                (None, None) => {}
            }
        }
        assert!(inside.is_none(), "{}: a block does not end", page.display());
    }
    found.retain(|block| COMMANDS.contains(&block.language.as_str()));
    found
}

/// What a mark says: `run by tests/FILE`, or `run on a … host: CODES`.
fn said(mark: &str) -> Option<&str> {
    mark.strip_prefix("<!-- run ")?.strip_suffix(" -->")
}

/// The test that a page as a whole is run by.
fn test_of(page: &str) -> Option<&str> {
    page.lines().take(4).find_map(|line| said(line)?.strip_prefix("by "))
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let mut wrong = Vec::new();
    let all = blocks();
    assert!(all.len() > 10, "{all:#?}");
    for block in &all {
        let page = read(&block.page);
        let by = said(&block.mark).and_then(|said| said.strip_prefix("by ")).or(test_of(&page));
        let runs_here = said(&block.mark).is_some_and(|said| said.starts_with("on a "));
        if let Some(test) = by {
            let code = fs::read_to_string(root().join(test)).unwrap_or_default();
            let name = block.page.file_name().unwrap().to_string_lossy().into_owned();
            if !code.contains(&name) {
                wrong.push(format!("{}: {test} does not read {name}", block.place()));
            }
        } else if !runs_here && !block.mark.starts_with(NOT_RUN) {
            wrong.push(format!("{}: no mark, but {:?}", block.place(), block.mark));
        }
        if block.commands().is_empty() {
            wrong.push(format!("{}: no command", block.place()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A host with a HAProxy called lbagent, and with the places that the pages name.
struct Host {
    bed: Bed,
}

impl Host {
    fn new() -> Self {
        let bed = Bed::new();
        let etc = bed.directory().join("etc");
        let [programs, new] = ["programs", "new/usr/sbin"].map(|name| bed.directory().join(name));
        for folder in [&programs, &new] {
            fs::create_dir_all(folder).unwrap();
        }
        let link = |to: PathBuf, at: PathBuf| std::os::unix::fs::symlink(to, at).unwrap();
        link(Exporter::binary(), programs.join("haproxy-host-exporter"));
        link(Version::V3_0.binary(), programs.join("haproxy"));
        copy_program(Version::V3_2.binary(), new.join("haproxy"));
        bed.shell(&format!(
            "cp -a /etc {etc} && mount --bind {etc} /etc && rm -rf /etc/haproxy && mkdir /etc/haproxy
             mkdir -p /etc/haproxy-host-exporter && mount -t tmpfs -o mode=755 run /run",
            etc = etc.display()
        ));
        bed.shell(
            "mkdir -p /run/backups /run/textfiles && cat >/etc/haproxy-host-exporter/config.yaml <<END
defaults: {stale_grace: 1s, reap: {listening: 1s}}
haproxys: [{name: lbagent, match: {pidfile: /run/haproxy.pid}}]
backup: {directory: /run/backups}
END",
        );
        Self { bed }
    }

    /// It serves what its configuration declares.
    fn healthy() -> Self {
        let host = Self::new();
        host.configure("20000");
        assert_eq!(host.shell("haproxy -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg").0, 0);
        host
    }

    /// A reload has left a process behind, and its port is to be given to another listener.
    fn broken() -> Self {
        let host = Self::healthy();
        host.configure("20001");
        let reload = "haproxy -D -p /run/haproxy.pid -f /etc/haproxy/haproxy.cfg -sf 99999";
        assert_eq!(host.shell(reload).0, 0);
        // What is edited in the moment of a start may have been loaded by it.
        await_true("the reload to be a while ago", || {
            host.shell("[ -z \"$(find /run/haproxy.pid -newermt '2 seconds ago')\" ]").0 == 0
        });
        host.configure("20000");
        await_true("the blocked port", || {
            let (_, said) = host.shell("haproxy-host-exporter inspect --haproxy lbagent");
            said.contains("CRITICAL port_blocked")
        });
        host
    }

    fn configure(&self, port: &str) {
        self.bed.shell(&format!(
            "cat >/etc/haproxy/haproxy.cfg <<END
global
    noreuseport
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen one
    bind 127.0.0.1:{port}
    server none 127.0.0.1:9
END
             cp /etc/haproxy/haproxy.cfg /etc/haproxy/new.cfg"
        ));
    }

    /// Runs a command as root would at a prompt; gives its exit code and what it said.
    fn shell(&self, command: &str) -> (i32, String) {
        let folder = self.bed.directory();
        let path = format!("{}/programs:/usr/sbin:/usr/bin:/sbin:/bin", folder.display());
        let output = self
            .bed
            .command("sh")
            .args(["-c", &command.replace("/var/lib/prometheus/node-exporter", "/run/textfiles")])
            .env("PATH", path)
            .env("HAPROXY_HOST_EXPORTER_CONFIG_FILE", "/etc/haproxy-host-exporter/config.yaml")
            .env("new", "/etc/haproxy/new.cfg")
            .output()
            .unwrap();
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code().unwrap_or(-1), said)
    }
}

#[test]
fn the_commands_of_the_pages_do_what_their_marks_say() {
    let mut count = 0;
    for block in blocks() {
        let Some(said) = said(&block.mark).and_then(|said| said.strip_prefix("on a ")) else {
            continue;
        };
        let (host, codes) = said.split_once(": ").unwrap_or((said, ""));
        let host = match host {
            "healthy host" => Host::healthy(),
            "broken host" => Host::broken(),
            other => panic!("{}: no host {other:?}", block.place()),
        };
        let codes: Vec<i32> = codes
            .split(", ")
            .filter(|code| !code.is_empty())
            .map(|code| code.parse().unwrap())
            .collect();
        let commands = block.commands();
        assert!(codes.is_empty() || codes.len() == commands.len(), "{}: {codes:?}", block.place());
        for (place, command) in commands.iter().enumerate() {
            let wanted = codes.get(place).copied().unwrap_or(0);
            let (code, said) = host.shell(command);
            assert_eq!(code, wanted, "{}: {command}\n{said}", block.place());
            count += 1;
        }
    }
    assert!(count > 5, "only {count} commands were run");
}
