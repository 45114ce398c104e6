//! Parses HAProxy's command line (management guide, chapter 3; `init_args()` in `src/haproxy.c`).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use crate::model::Process;

/// The parts of a command line that matter from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The configuration files and directories of `-f` and after `--`, in order.
    pub files: Vec<String>,
    /// The directory of `-C`, which HAProxy changes to before it reads the files.
    pub directory: Option<String>,
    /// The pidfile of `-p`.
    pub pidfile: Option<String>,
    /// The master socket of `-S`, with its bind options.
    pub master_socket: Option<String>,
    /// The socket of `-x`, from which HAProxy takes listeners over.
    pub transfer_socket: Option<String>,
    /// The local peer's name of `-L`.
    pub local_peer: Option<String>,
    /// `-D`: HAProxy becomes a daemon.
    pub daemon: bool,
    /// `-W` or `-Ws`: HAProxy runs as a master with workers.
    pub master_worker: bool,
    /// `-Ws`: the master stays in the foreground and notifies systemd.
    pub notifies: bool,
    /// The `-d…` switches without their dash, such as `dR` and `db`.
    pub switches: BTreeSet<String>,
    /// The pids after `-sf` or `-st`, as in the process's own pid namespace; `None` if neither is given.
    pub replaces: Option<Vec<i32>>,
    /// `-c`, `-cc`, `-v`, `-vv` or `-h`: HAProxy answers and exits.
    pub only_answers: bool,
    /// The arguments that a reload keeps: all but `-sf`, `-st`, `-x` and their operands.
    pub kept: Vec<String>,
}

impl CommandLine {
    /// Parses arguments, the program's name first, as `init_args()` does: it knows most flags by
    /// their first letter, so that `-VV`, `-W1` and `-file` are `-V`, `-W` and `-f`. `None` if HAProxy
    /// would refuse the arguments.
    #[must_use]
    pub fn parse(arguments: &[String]) -> Option<CommandLine> {
        let mut line = CommandLine::default();
        let mut rest = arguments.iter().skip(1).map(String::as_str).peekable();
        while let Some(argument) = rest.next() {
            let flag = argument.strip_prefix('-')?;
            // A reload keeps everything but the lists of pids and the transfer socket.
            let mut kept = vec![argument.to_owned()];
            let mut operand = || {
                let value = rest.next()?.to_owned();
                kept.push(value.clone());
                Some(value)
            };
            let mut letters = flag.chars();
            match (letters.next(), letters.next()) {
                (Some('d'), Some('t')) => {
                    // A trace's settings may follow as a word of their own.
                    kept.extend(rest.next_if(|next| !next.starts_with('-')).map(str::to_owned));
                }
                (Some('d'), Some('b')) => drop(line.switches.insert("db".to_owned())),
                (Some('d'), _) => drop(line.switches.insert(flag.to_owned())),
                (Some('c'), Some('c')) => {
                    operand()?;
                    line.only_answers = true;
                }
                (Some('c' | 'v' | 'h'), _) => line.only_answers = true,
                (Some('D'), _) => line.daemon = true,
                (Some('W'), next) => {
                    line.master_worker = true;
                    line.notifies |= next == Some('s');
                }
                (Some('V' | 'q'), _) => {}
                (Some('x'), _) => {
                    line.transfer_socket = Some(rest.next()?.to_owned());
                    continue;
                }
                (Some('s'), Some('f' | 't')) => {
                    let pids = line.replaces.get_or_insert_default();
                    while let Some(pid) = rest.next_if(|next| !next.starts_with('-')) {
                        pids.push(pid.trim().parse().ok().filter(|&pid| pid > 0)?);
                    }
                    continue;
                }
                (Some('-'), None) => {
                    kept.extend(rest.by_ref().map(str::to_owned));
                    line.files.extend(kept.iter().skip(1).cloned());
                }
                (Some('S'), _) => line.master_socket = Some(operand()?),
                (Some('f'), _) => line.files.push(operand()?),
                (Some('C'), _) => line.directory = Some(operand()?),
                (Some('p'), _) => line.pidfile = Some(operand()?),
                (Some('L'), _) => line.local_peer = Some(operand()?),
                (Some('n' | 'N' | 'm'), _) => drop(operand()?),
                _ => return None,
            }
            line.kept.append(&mut kept);
        }
        Some(line)
    }

    /// The limits `-n`, `-N` and `-m` with their operands.
    #[must_use]
    pub fn limits(&self) -> Vec<String> {
        let is_limit = |flag: &str| {
            let letter = flag.strip_prefix('-').and_then(|flag| flag.chars().next());
            matches!(letter, Some('n' | 'N' | 'm'))
        };
        let pairs = self.kept.windows(2).filter(|pair| pair.first().is_some_and(|f| is_limit(f)));
        pairs.flatten().cloned().collect()
    }

    /// The directory that relative names start from: that of `-C`, which a new process has not
    /// entered yet and which a chroot hides, else the one that the process was started in.
    #[must_use]
    pub fn launch_directory(&self, process: &Process) -> Option<PathBuf> {
        let entered = self.directory.as_deref().map(Path::new).filter(|d| d.is_absolute());
        entered.map(Path::to_owned).or_else(|| process.launch_directory())
    }

    /// Resolves `path` against `base`, the directory that HAProxy was started in.
    #[must_use]
    pub fn resolve(base: Option<&Path>, path: &str) -> Option<PathBuf> {
        let path = Path::new(path);
        let joined = if path.is_absolute() { path.to_owned() } else { base?.join(path) };
        Some(without_dots(&joined))
    }
}

/// Removes `.` components. `..` stays, because its meaning depends on links.
fn without_dots(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<CommandLine> {
        let arguments: Vec<_> = line.split_ascii_whitespace().map(str::to_owned).collect();
        CommandLine::parse(&arguments)
    }

    #[test]
    fn the_ways_haproxy_is_started() {
        let lbagent =
            parse("haproxy -D -p /run/p -C /etc/lb -f /etc/lb -sf 12 13 -x /run/s").unwrap();
        assert!(lbagent.daemon && !lbagent.master_worker);
        assert_eq!(lbagent.pidfile.as_deref(), Some("/run/p"));
        assert_eq!(lbagent.directory.as_deref(), Some("/etc/lb"));
        assert_eq!(lbagent.replaces, Some(vec![12, 13]));
        assert_eq!(lbagent.transfer_socket.as_deref(), Some("/run/s"));
        assert_eq!(lbagent.kept.join(" "), "-D -p /run/p -C /etc/lb -f /etc/lb");

        let worker =
            parse("haproxy -sf 4139 -x sockpair@3 -Ws -S /run/m,level,admin -f a -- b c").unwrap();
        assert!(worker.master_worker);
        assert_eq!(worker.files, ["a", "b", "c"]);
        assert_eq!(worker.kept.join(" "), "-Ws -S /run/m,level,admin -f a -- b c");
    }

    #[test]
    fn a_bare_sf_replaces_no_process() {
        assert_eq!(parse("haproxy -f a -sf").unwrap().replaces, Some(vec![]));
        assert_eq!(parse("haproxy -sf -f a").unwrap().replaces, Some(vec![]));
        assert_eq!(parse("haproxy -f a").unwrap().replaces, None);
    }

    #[test]
    fn runs_that_only_answer() {
        for line in
            ["haproxy -c -f a", "haproxy -v", "haproxy -vv", "haproxy -cc version_atleast(2)"]
        {
            assert!(parse(line).unwrap().only_answers, "{line}");
        }
        assert!(!parse("haproxy -db -dM -f a").unwrap().only_answers);
    }

    #[test]
    fn flags_are_known_by_their_first_letters() {
        for line in ["-VV -f a", "-qq -f a", "-file a", "-pid p -f a", "-dt all -f a", "-n4 9 -f a"]
        {
            let read = parse(&format!("haproxy {line}")).unwrap();
            assert_eq!(read.files, ["a"], "{line}");
            assert!(!read.only_answers, "{line}");
        }
        assert_eq!(parse("haproxy -pid p -f a").unwrap().pidfile.as_deref(), Some("p"));
        assert!(parse("haproxy -Db -f a").unwrap().daemon);
        assert!(parse("haproxy -W1 -f a").unwrap().master_worker);
        assert!(parse("haproxy -Wsx -f a").unwrap().notifies);
        assert!(parse("haproxy -dbx -f a").unwrap().switches.contains("db"));
        assert!(parse("haproxy -check -f a").unwrap().only_answers);
    }

    #[test]
    fn arguments_that_haproxy_refuses_are_not_haproxys() {
        for line in [
            "sh /usr/sbin/haproxy -f a",
            "haproxy -f",
            "haproxy -sf x",
            "haproxy -sf 0",
            "haproxy -s 1",
            "grep -r haproxy",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn paths_resolve_against_the_launch_directory() {
        let resolve = |base, path| CommandLine::resolve(base, path);
        assert_eq!(resolve(None, "/a/./b"), Some("/a/b".into()));
        assert_eq!(resolve(Some(Path::new("/etc")), "./a.cfg"), Some("/etc/a.cfg".into()));
        assert_eq!(resolve(None, "a.cfg"), None);
    }
}
