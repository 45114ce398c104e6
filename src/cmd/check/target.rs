//! Finds which configurations to judge, and by which policy.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::host::{Host, LiveService};
use crate::cli::{Check, Options};
use crate::cmd::Error;
use crate::haproxy::config::Launch;
use crate::judge::verdict::Verdict;
use crate::model::{Unreadable, What};
use crate::policy::Policy;
use crate::policy::Rules;
use crate::sample::Source;
use crate::sample::files::config_files::{self, Base};
use crate::sample::paths::access::Reader;
use crate::watch::Watcher;

/// A configuration to judge.
#[derive(Debug, Clone)]
pub struct Target {
    /// The service whose policy and ports count.
    pub service: Option<String>,
    /// The policy to judge it by.
    pub rules: Rules,
    /// The files and directories to read.
    pub names: Vec<PathBuf>,
    /// The directory and root that those names start from.
    pub base: Base,
    /// How HAProxy is started with it.
    pub launch: Launch,
    /// What could not be read.
    pub unseen: Vec<Unreadable>,
}

/// Everything to judge, and the host that it is judged on.
#[derive(Debug)]
pub struct Targets {
    /// The configurations.
    pub list: Vec<Target>,
    /// The host.
    pub host: Host,
    /// What could not be read while looking for them.
    pub unseen: Vec<Unreadable>,
}

/// Looks at the host once. Returns the policy, the host with the services that live, and the verdict, which
/// also has the services that only the policy names.
///
/// `--haproxy` must name one that runs or is configured.
pub fn look(options: &Options, haproxy: Option<&str>) -> Result<(Policy, Host, Verdict), Error> {
    let config = crate::cmd::load(options.config_file.as_deref())?;
    let policy = config.policy.clone();
    let mut watcher = Watcher::new(crate::cmd::paths(options), config)?;
    let (snapshot, verdict) = watcher.observe();
    let host = Host::new(&options.procfs, snapshot, &verdict, watcher.sampler());
    leak(watcher);
    let known = |name: &str| policy.is_configured(name) || host.service(name).is_some();
    if let Some(name) = haproxy.filter(|name| !known(name)) {
        let names = verdict.services.iter().map(|haproxy| haproxy.name.clone()).collect();
        return Err(Error::UnknownHaproxy { name: name.to_owned(), names });
    }
    Ok((policy, host, verdict))
}

/// Leaks a value on purpose: the process is about to end, which frees all memory at once. Freeing the parts of
/// a host with tens of thousands of sockets one by one takes longer than judging some of its ports.
pub fn leak<T>(value: T) {
    std::mem::forget(value);
}

/// Finds the configurations that the arguments ask for.
pub fn targets(arguments: &Check) -> Result<Targets, Error> {
    let base = Base {
        directory: arguments.directory.clone().unwrap_or_else(|| PathBuf::from(".")),
        ..Base::default()
    };
    for name in &arguments.files {
        let path = base.directory.join(name);
        // A missing file is wrong usage; any other problem with it is part of the answer.
        if std::fs::metadata(&path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
            return Err(Error::NoSuchFile { path });
        }
    }
    if arguments.offline && !arguments.files.is_empty() {
        let policy = crate::cmd::load(arguments.options.config_file.as_deref())?.policy;
        let haproxy = configured_for(&policy, arguments, &base)?;
        let host = Host::default();
        let list = vec![given(&policy, arguments, base, haproxy, None)];
        return Ok(Targets { list, host, unseen: Vec::new() });
    }
    let (policy, host, verdict) = look(&arguments.options, arguments.haproxy.as_deref())?;
    if !arguments.files.is_empty() {
        let named = arguments.haproxy.clone();
        let haproxy = named.or_else(|| service_of(&host, arguments, &base));
        let running = haproxy.as_deref().and_then(|name| host.service(name));
        let target = given(&policy, arguments, base, haproxy.clone(), running);
        return Ok(Targets { list: vec![target], host, unseen: Vec::new() });
    }
    let mut unseen = Vec::new();
    let mut targets = Vec::new();
    for haproxy in &verdict.services {
        if arguments.haproxy.as_ref().is_some_and(|name| *name != haproxy.name) {
            continue;
        }
        match host.service(&haproxy.name).and_then(|running| own(&policy, running)) {
            Some(target) => targets.push(target),
            None if haproxy.processes.is_empty() && arguments.haproxy.is_none() => {}
            None => unseen.push(Unreadable {
                what: What::Config,
                subject: format!("haproxy {}", haproxy.name),
                reason: "no process shows its configuration; name the files with -f".to_owned(),
            }),
        }
    }
    // If no configuration was found, the processes that could not be read may have been HAProxy's.
    if targets.is_empty() {
        unseen.extend_from_slice(host.unreadable());
    }
    Ok(Targets { list: targets, host, unseen })
}

/// The configuration in the files that the arguments name.
fn given(
    policy: &Policy,
    arguments: &Check,
    base: Base,
    service: Option<String>,
    running: Option<&LiveService>,
) -> Target {
    let rules = service.as_deref().map_or(&policy.defaults, |name| policy.rules(name)).clone();
    let source = running.and_then(|running| running.source.as_ref());
    let mut launch = source.map_or_else(here, |source| source.launch.clone());
    if let Some(name) = &arguments.local_peer {
        launch.local_peer = Some(name.clone());
    }
    let base = source.map_or(base.clone(), |source| started_in(base, arguments, source));
    Target { rules, service, names: arguments.files.clone(), base, launch, unseen: Vec::new() }
}

/// The directory that the service was started in decides what relative names in the configuration mean,
/// except where the caller names a directory, or relative files.
fn started_in(base: Base, arguments: &Check, source: &Source) -> Base {
    let own = &source.base;
    let is_named = arguments.directory.is_some() || arguments.files.iter().any(|f| f.is_relative());
    let below_root = own.directory.strip_prefix("/").unwrap_or(&own.directory);
    let here = directory_identity(&own.directory);
    let is_here = here.is_some() && here == directory_identity(&own.root.join(below_root));
    if is_named || !is_here { base } else { Base { directory: own.directory.clone(), ..base } }
}

fn directory_identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

/// The launch of a HAProxy that this process would start.
pub fn here() -> Launch {
    let variables = std::env::vars_os();
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let host_name = rustix::system::uname().nodename().to_str().ok().map(str::to_owned);
    Launch {
        environment: Some(variables.filter_map(text).collect()),
        host_name,
        ..Launch::default()
    }
}

/// The service was started by root or by the user who asks, so that its command line and its
/// configuration are not the word of another user.
pub fn is_trusted(running: &LiveService) -> bool {
    running.reader().is_some_and(|reader| *reader == Reader::Root || is_caller(reader))
}

/// Whether this is the user who runs this program.
pub fn is_caller(reader: &Reader) -> bool {
    let caller = rustix::process::geteuid();
    match reader {
        Reader::Root => caller.is_root(),
        Reader::User { uid, .. } => *uid == caller.as_raw(),
        Reader::Member(_) | Reader::Anyone => false,
    }
}

/// The configuration that a service would read at its next reload.
pub fn own(policy: &Policy, running: &LiveService) -> Option<Target> {
    let source = running.source.clone()?;
    let unseen = source.launch.environment.is_none().then(|| Unreadable {
        what: What::Environment,
        subject: format!("haproxy {}", running.name),
        reason: "needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH".to_owned(),
    });
    Some(Target {
        rules: policy.rules(&running.name).clone(),
        service: Some(running.name.clone()),
        names: source.names,
        base: source.base,
        launch: source.launch,
        unseen: unseen.into_iter().collect(),
    })
}

/// The service that runs exactly the files that the arguments name.
fn service_of(host: &Host, arguments: &Check, base: &Base) -> Option<String> {
    let wanted = identities(&arguments.files, base);
    let runs = |running: &&LiveService| {
        let source = running.source.as_ref();
        source.is_some_and(|source| identities(&source.names, &source.base) == wanted)
    };
    let mut services = host.services.iter();
    services.find(runs).map(|running| running.name.clone()).filter(|_| !wanted.is_empty())
}

fn identities(names: &[PathBuf], base: &Base) -> BTreeSet<(u64, u64)> {
    config_files::stamps(names, base).into_iter().map(|stamp| stamp.inode).collect()
}

/// The service that the exporter's own configuration assigns to the files, for use offline.
fn configured_for(
    policy: &Policy,
    arguments: &Check,
    base: &Base,
) -> Result<Option<String>, Error> {
    if let Some(name) = &arguments.haproxy {
        let names: Vec<_> = policy.haproxys.iter().map(|h| h.name.clone()).collect();
        if !names.contains(name) {
            return Err(Error::UnknownHaproxy { name: name.clone(), names });
        }
        return Ok(Some(name.clone()));
    }
    let first =
        arguments.files.first().and_then(|name| base.directory.join(name).canonicalize().ok());
    let is_of = |configured: &&crate::policy::Configured| {
        let config = configured.matching.config.as_ref().and_then(|c| c.canonicalize().ok());
        config.is_some() && config == first
    };
    Ok(policy.haproxys.iter().find(is_of).map(|configured| configured.name.clone()))
}
