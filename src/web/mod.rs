//! The HTTP server: what can be asked, and how long it may take.
//!
//! | path | answer |
//! |---|---|
//! | `--web.telemetry-path` (`/metrics`) | the page of the last sample; 503 before the first |
//! | `/` | a page for a person |
//! | `/-/healthy` | 200 while the program runs |
//! | `/-/ready` | 200 once there is a sample, 503 when samples have stopped coming |
//!
//! A request never waits for a sample and never makes one slower.

mod landing;
mod routes;

use std::convert::Infallible;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::judge::verdict::Verdict;

/// A client has this long to send a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way have this long to end when the program stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// After an error of accept(2), such as too many open files, this long until the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the program cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address means nothing, or is in use: choose another.
    #[error("cannot listen on {address:?}: {source}; choose another with --web.listen-address")]
    Bind {
        /// What was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The runtime could not be made.
    #[error("cannot serve: {0}")]
    Runtime(#[from] io::Error),
}

/// What one sample leaves for the requests that follow.
#[derive(Debug)]
pub struct Page {
    /// The metrics, encoded.
    pub metrics: Bytes,
    /// What they were made of.
    pub verdict: Verdict,
    /// When this was made.
    pub rendered: Instant,
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Time between samples, to tell whether they still come.
    pub sample_interval: Duration,
}

/// The last page; `None` before the first sample.
pub type LastPage = watch::Receiver<Option<Arc<Page>>>;

/// Binds every address, or none. An address without host means all of them.
pub fn listen(addresses: &[String]) -> Result<Vec<TcpListener>, Error> {
    let bind = |address: &String| {
        let listener = match address.strip_prefix(':') {
            Some(port) => bind(&format!("[::]:{port}")).or_else(|error| {
                // Without IPv6 there is still IPv4.
                let no_ipv6 = error.kind() != io::ErrorKind::AddrInUse;
                if no_ipv6 { bind(&format!("0.0.0.0:{port}")) } else { Err(error) }
            }),
            None => bind(address),
        };
        listener.map_err(|source| Error::Bind { address: address.clone(), source })
    };
    addresses.iter().map(bind).collect()
}

fn bind(address: &str) -> io::Result<TcpListener> {
    let resolved: Vec<_> = address.to_socket_addrs()?.collect();
    let listener = TcpListener::bind(resolved.as_slice())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until SIGTERM or SIGINT.
pub fn serve(
    listeners: Vec<TcpListener>,
    settings: Settings,
    page: &LastPage,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let settings = Arc::new(settings);
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut accepting = Vec::new();
        let (stop, _) = watch::channel(());
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let (settings, page) = (Arc::clone(&settings), page.clone());
            accepting.push(tokio::spawn(accept(listener, settings, page, stop.subscribe())));
        }
        tokio::select! {
            _ = terminate.recv() => info!(signal = "SIGTERM", "stopping"),
            _ = interrupt.recv() => info!(signal = "SIGINT", "stopping"),
        }
        stop.send_replace(());
        for task in accepting {
            if tokio::time::timeout(STOP_TIMEOUT, task).await.is_err() {
                warn!("requests were still under way");
            }
        }
        Ok(())
    })
}

async fn accept(
    listener: tokio::net::TcpListener,
    settings: Arc<Settings>,
    page: LastPage,
    mut stop: watch::Receiver<()>,
) {
    let connections = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            _ = stop.changed() => break,
        };
        let (settings, page) = (Arc::clone(&settings), page.clone());
        let service = service_fn(move |request| {
            let response = routes::answer(&request, &settings, page.borrow().as_deref());
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}
