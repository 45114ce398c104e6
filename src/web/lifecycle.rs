//! Reloads of the configuration, and notifications of systemd.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::{debug, error, info};

use super::page::{LastPage, Settings};
use super::toolkit::security::{self, Security};
use crate::config::Config;

/// The result of a reload, for the sampling thread.
#[derive(Debug)]
pub struct Reloaded {
    /// The new configuration, if it was read and is valid.
    pub config: Option<Box<Config>>,
    /// The last attempts to read the configuration and the web configuration both succeeded.
    pub successful: bool,
}

/// Reloads the configuration and the web configuration.
#[derive(Debug, Clone)]
pub struct Reloader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config_file: Option<PathBuf>,
    security: watch::Sender<Arc<Security>>,
    reloaded: mpsc::Sender<Reloaded>,
    /// Serializes reloads, so that the last request reads last.
    turn: tokio::sync::Mutex<()>,
    /// Whether the configuration and the web configuration were last read without error.
    good: Mutex<(bool, bool)>,
}

impl Reloader {
    /// Makes a reloader that puts the web configuration into `security` and sends results to `reloaded`.
    #[must_use]
    pub fn new(
        config_file: Option<PathBuf>,
        security: watch::Sender<Arc<Security>>,
        reloaded: mpsc::Sender<Reloaded>,
    ) -> Reloader {
        let turn = tokio::sync::Mutex::new(());
        let good = Mutex::new((true, true));
        Reloader(Arc::new(Inner { config_file, security, reloaded, turn, good }))
    }

    /// Reloads both. An invalid file leaves the last good one in force, and the error gives the reason.
    pub async fn reload(&self) -> Result<(), String> {
        let _turn = self.0.turn.lock().await;
        let _ = NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]));
        let web = security::reload(&self.0.security).await;
        let file = self.0.config_file.clone();
        let load = move || file.as_deref().map(Config::load).transpose();
        let config = match tokio::task::spawn_blocking(load).await {
            Ok(loaded) => loaded.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &config {
            error!(error, "invalid configuration; the last good one stays in force");
        }
        let bad = config.as_ref().err().cloned();
        self.send(Some(bad.is_none()), web.is_ok(), config.ok().flatten());
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let whys: Vec<_> = bad.into_iter().chain(web.err()).collect();
        if whys.is_empty() {
            info!("configuration reloaded");
            return Ok(());
        }
        Err(whys.join("; "))
    }

    /// Follows changes of the web configuration's files forever.
    pub async fn follow(self) {
        let reloader = self.clone();
        security::follow(&self.0.security, move |good| reloader.send(None, good, None)).await;
    }

    fn send(&self, config_good: Option<bool>, web_good: bool, config: Option<Config>) {
        let successful = {
            let mut good = self.0.good.lock().unwrap_or_else(PoisonError::into_inner);
            *good = (config_good.unwrap_or(good.0), web_good);
            good.0 && good.1
        };
        // There is no receiver when the program is stopping.
        let _ = self.0.reloaded.send(Reloaded { config: config.map(Box::new), successful });
    }
}

/// Notifies systemd, if it has started the program.
pub fn notify_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd could not be notified");
    }
}

/// Feeds systemd's watchdog, if there is one, while requests are served and samples come.
pub async fn feed_watchdog(settings: Settings, page: LastPage) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let started = tokio::time::Instant::now();
    loop {
        let age = page.borrow().as_ref().map_or(started.elapsed(), |page| page.rendered.elapsed());
        // The first sample may take longer than the ones after it.
        if age <= settings.late_after().max(patience) {
            notify_systemd(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep((patience / 3).max(Duration::from_millis(10))).await;
    }
}
