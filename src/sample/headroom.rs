//! What the kernel allows and has left: ephemeral ports, memory, pids, cgroup limits.

use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::model::Headroom;

/// More than a list of every other port takes.
const LONGEST_SYSCTL: usize = 256 * 1024;

/// Ports given to outgoing connections, and those exempt from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EphemeralPorts {
    /// `net.ipv4.ip_local_port_range`, inclusive; it serves IPv6 too.
    pub range: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`.
    pub reserved: Vec<RangeInclusive<u16>>,
}

/// The sysctls of ephemeral ports (ip(7)) of one network namespace, held open.
///
/// An open sysctl goes on telling of the namespace it was opened in, from any thread, and does
/// not keep that namespace alive (`proc_sys_make_inode()`, `fs/proc/proc_sysctl.c`).
#[derive(Debug)]
pub struct EphemeralSysctls {
    range: File,
    reserved: File,
}

impl EphemeralSysctls {
    /// Opens them in the network namespace of the calling thread.
    pub fn open(procfs: &Path) -> io::Result<EphemeralSysctls> {
        let sysctl = |name| File::open(procfs.join("sys/net/ipv4").join(name));
        Ok(EphemeralSysctls {
            range: sysctl("ip_local_port_range")?,
            reserved: sysctl("ip_local_reserved_ports")?,
        })
    }

    /// What they say now.
    pub fn read(&self) -> io::Result<EphemeralPorts> {
        parse_ephemeral(&whole(&self.range)?, &whole(&self.reserved)?)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected sysctl text"))
    }
}

/// A sysctl answers one read with all it has room for, and nothing to the next: the room must do.
fn whole(sysctl: &File) -> io::Result<String> {
    let mut room = 4096;
    loop {
        let mut text = vec![0; room];
        let length = sysctl.read_at(&mut text, 0)?;
        if length < room || room >= LONGEST_SYSCTL {
            text.truncate(length);
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        room *= 8;
    }
}

fn parse_ephemeral(range: &str, reserved: &str) -> Option<EphemeralPorts> {
    let mut ends = range.split_ascii_whitespace().map(str::parse::<u16>);
    let range = ends.next()?.ok()?..=ends.next()?.ok()?;
    let reserved = reserved
        .trim()
        .split(',')
        .filter(|item| !item.is_empty())
        .map(|item| {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            Some(low.parse().ok()?..=high.parse().ok()?)
        })
        .collect::<Option<_>>()?;
    Some(EphemeralPorts { range, reserved })
}

/// What is left on the host (`/proc/meminfo`, `/proc/loadavg`, `kernel.pid_max`, `threads-max`).
#[must_use]
pub fn host_headroom(procfs: &Path) -> Headroom {
    let read = |name: &str| fs::read_to_string(procfs.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let memory_bytes = read("meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    });
    let threads = read("loadavg").and_then(|text| {
        let (_, total) = text.split_ascii_whitespace().nth(3)?.split_once('/')?;
        total.parse::<u64>().ok()
    });
    let limit = number("sys/kernel/pid_max").min_known(number("sys/kernel/threads-max"));
    let pids = threads.zip(limit).map(|(used, limit)| limit.saturating_sub(used));
    Headroom { memory_bytes, pids }
}

/// Where a process stands in each cgroup hierarchy (`/proc/PID/cgroup`, cgroups(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupPaths {
    unified: Option<String>,
    systemd: Option<String>,
    memory: Option<String>,
    pids: Option<String>,
}

impl CgroupPaths {
    /// Reads the lines `hierarchy:controllers:path`.
    #[must_use]
    pub fn parse(text: &str) -> CgroupPaths {
        let mut paths = CgroupPaths::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            for controller in controllers.split(',') {
                let slot = match controller {
                    "" => &mut paths.unified,
                    "name=systemd" => &mut paths.systemd,
                    "memory" => &mut paths.memory,
                    "pids" => &mut paths.pids,
                    _ => continue,
                };
                *slot = Some(path.to_owned());
            }
        }
        paths
    }

    /// The paths from the root of each hierarchy, where the reader, in a cgroup namespace of its
    /// own, sees them from its place: `/../..` leads from there. How far up the root is, is told by
    /// what it sees of `init`, whose cgroup is below no container's.
    #[must_use]
    pub fn from_root(self, init: &CgroupPaths) -> CgroupPaths {
        CgroupPaths {
            unified: from_root(self.unified, init.unified.as_deref()),
            systemd: from_root(self.systemd, init.systemd.as_deref()),
            memory: from_root(self.memory, init.memory.as_deref()),
            pids: from_root(self.pids, init.pids.as_deref()),
        }
    }

    /// The path that says most: the first that is not the root.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let all = [&self.unified, &self.systemd, &self.memory, &self.pids];
        let mut known = all.into_iter().filter_map(Option::as_deref);
        known.clone().find(|path| *path != "/").or_else(|| known.next())
    }

    /// What is left below `sysfs`/fs/cgroup, in this cgroup and all above it.
    #[must_use]
    pub fn headroom(&self, sysfs: &Path) -> Headroom {
        let root = sysfs.join("fs/cgroup");
        let v2_root = [root.join("unified"), root.clone()].into_iter().find(|p| p.is_dir());
        let v2 = |f: fn(&Path) -> Option<u64>| {
            tightest(v2_root.as_deref()?, self.unified.as_deref()?, f)
        };
        let v1 = |controller: &str, path: &Option<String>, f: fn(&Path) -> Option<u64>| {
            tightest(&root.join(controller), path.as_deref()?, f)
        };
        Headroom {
            memory_bytes: v2(v2_memory).min_known(v1("memory", &self.memory, v1_memory)),
            pids: v2(pids_left).min_known(v1("pids", &self.pids, pids_left)),
        }
    }
}

fn from_root(path: Option<String>, init: Option<&str>) -> Option<String> {
    let ups = |path: &str| path.split('/').skip(1).take_while(|part| *part == "..").count();
    let (own, whole) = (ups(path.as_deref()?), ups(init.unwrap_or_default()));
    if own == 0 || own != whole {
        return path; // beside the reader, or below a cgroup whose name it cannot know
    }
    let path = path?;
    let rest = path.get("/..".len() * own..).filter(|rest| !rest.is_empty());
    Some(rest.unwrap_or("/").to_owned())
}

/// The smallest of what `left` says of the cgroup and of each of its ancestors.
fn tightest(root: &Path, cgroup: &str, left: fn(&Path) -> Option<u64>) -> Option<u64> {
    if cgroup.split('/').any(|part| part == "..") {
        return None; // outside the reader's cgroup namespace
    }
    let leaf: PathBuf = root.join(cgroup.trim_start_matches('/'));
    leaf.ancestors().take_while(|path| path.starts_with(root)).filter_map(left).min()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn v2_memory(cgroup: &Path) -> Option<u64> {
    let limit = number(&cgroup.join("memory.max"))?;
    let used = number(&cgroup.join("memory.current"))?;
    Some(limit.saturating_sub(used).saturating_add(reclaimable(cgroup, "inactive_file ")))
}

fn v1_memory(cgroup: &Path) -> Option<u64> {
    let limit = number(&cgroup.join("memory.limit_in_bytes"))?;
    let used = number(&cgroup.join("memory.usage_in_bytes"))?;
    let unlimited = limit >= u64::MAX / 4;
    let left = || limit.saturating_sub(used) + reclaimable(cgroup, "total_inactive_file ");
    (!unlimited).then(left)
}

/// Page cache that the kernel gives back before it runs out.
fn reclaimable(cgroup: &Path, field: &str) -> u64 {
    let text = fs::read_to_string(cgroup.join("memory.stat")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(field)?.parse().ok()).unwrap_or(0)
}

fn pids_left(cgroup: &Path) -> Option<u64> {
    let limit = number(&cgroup.join("pids.max"))?; // "max" is no number
    Some(limit.saturating_sub(number(&cgroup.join("pids.current"))?))
}

/// The smaller of two numbers either of which may be unknown.
pub trait MinKnown {
    /// The smaller, or the one that is known.
    #[must_use]
    fn min_known(self, other: Self) -> Self;
}

impl MinKnown for Option<u64> {
    fn min_known(self, other: Self) -> Self {
        self.into_iter().chain(other).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_texts_are_read() {
        let read = parse_ephemeral("32768\t60999\n", "8080,9000-9010\n").unwrap();
        assert_eq!(read.range, 32768..=60999);
        assert_eq!(read.reserved, [8080..=8080, 9000..=9010]);
        assert_eq!(parse_ephemeral("1 2", "\n").unwrap().reserved, []);
        assert_eq!(parse_ephemeral("1 70000", "\n"), None);
    }

    #[test]
    fn the_cgroup_that_says_most_names_the_process() {
        let hybrid = "4:memory:/lb\n1:name=systemd:/system.slice/haproxy.service\n0::/\n";
        let table = [
            ("0::/system.slice/a.service\n", Some("/system.slice/a.service")),
            (hybrid, Some("/system.slice/haproxy.service")),
            ("8:pids:/\n0::/\n", Some("/")),
            ("", None),
        ];
        for (text, name) in table {
            assert_eq!(CgroupPaths::parse(text).name(), name, "{text:?}");
        }
    }

    #[test]
    fn cgroups_are_told_from_the_root() {
        let init = CgroupPaths::parse("4:memory:/../..\n0::/../../../init.scope\n");
        let table = [
            ("0::/../../../system.slice/a.service\n", "/system.slice/a.service"),
            ("4:memory:/../../lb\n", "/lb"),
            ("4:memory:/../..\n", "/"),
            ("0::/../neighbour\n", "/../neighbour"), // below what it shares with the reader
            ("0::/mine\n", "/mine"),
            ("8:pids:/../x\n", "/../x"), // init is not in that hierarchy
        ];
        for (text, path) in table {
            let paths = CgroupPaths::parse(text).from_root(&init);
            assert_eq!(paths.name(), Some(path), "{text:?}");
        }
    }
}
