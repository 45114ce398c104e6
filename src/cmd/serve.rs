//! `serve`: samples in the background and serves the page of the last sample.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tracing::{info, warn};

use super::{Error, OK};
use crate::cli::Options;
use crate::judge::verdict::Verdict;
use crate::metrics::{Exporter, Renderer};
use crate::rights;
use crate::sample::proc::own;
use crate::watch::Watcher;
use crate::web::{self, Page, Reloaded, Security, Settings};

/// So much nicer is the thread that samples (nice(2)): it gets a tenth of a processor that
/// somebody else wants.
const NICER: i32 = 10;

/// Runs until it is told to stop.
pub fn run(options: &Options) -> Result<u8, Error> {
    let config = super::load(options.config_file.as_deref())?;
    let security = Security::load(options.web_config_file.as_deref())?;
    security.warn();
    let watcher = Watcher::new(super::paths(options), config)?;
    let listeners = if options.systemd_socket {
        web::take_from_systemd()?
    } else {
        web::bind(&options.listen_addresses)?
    };
    let tls = security.tls.is_some();
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            info!(%address, tls, "listening");
        }
    }
    let (pages, page) = watch::channel(None);
    let (reloaded, orders) = mpsc::channel();
    let settings = Settings {
        telemetry_path: options.telemetry_path.clone(),
        sample_interval: options.sample_interval,
        max_requests: options.max_requests,
        enable_lifecycle: options.enable_lifecycle,
        config_file: options.config_file.clone(),
    };
    let own = settings.clone();
    let sampling = thread::spawn(move || {
        give_way();
        sample(watcher, &own, &pages, &orders);
    });
    // When it returns, nobody can send orders any more: that ends the sampling.
    web::serve(listeners, settings, security, page, reloaded)?;
    if sampling.join().is_err() {
        warn!("the sampling thread had ended early");
    }
    info!("stopped");
    Ok(OK)
}

/// Sampling has time: what answers scrapes goes before, and so does HAProxy where it shares the
/// control group. Linux has a nice value for each thread.
fn give_way() {
    let nicer = |nice| rustix::process::setpriority_process(None, nice + NICER);
    if let Err(error) = rustix::process::getpriority_process(None).and_then(nicer) {
        warn!(%error, "sampling goes on at full priority");
    }
}

fn sample(
    mut watcher: Watcher,
    settings: &Settings,
    pages: &watch::Sender<Option<Arc<Page>>>,
    orders: &mpsc::Receiver<Reloaded>,
) {
    let mut journal = Journal::default();
    let mut renderer = Renderer::default();
    let mut exporter =
        Exporter { own: None, config_successful: true, config_success_timestamp: unix_now() };
    loop {
        let start = Instant::now();
        let verdict = watcher.look();
        journal.write(&verdict);
        exporter.own = own::own_process();
        let limit = watcher.policy().max_port_series;
        let metrics = renderer.render(&verdict, &exporter, limit);
        let page = Page::new(metrics, verdict, &settings.telemetry_path);
        pages.send_replace(Some(Arc::new(page)));
        let left = settings.sample_interval.saturating_sub(start.elapsed());
        match orders.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            // The next sample shows at once what has changed.
            Ok(reloaded) => {
                exporter.config_successful = reloaded.successful;
                if reloaded.successful {
                    exporter.config_success_timestamp = unix_now();
                }
                if let Some(config) = reloaded.config {
                    watcher.reconfigure(*config);
                }
            }
        }
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Tells each thing once: what cannot be read, and anomalies as they begin and end.
#[derive(Debug, Default)]
struct Journal {
    rights: bool,
    unreadable: BTreeSet<(&'static str, String)>,
    anomalies: BTreeSet<(String, String)>,
}

impl Journal {
    fn write(&mut self, verdict: &Verdict) {
        if !verdict.unreadable.is_empty() && !self.rights {
            self.rights = true;
            for (right, unseen) in rights::missing() {
                warn!(right, unseen, "a right is missing");
            }
        }
        for entry in &verdict.unreadable {
            let what = entry.what.as_str();
            if self.unreadable.insert((what, entry.reason.clone())) {
                let (subject, reason) = (&entry.subject, &entry.reason);
                warn!(what, subject, reason, "could not be read; said once for each reason");
            }
        }
        let mut standing = BTreeSet::new();
        for haproxy in &verdict.services {
            for anomaly in haproxy.anomalies.iter().filter(|anomaly| !anomaly.pending) {
                let kind = anomaly.kind.as_str();
                let port = anomaly.subject.port.as_ref();
                let port = port.map(|key| format!("{} {} {}", key.protocol, key.address, key.port));
                let subject = format!("{kind} {}", port.clone().unwrap_or_default());
                let evidence = anomaly.evidence.join("; ");
                let key = (haproxy.name.clone(), subject);
                if !self.anomalies.contains(&key) && !standing.contains(&key) {
                    let (haproxy, advice) = (&haproxy.name, &anomaly.advice);
                    warn!(haproxy, kind, port, evidence, advice, "anomaly");
                }
                standing.insert(key);
            }
        }
        for (haproxy, subject) in self.anomalies.difference(&standing) {
            info!(haproxy, subject, "anomaly is over");
        }
        self.anomalies = standing;
    }
}
