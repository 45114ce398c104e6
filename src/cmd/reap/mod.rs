//! `reap`: the stale processes that the policy permits to end, and with `--execute` their end.

mod audit_log;
mod bindable;
mod reaper;
mod records;
mod watch;

use std::io::{IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use self::audit_log::AuditLog;
use self::reaper::Reaper;
use self::records::Stop;
use super::{ANOMALIES, BLIND, Error, OK};
use crate::cli::{CheckOutput, Reap};
use crate::reap::effect::Effect;
use crate::reap::guards::Hold;
use crate::reap::plan::Plan;
use crate::report::reap as report;
use crate::report::reap::StepResult;
use crate::report::text::Paint;
use crate::sample::proc::own::shows_own_pids;
use crate::watch::Watcher;

/// The time between the two looks that a step rests on.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Looks twice, plans, and with `--execute` carries the plan out; with `--watch` goes on.
pub fn run(reap: &Reap) -> Result<u8, Error> {
    let options = &reap.options;
    if !shows_own_pids(&options.procfs) {
        return Err(Error::ForeignPids { procfs: options.procfs.clone() });
    }
    let config = super::load(options.config_file.as_deref())?;
    let watcher = Watcher::new(super::paths(options), config)?;
    let audit = AuditLog::open(reap.audit_log.as_deref(), reap.watch)?;
    let mut reaper = match Reaper::new(reap, watcher, audit) {
        Ok(reaper) => reaper,
        Err(stop) => return Ok(blind(&stop)),
    };
    if reap.watch {
        return Ok(watch::run(&mut reaper, reap));
    }
    reaper.look();
    thread::sleep(BETWEEN_LOOKS);
    reaper.look();
    reaper.check_request()?;
    let plan = reaper.plan();
    if reap.execute {
        carry_out(reap, &mut reaper, &plan)
    } else {
        propose(reap, &mut reaper, &plan)
    }
}

/// Nothing is signalled; the reason goes to standard error.
fn blind(stop: &Stop) -> u8 {
    eprintln!("haproxy-host-exporter: nothing is signalled: {stop}");
    BLIND
}

/// Prints the plan, and does nothing.
fn propose(reap: &Reap, reaper: &mut Reaper, plan: &Plan) -> Result<u8, Error> {
    let plan = reaper.with_forbidden_steps_held(plan);
    match reap.output {
        CheckOutput::Json => print(&json(&plan, None, reaper))?,
        CheckOutput::Text => print(&plan_text(&plan, false))?,
    }
    Ok(code(&plan, &[], reaper))
}

/// Carries the plan out step by step.
fn carry_out(reap: &Reap, reaper: &mut Reaper, plan: &Plan) -> Result<u8, Error> {
    let text = reap.output == CheckOutput::Text;
    if text {
        print(&plan_text(plan, true))?;
    }
    let mut results = Vec::new();
    for (haproxy, step) in plan.steps() {
        let result = match reaper.carry_out(haproxy, step, true) {
            Ok(result) => result,
            Err(stop) => {
                return Ok(blind(&reaper.finish(false, plan).err().unwrap_or(stop)));
            }
        };
        if text {
            print(&report::result_text(step, &result, super::terminal_width()))?;
        }
        results.push(result);
    }
    let success = !is_blind(plan, &results, reaper);
    if let Err(stop) = reaper.finish(success, plan) {
        return Ok(blind(&stop));
    }
    if !text {
        print(&json(plan, Some(&results), reaper))?;
    }
    Ok(code(plan, &results, reaper))
}

fn plan_text(plan: &Plan, executes: bool) -> String {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    report::plan_text(plan, executes, Paint { colour }, super::terminal_width())
}

fn json(plan: &Plan, results: Option<&[StepResult]>, reaper: &Reaper) -> String {
    format!("{:#}\n", report::json(plan, results, reaper.unreadable()))
}

fn print(text: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// 1: steps are proposed, held back or without effect; 3: not enough could be seen, or the right is
/// missing; 0: nothing is left to end.
fn code(plan: &Plan, results: &[StepResult], reaper: &Reaper) -> u8 {
    let is_right = |hold: &Hold| *hold == Hold::MissingRight;
    let open = plan.steps().any(|(_, step)| {
        let result = results.iter().find(|result| result.id == step.id);
        result.is_none_or(|result| match &result.outcome {
            Ok(effect) => !matches!(effect, Effect::Ended | Effect::Drains),
            Err(hold) => !is_right(hold),
        })
    });
    if open || plan.held().any(|held| !is_right(&held.hold)) {
        return ANOMALIES;
    }
    if is_blind(plan, results, reaper) { BLIND } else { OK }
}

/// Whether something could not be seen, or the right to signal is missing.
fn is_blind(plan: &Plan, results: &[StepResult], reaper: &Reaper) -> bool {
    let is_right = |hold: &Hold| *hold == Hold::MissingRight;
    plan.held().any(|held| is_right(&held.hold))
        || results.iter().any(|result| result.outcome.as_ref().is_err_and(is_right))
        || !reaper.unreadable().is_empty()
        || reaper.is_in_doubt()
}
