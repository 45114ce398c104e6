//! The cgroups of a process, and the headroom that they leave to it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::Headroom;

/// The cgroup of a process in each hierarchy (`/proc/PID/cgroup`, cgroups(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupPaths {
    unified: Option<String>,
    systemd: Option<String>,
    memory: Option<String>,
    pids: Option<String>,
}

impl CgroupPaths {
    /// Parses the lines `hierarchy:controllers:path`.
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

    /// Converts paths that the kernel shows relative to the exporter's own cgroup (`/../..`),
    /// because the exporter is in a cgroup namespace of its own, to paths from the root of the
    /// hierarchy. The paths of `init`, which is in no container, show how far up the root is.
    #[must_use]
    pub fn from_root(self, init: &CgroupPaths) -> CgroupPaths {
        CgroupPaths {
            unified: from_root(self.unified, init.unified.as_deref()),
            systemd: from_root(self.systemd, init.systemd.as_deref()),
            memory: from_root(self.memory, init.memory.as_deref()),
            pids: from_root(self.pids, init.pids.as_deref()),
        }
    }

    /// The most specific path: the first that is not the root.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let all = [&self.unified, &self.systemd, &self.memory, &self.pids];
        let mut known = all.into_iter().filter_map(Option::as_deref);
        known.clone().find(|path| *path != "/").or_else(|| known.next())
    }

    /// The path of a process that has ended and is not reaped. Only the unified hierarchy keeps it: the
    /// others show their root; `None` if it cannot be known.
    #[must_use]
    pub fn name_of_dead(&self) -> Option<&str> {
        self.unified.as_deref().filter(|path| *path != "/")
    }

    /// The headroom of this cgroup and all of its ancestors, by the files below `sysfs`/fs/cgroup.
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
            memory_bytes: v2(v2_memory)
                .into_iter()
                .chain(v1("memory", &self.memory, v1_memory))
                .min(),
            pids: v2(pids_left).into_iter().chain(v1("pids", &self.pids, pids_left)).min(),
        }
    }
}

fn from_root(path: Option<String>, init: Option<&str>) -> Option<String> {
    let ups = |path: &str| path.split('/').skip(1).take_while(|part| *part == "..").count();
    let (own, whole) = (ups(path.as_deref()?), ups(init.unwrap_or_default()));
    if own == 0 || own != whole {
        return path; // beside the exporter, or below a cgroup whose name the exporter cannot know
    }
    let path = path?;
    let rest = path.get("/..".len() * own..).filter(|rest| !rest.is_empty());
    Some(rest.unwrap_or("/").to_owned())
}

/// The smallest value that `left` reads from a cgroup and from each of its ancestors.
fn tightest(root: &Path, cgroup: &str, left: fn(&Path) -> Option<u64>) -> Option<u64> {
    if cgroup.split('/').any(|part| part == "..") {
        return None; // outside the exporter's cgroup namespace
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

/// The page cache that the kernel reclaims before memory runs out.
fn reclaimable(cgroup: &Path, field: &str) -> u64 {
    let text = fs::read_to_string(cgroup.join("memory.stat")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(field)?.parse().ok()).unwrap_or(0)
}

fn pids_left(cgroup: &Path) -> Option<u64> {
    let limit = number(&cgroup.join("pids.max"))?; // absent, or the word "max": no limit
    Some(limit.saturating_sub(number(&cgroup.join("pids.current"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_cgroup_names_the_process() {
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
    fn only_the_unified_hierarchy_remembers_the_dead() {
        let table = [
            ("0::/system.slice/a.service\n", Some("/system.slice/a.service")),
            ("4:memory:/\n1:name=systemd:/\n0::/user.slice\n", Some("/user.slice")),
            ("4:memory:/\n0::/\n", None),
        ];
        for (text, name) in table {
            assert_eq!(CgroupPaths::parse(text).name_of_dead(), name, "{text:?}");
        }
    }

    #[test]
    fn relative_cgroups_are_converted() {
        let init = CgroupPaths::parse("4:memory:/../..\n0::/../../../init.scope\n");
        let table = [
            ("0::/../../../system.slice/a.service\n", "/system.slice/a.service"),
            ("4:memory:/../../lb\n", "/lb"),
            ("4:memory:/../..\n", "/"),
            ("0::/../neighbour\n", "/../neighbour"), // below what it shares with the exporter
            ("0::/mine\n", "/mine"),
            ("8:pids:/../x\n", "/../x"), // init is not in that hierarchy
        ];
        for (text, path) in table {
            let paths = CgroupPaths::parse(text).from_root(&init);
            assert_eq!(paths.name(), Some(path), "{text:?}");
        }
    }
}
