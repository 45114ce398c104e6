//! Reading the configuration again while running, and what systemd is told.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::{debug, error, info};

use super::page::{LastPage, Settings};
use super::toolkit::security::{self, Security};
use crate::config::Config;

/// What a reload came to, for whoever samples.
#[derive(Debug)]
pub struct Reloaded {
    /// The configuration to go on with, if it was read and is good.
    pub config: Option<Box<Config>>,
    /// Every configuration there is was last read without error.
    pub successful: bool,
}

/// Reads the configurations again.
#[derive(Debug, Clone)]
pub struct Reloader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config_file: Option<PathBuf>,
    security: watch::Sender<Arc<Security>>,
    reloaded: mpsc::Sender<Reloaded>,
    /// One at a time, so that the last to ask is the last to be read.
    turn: tokio::sync::Mutex<()>,
    /// Whether the configuration and the web configuration are good.
    good: Mutex<(bool, bool)>,
}

impl Reloader {
    /// Puts what it reads into `security` and tells `reloaded`.
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

    /// Reads both again. What is bad leaves the last good one in force; the error says why.
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
            error!(error, "configuration: the last good one stays in force");
        }
        let bad = config.as_ref().err().cloned();
        self.tell(Some(bad.is_none()), web.is_ok(), config.ok().flatten());
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let whys: Vec<_> = bad.into_iter().chain(web.err()).collect();
        if whys.is_empty() {
            info!("configuration read again");
            return Ok(());
        }
        Err(whys.join("; "))
    }

    /// Follows the files of the web configuration, for ever.
    pub async fn follow(self) {
        let reloader = self.clone();
        security::follow(&self.0.security, move |good| reloader.tell(None, good, None)).await;
    }

    fn tell(&self, config_good: Option<bool>, web_good: bool, config: Option<Config>) {
        let successful = {
            let mut good = self.0.good.lock().unwrap_or_else(PoisonError::into_inner);
            *good = (config_good.unwrap_or(good.0), web_good);
            good.0 && good.1
        };
        // Without a receiver the program is stopping.
        let _ = self.0.reloaded.send(Reloaded { config: config.map(Box::new), successful });
    }
}

/// Tells systemd that the program serves.
pub fn ready() {
    tell_systemd(&[NotifyState::Ready]);
}

/// Tells systemd that the program stops.
pub fn stopping() {
    tell_systemd(&[NotifyState::Stopping]);
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd could not be told");
    }
}

/// Feeds systemd's watchdog, where there is one, while requests are served and samples come.
pub async fn feed_watchdog(settings: Settings, page: LastPage) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let started = tokio::time::Instant::now();
    loop {
        let age = page.borrow().as_ref().map_or(started.elapsed(), |page| page.rendered.elapsed());
        // The first sample may take longer than the ones after it.
        if age <= settings.late_after().max(patience) {
            tell_systemd(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep((patience / 3).max(Duration::from_millis(10))).await;
    }
}
