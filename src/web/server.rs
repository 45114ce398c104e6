//! The server: accepts connections, follows signals and stops in time.

use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc as alive, watch};
use tracing::{debug, info, warn};

use super::admission::Connections;
use super::connection;
use super::error::Error;
use super::gate::Gate;
use super::lifecycle::{self, Reloaded, Reloader};
use super::page::{LastPage, Settings};
use super::rate_limit::Bucket;
use super::toolkit::auth::Keeper;
use super::toolkit::security::Security;

/// How long the requests that are being answered may take when the program stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after an error of accept(2), such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The threads for bcrypt and for reading files. Neither needs many.
const BLOCKING_THREADS: usize = 4;

/// Serves until SIGTERM or SIGINT. The results of reloads are sent to `reloaded`.
pub fn serve(
    listeners: Vec<TcpListener>,
    settings: Settings,
    security: Security,
    page: LastPage,
    reloaded: mpsc::Sender<Reloaded>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let result = runtime.block_on(run(listeners, settings, security, page, reloaded));
    // A file system that hangs must not keep the program from exiting.
    runtime.shutdown_background();
    result
}

async fn run(
    listeners: Vec<TcpListener>,
    settings: Settings,
    security: Security,
    page: LastPage,
    reloaded: mpsc::Sender<Reloaded>,
) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (security, security_now) = watch::channel(Arc::new(security));
    let on_reload = Reloader::new(settings.config_file.clone(), security, reloaded);
    let permits = (settings.max_requests > 0).then(|| Semaphore::new(settings.max_requests));
    let gate = Arc::new(Gate {
        page: page.clone(),
        security: security_now,
        keeper: Keeper::new()?,
        bucket: Bucket::default(),
        permits: permits.map(Arc::new),
        connections: Connections::default(),
        reloader: on_reload.clone(),
        settings: settings.clone(),
    });
    let (stop, stopped) = watch::channel(false);
    let (alive, mut ended) = alive::channel::<()>(1);
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(accept(listener, Arc::clone(&gate), stopped.clone(), alive.clone()));
    }
    tokio::spawn(on_reload.clone().follow());
    tokio::spawn(lifecycle::feed_watchdog(settings, page));
    lifecycle::notify_systemd(&[NotifyState::Ready]);
    let received = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hangup.recv() => {
                let on_reload = on_reload.clone();
                // The reloader has logged the error.
                tokio::spawn(async move { drop(on_reload.reload().await) });
            }
        }
    };
    info!(signal = received, "stopping");
    lifecycle::notify_systemd(&[NotifyState::Stopping]);
    stop.send_replace(true);
    drop(alive);
    // Nothing is ever sent. Each connection holds a sender until it ends.
    if tokio::time::timeout(STOP_TIMEOUT, ended.recv()).await.is_err() {
        warn!("stopped while requests were still being answered");
    }
    Ok(())
}

async fn accept(
    listener: tokio::net::TcpListener,
    gate: Arc<Gate>,
    mut stop: watch::Receiver<bool>,
    alive: alive::Sender<()>,
) {
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|&stop| stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                let Some(connection) = gate.connections.admit() else {
                    debug!(%peer, "refused: every connection has a request that is being answered");
                    continue;
                };
                let (gate, stop, alive) = (Arc::clone(&gate), stop.clone(), alive.clone());
                tokio::spawn(async move {
                    connection::run(stream, connection, gate, stop).await;
                    drop(alive);
                });
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot accept connections; logged once until one is accepted");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
