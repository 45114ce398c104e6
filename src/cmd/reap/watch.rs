//! `reap --watch`: one round after the other until SIGTERM or SIGINT. SIGHUP reads the policy again.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use super::reaper::Reaper;
use super::records::Stop;
use crate::cli::Reap;
use crate::cmd::{BLIND, OK};
use crate::config::Config;
use crate::reap::plan::Plan;
use crate::report::hold::because;
use crate::web::notify_systemd;

/// What the program was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Reload,
    Stop,
}

/// Runs until it is stopped. It ends early, with exit code 3, when it cannot record what it does.
pub fn run(reaper: &mut Reaper, reap: &Reap) -> u8 {
    let orders = match orders() {
        Ok(orders) => orders,
        Err(error) => {
            error!(%error, "signals cannot be received");
            return BLIND;
        }
    };
    info!(execute = reap.execute, "watching for stale processes");
    reaper.look();
    notify_systemd(&[NotifyState::Ready]);
    let mut said = Said::default();
    loop {
        let start = Instant::now();
        if let Err(stop) = round(reaper, reap, &mut said) {
            error!("nothing is signalled: {stop}");
            return BLIND;
        }
        notify_systemd(&[NotifyState::Watchdog]);
        match orders.recv_timeout(reap.sample_interval.saturating_sub(start.elapsed())) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Order::Reload) => reload(reaper, reap),
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                notify_systemd(&[NotifyState::Stopping]);
                info!("stopped");
                return OK;
            }
        }
    }
}

/// Looks, records what came of earlier signals, plans, and carries out what is allowed.
fn round(reaper: &mut Reaper, reap: &Reap, said: &mut Said) -> Result<(), Stop> {
    reaper.begin_run();
    reaper.look();
    reaper.settle_awaited()?;
    let plan = reaper.with_forbidden_steps_held(&reaper.plan());
    said.say(&plan, reap.execute);
    let mut success = reaper.unreadable().is_empty() && !reaper.is_in_doubt();
    if reap.execute {
        for (haproxy, step) in plan.steps() {
            let result = reaper.carry_out(haproxy, step, false)?;
            if let Err(hold) = &result.outcome {
                info!(
                    haproxy,
                    pid = step.id.pid,
                    because = because(hold),
                    "not signalled after all"
                );
            }
        }
        success &= !plan.held().any(|held| held.hold == crate::reap::guards::Hold::MissingRight);
    }
    reaper.finish(success, &plan)
}

/// What was said of each process, so that it is said once.
#[derive(Debug, Default)]
struct Said(BTreeMap<i32, String>);

impl Said {
    fn say(&mut self, plan: &Plan, executes: bool) {
        let mut now = BTreeMap::new();
        for service in &plan.services {
            for held in &service.held {
                now.insert(held.id.pid, (service.name.as_str(), because(&held.hold)));
            }
            for step in service.steps.iter().filter(|_| !executes) {
                let words = format!("a dry run: SIG{} would be sent", step.signal.as_str());
                now.insert(step.id.pid, (service.name.as_str(), words));
            }
        }
        for (pid, (haproxy, words)) in &now {
            // A time in the words does not make them new.
            let key = words.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
            if self.0.insert(*pid, key.clone()).as_deref() != Some(key.as_str()) {
                info!(haproxy, pid, because = words, "held back");
            }
        }
        self.0.retain(|pid, _| now.contains_key(pid));
    }
}

fn reload(reaper: &mut Reaper, reap: &Reap) {
    let loaded = reap.options.config_file.as_deref().map(Config::load).transpose();
    match loaded {
        Ok(config) => {
            reaper.watcher.reconfigure(config.unwrap_or_default());
            info!("configuration reloaded");
        }
        Err(error) => error!(%error, "invalid configuration; the last good one stays in force"),
    }
}

/// Receives signals on a thread of its own.
fn orders() -> std::io::Result<mpsc::Receiver<Order>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, orders) = mpsc::channel();
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let order = tokio::select! {
                    _ = terminate.recv() => Order::Stop,
                    _ = interrupt.recv() => Order::Stop,
                    _ = hangup.recv() => Order::Reload,
                };
                if sender.send(order).is_err() {
                    return;
                }
            }
        });
    });
    Ok(orders)
}
