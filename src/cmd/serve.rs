//! `serve`: samples in the background and serves the pages of the last sample.

use std::collections::BTreeMap;
use std::iter;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use tokio::sync::watch;
use tracing::{info, warn};

use super::journal::Journal;
use super::priority::lower_priority;
use super::survey::Surveyor;
use super::{Error, OK};
use crate::cli::Serve;
use crate::judge::changes::Follower;
use crate::metrics::{Exporter, Limits, Renderer};
use crate::reap::store;
use crate::report::events::{Event, Events};
use crate::sample::proc::own;
use crate::watch::Watcher;
use crate::web::{self, Page, Reloaded, Security, Settings};

/// Runs until SIGTERM or SIGINT.
pub fn run(serve: &Serve) -> Result<u8, Error> {
    let options = &serve.options;
    let config = super::load(options.config_file.as_deref())?;
    let security = Security::load(serve.web_config_file.as_deref())?;
    security.warn();
    let watcher = Watcher::new(super::paths(options), config)?;
    let listeners = if serve.systemd_socket {
        web::take_from_systemd()?
    } else {
        web::bind(&serve.listen_addresses)?
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
        telemetry_path: serve.telemetry_path.clone(),
        sample_interval: serve.sample_interval,
        max_requests: serve.max_requests,
        enable_lifecycle: serve.enable_lifecycle,
        config_file: options.config_file.clone(),
    };
    let (own, reap_state) = (settings.clone(), serve.reap_state_file.clone());
    let sampling = thread::spawn(move || {
        lower_priority();
        sample(watcher, &own, &reap_state, &pages, &orders);
    });
    // When it returns, the sender of orders is gone, which ends the sampling thread.
    web::serve(listeners, settings, security, page, reloaded)?;
    if sampling.join().is_err() {
        warn!("the sampling thread ended early");
    }
    info!("stopped");
    Ok(OK)
}

fn sample(
    mut watcher: Watcher,
    settings: &Settings,
    reap_state: &Path,
    pages: &watch::Sender<Option<Arc<Page>>>,
    orders: &mpsc::Receiver<Reloaded>,
) {
    let mut follower = Follower::default();
    let mut events = Events::default();
    let mut journal = Journal::default();
    let mut renderer = Renderer::default();
    let mut surveyor = Surveyor::start(settings.sample_interval);
    let mut exporter = Exporter {
        own: None,
        config_successful: true,
        config_success_timestamp: super::unix_now(),
        reap: None,
        backups: BTreeMap::new(),
    };
    loop {
        let start = Instant::now();
        let verdict = watcher.look();
        let changes = follower.follow(&verdict);
        journal.write(&verdict, &changes);
        for change in &changes {
            events.add(Event::of(change, verdict.taken));
        }
        exporter.own = own::own_process();
        exporter.reap = store::shown(reap_state);
        exporter.backups = surveyor.states(watcher.policy(), &verdict);
        let limits = Limits::of(watcher.policy());
        let metrics = renderer.render(&verdict, &exporter, limits);
        let (path, most) = (&settings.telemetry_path, limits.of_the_page);
        let page = Page::new(metrics, verdict, events.clone(), most, path);
        pages.send_replace(Some(Arc::new(page)));
        let left = settings.sample_interval.saturating_sub(start.elapsed());
        match orders.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            // The next sample is taken immediately and shows the change, and those that came since.
            Ok(first) => {
                for reloaded in iter::once(first).chain(orders.try_iter()) {
                    let now = super::unix_now();
                    events.add(Event::configuration_read(reloaded.successful, now));
                    exporter.config_successful = reloaded.successful;
                    if reloaded.successful {
                        exporter.config_success_timestamp = now;
                    }
                    if let Some(config) = reloaded.config {
                        watcher.reconfigure(*config);
                        journal.forget_expired();
                    }
                }
            }
        }
    }
}
