//! The server's life: accepts, follows signals, stops in time.

use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::time::Duration;

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

/// Requests under way have this long to end when the program stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// After an error of accept(2), such as too many open files, this long until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// bcrypt and reading files: neither needs many.
const BLOCKING_THREADS: usize = 4;

/// Serves until SIGTERM or SIGINT. What a reload brings goes to `news`.
pub fn serve(
    listeners: Vec<TcpListener>,
    settings: Settings,
    security: Security,
    page: LastPage,
    news: mpsc::Sender<Reloaded>,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    let result = runtime.block_on(run(listeners, settings, security, page, news));
    // A file system that hangs must not keep the program from ending.
    runtime.shutdown_background();
    result
}

async fn run(
    listeners: Vec<TcpListener>,
    settings: Settings,
    security: Security,
    page: LastPage,
    news: mpsc::Sender<Reloaded>,
) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (security, security_now) = watch::channel(Arc::new(security));
    let reloader = Reloader::new(settings.config_file.clone(), security, news);
    let permits = (settings.max_requests > 0).then(|| Semaphore::new(settings.max_requests));
    let gate = Arc::new(Gate {
        page: page.clone(),
        security: security_now,
        keeper: Keeper::new()?,
        bucket: Bucket::default(),
        permits: permits.map(Arc::new),
        connections: Connections::default(),
        reloader: reloader.clone(),
        settings: settings.clone(),
    });
    let (stop, stopped) = watch::channel(false);
    let (alive, mut ended) = alive::channel::<()>(1);
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(accept(listener, Arc::clone(&gate), stopped.clone(), alive.clone()));
    }
    tokio::spawn(reloader.clone().follow());
    tokio::spawn(lifecycle::feed_watchdog(settings, page));
    lifecycle::ready();
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                info!(signal = "SIGTERM", "stopping");
                break;
            }
            _ = interrupt.recv() => {
                info!(signal = "SIGINT", "stopping");
                break;
            }
            _ = hangup.recv() => {
                let reloader = reloader.clone();
                // What is wrong is logged where it is found.
                tokio::spawn(async move { drop(reloader.reload().await) });
            }
        }
    }
    lifecycle::stopping();
    stop.send_replace(true);
    drop(alive);
    // Nothing is sent: each connection holds a sender until it ends.
    if tokio::time::timeout(STOP_TIMEOUT, ended.recv()).await.is_err() {
        warn!("requests were still under way");
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
                    debug!(%peer, "refused: every connection is being answered");
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
                    warn!(%error, "no connection can be accepted; said once until one can");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
