//! Reads the variables that HAProxy's master writes into the environment of its re-execs and workers.
//!
//! The format is that of `mworker_proc_list_to_env()` in `src/mworker.c`. The field `failedreloads` is
//! ignored, because versions differ in when they reset it.

use crate::model::Environment;

/// A master's reload number: 0 at its start, and one more with each reload that it tries.
pub type ReloadNumber = u32;

/// The reload number in `HAPROXY_PROCESSES`: the master's own `type=m` entry.
///
/// In a worker it is the number of the generation that the worker belongs to. It is 0 without the
/// variable, as in the first generation; `None` if the variable cannot be parsed.
#[must_use]
pub fn reload_number(environment: &Environment) -> Option<ReloadNumber> {
    let Some(list) = environment.get("HAPROXY_PROCESSES") else { return Some(0) };
    let master = list.split('|').find(|entry| field(entry, "type") == Some("m"))?;
    field(master, "reloads")?.parse().ok()
}

/// Whether HAProxy writes this variable itself, so that it does not show how a process was started.
#[must_use]
pub fn is_own_variable(name: &str) -> bool {
    let own = ["PROCESSES", "LOCALPEER", "CFGFILES", "CLI", "MASTER_CLI", "BRANCH"];
    name.strip_prefix("HAPROXY_").is_some_and(|rest| {
        own.contains(&rest)
            || ["MWORKER", "STARTUP_VERSION", "STARTUPLOGS"].iter().any(|o| rest.starts_with(o))
            || rest.ends_with("_LOG_FMT")
            || rest.ends_with("_CLF_LOG_FMT")
    })
}

/// Whether the process is a master that has reloaded, or was started by one.
#[must_use]
pub fn is_of_master(environment: &Environment) -> bool {
    environment.get("HAPROXY_PROCESSES").is_some()
}

/// Whether the process is a master that has re-executed itself and still reads its configuration (2.5
/// to 3.0).
///
/// `HAPROXY_MWORKER_WAIT_ONLY` marks a master at rest. From 3.1 on the worker reads the configuration,
/// and the master has neither variable.
#[must_use]
pub fn master_is_loading(environment: &Environment) -> bool {
    environment.get("HAPROXY_MWORKER_REEXEC").is_some()
        && environment.get("HAPROXY_MWORKER_WAIT_ONLY").is_none()
        && version(environment).is_none_or(|version| version_number(&version) < (3, 1))
}

/// HAProxy's version, from `HAPROXY_STARTUP_VERSION` or from a worker's entry.
#[must_use]
pub fn version(environment: &Environment) -> Option<String> {
    if let Some(version) = environment.get("HAPROXY_STARTUP_VERSION") {
        return Some(version.to_owned());
    }
    let list = environment.get("HAPROXY_PROCESSES")?;
    let versions = list.split('|').filter_map(|entry| field(entry, "version"));
    versions.filter(|v| v.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).next()
}

fn version_number(version: &str) -> (u32, u32) {
    let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn field<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    entry.split(';').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// As seen in a 2.6 master at rest after one reload, and in a 3.2 worker.
    const MASTER_2_6: &str = "|type=w;fd=4;pid=4171;reloads=0;failedreloads=0;timestamp=1795349509;id=;version=2.6.12-1+deb12u4|type=m;fd=-1;pid=4136;reloads=1;failedreloads=0;timestamp=1795349508;id=;version=(null)";
    const WORKER_3_2: &str = "|type=m;fd=5;cfd=6;pid=4234;reloads=7;failedreloads=0;timestamp=1795349513;id=;version=|type=w;fd=3;cfd=-1;pid=4237;reloads=1;failedreloads=0;timestamp=1795349513;id=;version=3.2.26-1";

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let pairs = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
        Environment(Arc::new(pairs.collect()))
    }

    #[test]
    fn the_reload_number_is_the_masters() {
        let number = |list| reload_number(&environment(&[("HAPROXY_PROCESSES", list)]));
        assert_eq!(number(MASTER_2_6), Some(1));
        assert_eq!(number(WORKER_3_2), Some(7));
        assert_eq!(number("|type=w;pid=3"), None);
        assert_eq!(reload_number(&environment(&[])), Some(0));
    }

    #[test]
    fn the_version_is_a_workers() {
        let of = |pairs: &[_]| version(&environment(pairs));
        assert_eq!(of(&[("HAPROXY_PROCESSES", MASTER_2_6)]).unwrap(), "2.6.12-1+deb12u4");
        assert_eq!(of(&[("HAPROXY_PROCESSES", WORKER_3_2)]).unwrap(), "3.2.26-1");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_master_loads_until_it_waits() {
        let reexec = ("HAPROXY_MWORKER_REEXEC", "1");
        let table: [(&[_], bool); 4] = [
            (&[reexec, ("HAPROXY_STARTUP_VERSION", "2.6.12")], true),
            (&[reexec, ("HAPROXY_MWORKER_WAIT_ONLY", "1")], false),
            (&[reexec, ("HAPROXY_STARTUP_VERSION", "3.2.26-1")], false),
            (&[], false),
        ];
        for (pairs, loading) in table {
            assert_eq!(master_is_loading(&environment(pairs)), loading, "{pairs:?}");
        }
    }
}
