//! One connection: TLS, HTTP/1.1 or HTTP/2, and how long a client may take for what.
//!
//! At the cap a new connection takes the place of the one that has been silent longest, those
//! first that never got an answer. So silent crowds push out each other, not a scrape.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::gate::Gate;

/// From the connection, or from the first byte of a later request, to the end of the head; the TLS
/// handshake has as long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// From the head to the end of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Between requests: longer than scrapes are apart, so that they need no new handshake.
const IDLE_TIMEOUT: Duration = Duration::from_secs(130);
/// Heads are small: cookies and tokens of a proxy, at most.
const HEAD_LIMIT_BYTES: u16 = 16 << 10;
/// Connections at once.
const MAX_CONNECTIONS: usize = 512;
/// Requests at once on one connection (HTTP/2).
const MAX_STREAMS: u32 = 32;

/// What a connection does.
#[derive(Debug)]
struct State {
    in_flight: usize,
    /// Since when it does that.
    since: Instant,
    /// The first byte of a head came.
    head_since: Option<Instant>,
    /// A request was answered well.
    served: bool,
}

/// A connection as others see it.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    state: Mutex<State>,
    evicted: Notify,
}

impl Connection {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins; it is under way until the flight is dropped.
    pub fn begin(self: &Arc<Connection>) -> Flight {
        let mut state = self.state();
        state.in_flight += 1;
        state.head_since = None;
        state.since = Instant::now();
        Flight(Arc::clone(self))
    }

    /// A request was answered well.
    pub fn mark_served(&self) {
        self.state().served = true;
    }

    /// When it has taken too long, unless something happens.
    fn deadline(&self) -> Instant {
        let state = self.state();
        if state.in_flight > 0 {
            return state.since + REQUEST_TIMEOUT;
        }
        match state.head_since {
            Some(since) => since + HEAD_TIMEOUT,
            None if state.served => state.since + IDLE_TIMEOUT,
            None => state.since + HEAD_TIMEOUT,
        }
    }

    fn reads_head(&self) -> bool {
        self.state().head_since.is_some()
    }

    fn read_some(&self) {
        let mut state = self.state();
        if state.in_flight == 0 && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Flight(Arc<Connection>);

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.since = Instant::now();
    }
}

/// The connections there are.
#[derive(Debug, Default)]
pub struct Connections(Mutex<(u64, BTreeMap<u64, Arc<Connection>>)>);

impl Connections {
    /// A place for a new connection; `None` when every other is being answered.
    pub fn admit(&self) -> Option<Arc<Connection>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.1.len() >= MAX_CONNECTIONS {
            let idle = all.1.values().filter_map(|connection| {
                let state = connection.state();
                (state.in_flight == 0).then_some((state.served, state.since, connection.number))
            });
            let (.., victim) = idle.min()?;
            if let Some(victim) = all.1.remove(&victim) {
                victim.evicted.notify_one();
            }
        }
        all.0 += 1;
        let number = all.0;
        let since = Instant::now();
        let state = State { in_flight: 0, since, head_since: None, served: false };
        let connection = Connection { number, state: Mutex::new(state), evicted: Notify::new() };
        let connection = Arc::new(connection);
        all.1.insert(number, Arc::clone(&connection));
        Some(connection)
    }

    fn leave(&self, connection: &Connection) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.1.remove(&connection.number);
    }
}

/// Serves a connection to its end.
pub async fn run(
    stream: TcpStream,
    connection: Arc<Connection>,
    gate: Arc<Gate>,
    stop: watch::Receiver<bool>,
) {
    let served = serve(stream, &connection, &gate, stop);
    tokio::select! {
        result = served => {
            if let Err(error) = result {
                debug!(%error, "connection");
            }
        }
        () = connection.evicted.notified() => debug!("connection gave way to a newer one"),
    }
    gate.connections.leave(&connection);
}

async fn serve(
    stream: TcpStream,
    connection: &Arc<Connection>,
    gate: &Arc<Gate>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    // A response is written in one go; waiting for more to send only delays it.
    stream.set_nodelay(true)?;
    let Some(tls) = gate.security().tls.clone() else {
        return speak(stream, false, connection, gate, stop).await;
    };
    let handshake = TlsAcceptor::from(tls).accept(stream);
    let stream = tokio::select! {
        shaken = tokio::time::timeout(HEAD_TIMEOUT, handshake) => shaken??,
        _ = stop.wait_for(|&stop| stop) => return Ok(()),
    };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    speak(stream, h2, connection, gate, stop).await
}

async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    h2: bool,
    connection: &Arc<Connection>,
    gate: &Arc<Gate>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let heads = (!h2).then(|| Arc::clone(connection));
    let io = TokioIo::new(Heard { stream, heads });
    let (connection_, gate) = (Arc::clone(connection), Arc::clone(gate));
    let service = service_fn(move |request| {
        let (gate, connection) = (Arc::clone(&gate), Arc::clone(&connection_));
        async move { Ok::<_, Infallible>(gate.answer(request, &connection).await) }
    });
    if h2 {
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(HEAD_LIMIT_BYTES.into())
            .serve_connection(io, service);
        watched(served, connection, stop).await
    } else {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(HEAD_LIMIT_BYTES.into())
            .serve_connection(io, service);
        watched(served, connection, stop).await
    }
}

/// Runs until the end, until the client takes too long, or until it may stop.
async fn watched(
    served: impl Stoppable,
    connection: &Connection,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut served = pin!(served);
    let (mut stopping, mut told) = (false, false);
    loop {
        let deadline = connection.deadline();
        let progress = poll_fn(|context| {
            let mut result = served.as_mut().poll(context);
            // Once told, it reads no more: a head that has begun to come is waited for.
            if result.is_pending() && stopping && !told && !connection.reads_head() {
                told = true;
                served.as_mut().stop();
                result = served.as_mut().poll(context);
            }
            result
        });
        tokio::select! {
            biased;
            result = progress => return result.map_err(io::Error::other),
            () = tokio::time::sleep_until(deadline) => {
                if connection.deadline() <= Instant::now() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            _ = stop.wait_for(|&stop| stop), if !stopping => stopping = true,
        }
    }
}

/// A connection that can be told to end after the requests under way.
trait Stoppable: Future<Output = hyper::Result<()>> {
    fn stop(self: Pin<&mut Self>);
}

impl<I, S> Stoppable for http1::Connection<I, S>
where
    http1::Connection<I, S>: Future<Output = hyper::Result<()>>,
    S: hyper::service::HttpService<hyper::body::Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::ResBody: hyper::body::Body + 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn stop(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Stoppable for http2::Connection<I, S, TokioExecutor>
where
    http2::Connection<I, S, TokioExecutor>: Future<Output = hyper::Result<()>>,
    S: hyper::service::HttpService<hyper::body::Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::ResBody: hyper::body::Body + 'static,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    TokioExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn stop(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Tells a connection when the first byte of a head comes.
struct Heard<S> {
    stream: S,
    /// Not told of HTTP/2, where bytes need not belong to a request.
    heads: Option<Arc<Connection>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before
            && let Some(connection) = &self.heads
        {
            connection.read_some();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn at_the_cap_the_silent_give_way() {
        let all = Connections::default();
        let first: Vec<_> = (0..MAX_CONNECTIONS).map(|_| all.admit().unwrap()).collect();
        first[0].mark_served();
        let flight = first[1].begin();
        assert!(all.admit().is_some());
        let left = |index: usize| !all.0.lock().unwrap().1.contains_key(&first[index].number);
        assert_eq!([0, 1, 2, 3].map(left), [false, false, true, false]);
        // When each is being answered, a new one is refused.
        let flights: Vec<_> = {
            let all = all.0.lock().unwrap();
            all.1.values().map(Connection::begin).collect()
        };
        assert!(all.admit().is_none());
        drop((flight, flights));
        assert!(all.admit().is_some());
    }
}
