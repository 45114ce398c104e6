//! `check`: judges a configuration before a reload, or a port number before it is handed out.
//!
//! | step | file |
//! |---|---|
//! | find the configurations | `target.rs` |
//! | find the services of the host | `host.rs` |
//! | look host names up | `names.rs` |
//! | gather the state of its ports | `facts.rs` |
//! | gather what its services declare | `claims.rs` |
//! | gather what the reload changes | `changes.rs` |
//! | see whether another user can change what HAProxy would read | `changeable.rs` |
//! | ask HAProxy itself | `program.rs` |
//! | judge | [`crate::check`] |
//! | put the answer together | `answer.rs` |
//! | print | [`crate::report::candidate`], [`crate::report::allocation`] |

mod allocation;
mod answer;
mod changeable;
mod changes;
mod claims;
mod facts;
pub(in crate::cmd) mod host;
mod names;
pub(in crate::cmd) mod program;
pub(in crate::cmd) mod scripts;
pub(in crate::cmd) mod target;

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use self::answer::{Answer, unreadable};
use self::program::Choice;
use self::target::Target;
use super::{ANOMALIES, BLIND, Error, OK, deadline};
use crate::check::{self, Finding, Kind, Severity};
use crate::cli::{Check, CheckOutput};
use crate::haproxy::config;
use crate::report::candidate::{self, Asked, Candidate};
use crate::report::candidate_text;
use crate::report::text::unread_line;
use crate::sample::files::config_files;
use crate::sample::files::problem::Problem;

/// All runs of HAProxy together must end within this share of the time that the whole check may take: a run
/// that has not ended when this process exits would stay behind.
const SHARE: f64 = 0.8;

/// Answers within `--timeout`, or says that it could not and ends the process by `exit`.
pub fn run(arguments: &Check, exit: fn(u8) -> !) -> Result<u8, Error> {
    let limit = arguments.timeout;
    let late = move || {
        eprintln!(
            "haproxy-host-exporter: not finished after {}, so nothing is known; give it more time \
             with --timeout",
            humantime::format_duration(limit)
        );
        exit(BLIND)
    };
    let answer = deadline::within(limit, late, || judged(arguments))?;
    std::io::stdout().write_all(answer.text.as_bytes())?;
    for note in &answer.notes {
        eprintln!("haproxy-host-exporter: {note}");
    }
    Ok(answer.code)
}

fn judged(arguments: &Check) -> Result<Answer, Error> {
    match (&arguments.port, arguments.free) {
        (Some(ports), _) => allocation::port(arguments, ports),
        (None, Some(count)) => allocation::free(arguments, count),
        (None, None) => configurations(arguments),
    }
}

/// Judges every configuration, or those in the files that the arguments name.
pub(in crate::cmd) fn configurations(arguments: &Check) -> Result<Answer, Error> {
    let until = Instant::now() + arguments.timeout.mul_f64(SHARE);
    let targets = target::targets(arguments)?;
    let candidates: Vec<Candidate> = targets
        .list
        .iter()
        .map(|target| {
            let mut candidate = judge((arguments, until), target, &targets.host)?;
            if arguments.strict {
                raise(&mut candidate);
            }
            Ok(candidate)
        })
        .collect::<Result<_, Error>>()?;
    let text = match arguments.output {
        CheckOutput::Json => format!("{:#}\n", candidate::json(&candidates)),
        CheckOutput::Text if candidates.is_empty() => "no HAProxy runs on this host\n".to_owned(),
        CheckOutput::Text => {
            let stdout = std::io::stdout();
            let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none();
            candidate_text::text(&candidates, colour, super::terminal_width())
        }
    };
    let code = if candidates.iter().any(|candidate| candidate.errors() > 0) {
        ANOMALIES
    } else if candidates.iter().any(Candidate::is_blind) || !targets.unseen.is_empty() {
        BLIND
    } else {
        OK
    };
    Ok(Answer { text, notes: targets.unseen.iter().map(unread_line).collect(), code })
}

/// Turns warnings into errors, except where a missing right is the reason: more rights might show that
/// nothing is wrong, so that the answer is "could not see enough".
fn raise(candidate: &mut Candidate) {
    let blind = candidate.is_blind();
    let is_warning = |finding: &&mut Finding| finding.severity == Severity::Warning;
    for finding in candidate.findings.iter_mut().filter(is_warning) {
        let may_be_nothing = finding.unseen || (blind && finding.kind == Kind::Uncertain);
        if !may_be_nothing {
            finding.severity = Severity::Error;
        }
    }
}

fn judge(
    (arguments, until): (&Check, Instant),
    target: &Target,
    host: &host::Host,
) -> Result<Candidate, Error> {
    let collected = config_files::collect(&target.names, &target.base);
    let choice = program::choose((arguments, until), target, (host, &collected.files))?;
    let target = &choice.reading(target);
    let mut declared = config::read(&collected.files, &target.launch);
    let online = !arguments.offline;
    let launch = online.then(|| names::looked_up(host, target, &declared)).flatten();
    let resolved = launch.as_ref().map(|launch| launch.names.clone()).unwrap_or_default();
    if let Some(launch) = launch {
        declared = config::read(&collected.files, &launch);
    }
    let mut unseen = target.unseen.clone();
    let mut findings = Vec::new();
    for problem in &collected.problems {
        if problem.is_error() {
            findings.push(missing(problem));
        } else {
            unseen.push(unreadable(problem));
        }
    }
    let facts = (!arguments.offline).then(|| {
        let (facts, mut blanks) = host.facts(target, &declared);
        unseen.append(&mut blanks);
        facts
    });
    let loads = collected.problems.is_empty() && declared.errors.is_empty();
    let changes = (online && loads).then(|| host.changes(target, &declared));
    findings.extend(check::judge(&declared, &target.rules, facts.as_ref(), super::unix_now()));
    let process = target.service.as_deref().and_then(|name| host.service(name));
    let process = process.and_then(|running| host.processes(running).into_iter().next());
    let read = (&collected.files[..], &declared);
    let asked = match choice {
        Choice::Program(program) => {
            Some(program.ask((target, process), read, &mut findings, &mut unseen))
        }
        Choice::LeftOut(why) => Some(Asked { left_out: Some(why), ..Asked::default() }),
        Choice::Unanswered(what) => {
            unseen.push(what);
            None
        }
        Choice::NotWanted => None,
    };
    let refused = asked.as_ref().is_some_and(|asked| asked.accepted == Some(false));
    let own = facts.as_ref().and_then(|facts| facts.networks.get(&None));
    Ok(Candidate {
        service: target.service.clone(),
        files: collected.files,
        declared,
        resolved,
        // What HAProxy refuses changes nothing.
        changes: changes.flatten().filter(|_| !refused),
        asked,
        findings,
        unseen,
        netns: own.map(|network| network.label.clone()).unwrap_or_default(),
    })
}

fn missing(problem: &Problem) -> Finding {
    Finding {
        label: "HAProxy stops here".to_owned(),
        ..Finding::of_file(Kind::ConfigInvalid, Severity::Error, &problem.to_string())
    }
}
