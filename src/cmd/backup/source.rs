//! Finds everything that a service reads, from its running process.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::write::Content;
use crate::backup::disk::gather::{self, Problem, Request};
use crate::backup::disk::{packages, tree, units};
use crate::backup::manifest::{Command, Program, Role};
use crate::backup::reference::Reference;
use crate::backup::references::{self, Named};
use crate::backup::scripts::templates;
use crate::cmd::check::host::{Host, LiveService};
use crate::cmd::check::program::{ask_version, is_safe};
use crate::cmd::check::scripts;
use crate::cmd::check::target::Target;
use crate::haproxy::config;
use crate::haproxy::environment;
use crate::model::Process;
use crate::sample::files::config_files;
use crate::sample::files::problem::Problem as FileProblem;
use crate::sample::on_demand::executable::{Executable, Job};
use crate::sample::paths::access::Reader;

/// How long the program may take to say what it was built with.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which files are left out.
pub struct Limits<'a> {
    /// Files with keys are taken.
    pub include_keys: bool,
    /// Paths that are not.
    pub exclude: &'a [regex::Regex],
}

/// Looks at a service. Returns the root of its files, what it reads, and how it was started.
pub fn of<'s>(
    host: &Host,
    (running, target): (&'s LiveService, &Target),
    unit: Option<&str>,
    limits: &Limits<'_>,
) -> Result<(OwnedFd, Content<'s>), std::io::Error> {
    let collected = config_files::collect(&target.names, &target.base);
    let statements = config::statements(&collected.files, &target.launch);
    let declared = config::read(&collected.files, &target.launch);
    let directory = &target.base.directory;
    let Named { references: named, not_taken, unreadable, mut bases } =
        references::of(&statements, directory);
    bases.templates.extend(templates(target.launch.environment.as_ref()));
    let root = rustix::fs::open(
        &target.base.root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let process = host.processes(running).into_iter().next();
    let other_root = process.is_none_or(|process| !host.shares_files(process));
    let of_command_line = target.names.iter().map(|name| Reference {
        path: directory.join(name),
        role: Role::Configuration,
        required: true,
        read_in: directory.clone(),
        named_by: "the command line".to_owned(),
    });
    let of_unit = unit.filter(|_| !other_root).map(|unit| units::references(&root, unit));
    let all = of_command_line.chain(named).chain(of_unit.into_iter().flatten()).collect();
    let request = Request {
        root: &root,
        reader: target.base.reader.clone().unwrap_or(Reader::Anyone),
        bases: &bases,
        include_keys: limits.include_keys,
        exclude: limits.exclude,
    };
    let mut gathered = gather::gather(&request, all, &not_taken);
    for place in unreadable {
        let why = "a name in this line is not UTF-8, so that the file cannot be found".to_owned();
        gathered.problems.push(Problem { path: PathBuf::from(place), why, of_rights: false });
    }
    for problem in collected.problems.iter().filter(|problem| !problem.is_error()) {
        let of_rights = matches!(problem, FileProblem::Forbidden { .. });
        let path = target.names.first().cloned().unwrap_or_default();
        if !gathered.problems.iter().any(|known| known.of_rights == of_rights) {
            gathered.problems.push(Problem { path, why: problem.to_string(), of_rights });
        }
    }
    let by_scripts = scripts::variables(&statements, directory);
    let is_read = |name: &str| declared.variables.contains(name) || by_scripts.contains(name);
    let is_kept =
        |name: &str| is_read(name) && is_safe(name) && !environment::is_own_variable(name);
    let environment = target.launch.environment.as_ref();
    let variables: BTreeMap<String, String> = environment
        .into_iter()
        .flatten()
        .filter(|(name, _)| is_kept(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if environment.is_none() {
        gathered.problems.push(Problem {
            path: PathBuf::from(format!("the environment of {}", running.name)),
            why: "cannot be read (needs root, or CAP_SYS_PTRACE)".to_owned(),
            of_rights: true,
        });
    }
    let arguments = process.and_then(|process| process.arguments.clone()).unwrap_or_default();
    let command = Command {
        arguments,
        directory: directory.clone().into(),
        variables: variables.keys().cloned().collect(),
        unit: unit.map(str::to_owned),
    };
    let program =
        process.map(|process| program(process, &host.procfs, other_root)).unwrap_or_default();
    let haproxy = &running.name;
    let safety = false;
    Ok((root, Content { haproxy, safety, other_root, command, program, variables, gathered }))
}

/// What can be said of the program that runs. It is run only if no other user can change it.
fn program(process: &Process, procfs: &Path, other_root: bool) -> Program {
    let path = process.executable.as_ref().map(|executable| executable.path.clone());
    let known = process.environment.as_ref().and_then(environment::version);
    let sha256 = sha256_of(&procfs.join(process.id.pid.to_string()).join("exe"));
    let caller = rustix::process::geteuid().as_raw();
    let on_disk = path.as_deref().filter(|_| !other_root);
    let same = on_disk.filter(|path| sha256.is_some() && sha256_of(path) == sha256);
    let trusted = same.and_then(|path| Executable::trusted(path, caller).ok());
    let until = Instant::now() + PATIENCE;
    let version = trusted.as_ref().and_then(|own| ask_version(own, until).ok());
    let build = trusted.as_ref().and_then(|own| {
        let job = Job { arguments: vec!["-vv".into()], directory: "/".into(), ..Job::default() };
        own.run(&job, PATIENCE).ok().map(|outcome| outcome.output)
    });
    Program {
        package: same.and_then(packages::package_of),
        path: path.map(Into::into),
        version: version.map(|version| version.to_string()).or(known),
        build,
        sha256,
    }
}

/// The hash of the file at this path; `None` if it cannot be read.
pub fn sha256_of(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    Some(tree::digest(file, &mut std::io::sink()).ok()?.sha256)
}
