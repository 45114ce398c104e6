//! Parses the few fields of `/proc/PID/status` (proc_pid_status(5)) that matter: it is read for
//! each process in each sample, and has sixty lines.

use crate::model::{Signals, UserIds};

/// The fields that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The state of its first thread, one letter (`State`).
    pub run_state: char,
    /// Its user ids (`Uid`).
    pub users: UserIds,
    /// Its pid in each pid namespace, from the exporter's to its own (`NSpid`); empty before Linux
    /// 4.1.
    pub namespace_pids: Vec<i32>,
    /// Its pending (`SigPnd`, `ShdPnd`), blocked (`SigBlk`) and caught (`SigCgt`) signals.
    pub signals: Signals,
    /// The pid of the process that traces it, or 0 (`TracerPid`).
    pub tracer: i32,
    /// Its anonymous resident memory (`RssAnon`); a zombie has none.
    pub anonymous_memory_bytes: Option<u64>,
}

impl Status {
    /// Parses the file; `None` if a field that every kernel has is missing or malformed.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Status> {
        let mut status = Status::default();
        let mut found = 0;
        // The process chooses its name, and the kernel escapes line ends in it.
        for line in text.split(|&byte| byte == b'\n') {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let (field, value) = line.split_at(colon);
            let value = || std::str::from_utf8(value.get(1..)?).ok();
            let mask = || u64::from_str_radix(value()?.trim(), 16).ok();
            match field {
                b"State" => status.run_state = value()?.trim_start().chars().next()?,
                b"Uid" => {
                    let mut ids = value()?.split_ascii_whitespace().map(str::parse);
                    let mut next = || ids.next()?.ok();
                    status.users = UserIds { real: next()?, effective: next()?, saved: next()? };
                }
                b"SigPnd" | b"ShdPnd" => status.signals.pending |= mask()?,
                b"SigBlk" => status.signals.blocked = mask()?,
                b"SigCgt" => status.signals.caught = mask()?,
                b"TracerPid" => status.tracer = value()?.trim().parse().ok()?,
                b"NSpid" => {
                    let pids = value()?.split_ascii_whitespace();
                    status.namespace_pids =
                        pids.map(|pid| pid.parse().ok()).collect::<Option<_>>()?;
                    continue;
                }
                b"RssAnon" => {
                    let kibibytes: u64 = value()?.trim().strip_suffix("kB")?.trim().parse().ok()?;
                    status.anonymous_memory_bytes = kibibytes.checked_mul(1024);
                    continue;
                }
                _ => continue,
            }
            found += 1;
        }
        (found == 7).then_some(status)
    }
}

/// The groups of a process (`Gid`, all four, and `Groups`), each once.
#[must_use]
pub fn groups(text: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let lists = lines.filter(|(field, _)| matches!(*field, "Gid" | "Groups"));
    let mut groups: Vec<u32> = lists
        .flat_map(|(_, list)| list.split_ascii_whitespace().filter_map(|id| id.parse().ok()))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use procfs::FromRead as _;

    const TEXT: &str = "Name:\tha\\nUid:\t7\\n\nUmask:\t0022\nState:\tS (sleeping)\nPid:\t4711\nTracerPid:\t99\n\
                        Uid:\t0\t107\t107\t107\nGid:\t0\t0\t0\t0\nNSpid:\t4711\t12\nVmRSS:\t  9000 kB\n\
                        RssAnon:\t    8192 kB\nSigPnd:\t0000000000000200\nShdPnd:\t0000000000000800\n\
                        SigBlk:\t0000000000000001\nSigCgt:\tffff\n";

    #[test]
    fn fields_are_taken_from_their_lines() {
        let status = Status::parse(TEXT.as_bytes()).unwrap();
        let pending = Signals::SIGUSR1 | Signals::SIGUSR2;
        let signals = Signals { pending, blocked: 1, caught: 0xffff };
        assert_eq!(
            status,
            Status {
                run_state: 'S',
                users: UserIds { real: 0, effective: 107, saved: 107 },
                namespace_pids: vec![4711, 12],
                signals,
                tracer: 99,
                anonymous_memory_bytes: Some(8 << 20),
            }
        );
        let zombie: Vec<&str> = TEXT.lines().filter(|line| !line.starts_with("Rss")).collect();
        let zombie = Status::parse(zombie.join("\n").as_bytes()).unwrap();
        assert_eq!(zombie.anonymous_memory_bytes, None);
        let fields = ["State:", "Uid:", "TracerPid:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigCgt:"];
        for needed in fields {
            let without: Vec<&str> = TEXT.lines().filter(|l| !l.starts_with(needed)).collect();
            assert_eq!(Status::parse(without.join("\n").as_bytes()), None, "{needed}");
        }
        assert_eq!(Status::parse(b"Uid:\t0\tx\t0\t0\n"), None);
        assert_eq!(Status::parse(b"\xff\xfe:\n"), None);
    }

    #[test]
    fn groups_are_gathered() {
        let text = "Name:\tGroups:\t7\nGid:\t50\t50\t50\t50\nGroups:\t4 50 1000 \n";
        assert_eq!(groups(text.as_bytes()), [4, 50, 1000]);
    }

    /// The procfs crate parses all of the file.
    #[test]
    fn it_agrees_with_the_procfs_crate() {
        let text = std::fs::read("/proc/self/status").unwrap();
        // Both parse the same text: a thread blocks signals for a moment while it starts a process.
        let known = procfs::process::Status::from_read(text.as_slice()).unwrap();
        let status = Status::parse(&text).unwrap();
        assert_eq!((status.users.real, status.users.effective), (known.ruid, known.euid));
        assert_eq!(Some(status.namespace_pids), known.nspid);
        assert_eq!(status.signals.blocked, known.sigblk);
        assert_eq!((status.signals.caught, status.tracer), (known.sigcgt, known.tracerpid));
        assert!(status.anonymous_memory_bytes.is_some());
    }
}
