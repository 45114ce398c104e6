//! `check`: judges a configuration before a reload.
//!
//! | step | file |
//! |---|---|
//! | find the configurations | `target.rs` |
//! | find the services of the host | `host.rs` |
//! | gather the state of its ports | `facts.rs` |
//! | judge | [`crate::check`] |
//! | print | [`crate::report::candidate`] |

mod facts;
mod host;
mod target;

use std::io::{IsTerminal as _, Write as _};

use self::target::Target;
use super::{ANOMALIES, BLIND, Error, OK};
use crate::check::{self, Finding, Kind, Severity};
use crate::cli::{Check, CheckOutput, Options};
use crate::haproxy::config;
use crate::model::{Unreadable, What};
use crate::report::candidate::{self, Candidate};
use crate::report::candidate_text;
use crate::sample::files::config_files;
use crate::sample::files::problem::Problem;

/// Judges every configuration and prints the answer.
pub fn run(options: &Options, arguments: &Check) -> Result<u8, Error> {
    let targets = target::targets(options, arguments)?;
    let candidates: Vec<Candidate> = targets
        .list
        .iter()
        .map(|target| {
            let mut candidate = judge(options, arguments, target, &targets.host);
            if arguments.strict {
                let is_warning = |finding: &&mut Finding| finding.severity == Severity::Warning;
                for finding in candidate.findings.iter_mut().filter(is_warning) {
                    finding.severity = Severity::Error;
                }
            }
            candidate
        })
        .collect();
    let answer = match arguments.output {
        CheckOutput::Json => format!("{:#}\n", candidate::json(&candidates)),
        CheckOutput::Text if candidates.is_empty() => "no HAProxy runs on this host\n".to_owned(),
        CheckOutput::Text => {
            let stdout = std::io::stdout();
            let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none();
            candidate_text::text(&candidates, colour, super::terminal_width())
        }
    };
    std::io::stdout().write_all(answer.as_bytes())?;
    for entry in &targets.unseen {
        eprintln!("could not read {} of {}: {}", entry.what.as_str(), entry.subject, entry.reason);
    }
    Ok(if candidates.iter().any(|candidate| candidate.errors() > 0) {
        ANOMALIES
    } else if candidates.iter().any(Candidate::is_blind) || !targets.unseen.is_empty() {
        BLIND
    } else {
        OK
    })
}

fn judge(options: &Options, arguments: &Check, target: &Target, host: &host::Host) -> Candidate {
    let collected = config_files::collect(&target.names, &target.base);
    let declared = config::read(&collected.files, &target.launch);
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
        let (facts, mut blanks) = host.facts(options, target, &declared);
        unseen.append(&mut blanks);
        facts
    });
    findings.extend(check::judge(&declared, &target.rules, facts.as_ref(), super::unix_now()));
    let own = facts.as_ref().and_then(|facts| facts.networks.get(&None));
    Candidate {
        haproxy: target.service.clone(),
        files: collected.files,
        declared,
        findings,
        unseen,
        netns: own.map(|network| network.label.clone()).unwrap_or_default(),
    }
}

fn missing(problem: &Problem) -> Finding {
    Finding {
        label: "HAProxy stops here".to_owned(),
        ..Finding::of_file(Kind::ConfigInvalid, Severity::Error, &problem.to_string())
    }
}

fn unreadable(problem: &Problem) -> Unreadable {
    let (subject, reason) = match problem {
        Problem::Forbidden { path } => {
            (path, "permission denied; needs CAP_DAC_READ_SEARCH".to_owned())
        }
        Problem::Missing { path }
        | Problem::Unreadable { path, .. }
        | Problem::NotAFile { path }
        | Problem::Withheld { path }
        | Problem::OverAllowance { path }
        | Problem::TooLarge { path, .. }
        | Problem::TooMany { path, .. } => (path, problem.to_string()),
    };
    Unreadable { what: What::Config, subject: subject.display().to_string(), reason }
}
