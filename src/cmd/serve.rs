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
use crate::metrics::{self, Exporter};
use crate::sample::own;
use crate::watch::Watcher;
use crate::web::{self, Page, Settings};

/// Runs until it is told to stop.
pub fn run(options: &Options) -> Result<u8, Error> {
    let config = super::load(options.config_file.as_deref())?;
    let watcher = Watcher::new(super::paths(options), config)?;
    let listeners = web::listen(&options.listen_addresses)?;
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening");
        }
    }
    let (pages, page) = watch::channel(None);
    let (stop, stopped) = mpsc::channel();
    let interval = options.sample_interval;
    let sampling = thread::spawn(move || sample(watcher, interval, &pages, &stopped));
    let settings =
        Settings { telemetry_path: options.telemetry_path.clone(), sample_interval: interval };
    web::serve(listeners, settings, &page)?;
    drop(stop);
    if sampling.join().is_err() {
        warn!("the sampling thread had ended early");
    }
    info!("stopped");
    Ok(OK)
}

fn sample(
    mut watcher: Watcher,
    interval: std::time::Duration,
    pages: &watch::Sender<Option<Arc<Page>>>,
    stopped: &mpsc::Receiver<()>,
) {
    let mut journal = Journal::default();
    let config_success_timestamp = unix_now();
    loop {
        let start = Instant::now();
        let verdict = watcher.look();
        journal.write(&verdict);
        let exporter =
            Exporter { own: own::own_process(), config_successful: true, config_success_timestamp };
        let limit = watcher.policy().max_port_series;
        let metrics = metrics::render(&verdict, &exporter, limit).into();
        pages.send_replace(Some(Arc::new(Page { metrics, verdict, rendered: Instant::now() })));
        let left = interval.saturating_sub(start.elapsed());
        match stopped.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Tells each thing once: what cannot be read, and anomalies as they begin and end.
#[derive(Debug, Default)]
struct Journal {
    unreadable: BTreeSet<(&'static str, String)>,
    anomalies: BTreeSet<(String, String)>,
}

impl Journal {
    fn write(&mut self, verdict: &Verdict) {
        for entry in &verdict.unreadable {
            let what = entry.what.as_str();
            if self.unreadable.insert((what, entry.reason.clone())) {
                let (subject, reason) = (&entry.subject, &entry.reason);
                warn!(what, subject, reason, "could not be read; said once for each reason");
            }
        }
        let mut standing = BTreeSet::new();
        for haproxy in &verdict.haproxys {
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
