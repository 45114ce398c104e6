//! One connection: TLS, HTTP/1.1 or HTTP/2, and the time limits of the client.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::io::InspectReader;
use tracing::debug;

use super::admission::{Connection, HEAD_TIMEOUT};
use super::gate::Gate;

/// The largest head of a request. Cookies and tokens of a proxy fit in it.
const HEAD_LIMIT_BYTES: u16 = 16 << 10;
/// The most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 32;

/// Serves a connection until it ends.
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
        () = connection.evicted() => debug!("connection was closed for a newer one"),
    }
    gate.connections.leave(&connection);
}

async fn serve(
    stream: TcpStream,
    connection: &Arc<Connection>,
    gate: &Arc<Gate>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    // A response is written at once, so waiting for more to send would only delay it.
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
    let reading = Arc::clone(connection);
    let io = TokioIo::new(InspectReader::new(stream, move |bytes| {
        // The bytes of HTTP/2 need not belong to a request.
        if !h2 && !bytes.is_empty() {
            reading.read_some();
        }
    }));
    let (answering, gate) = (Arc::clone(connection), Arc::clone(gate));
    let service = service_fn(move |request| {
        let (gate, connection) = (Arc::clone(&gate), Arc::clone(&answering));
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

/// Runs a connection until it ends, until the client takes too long, or until the program stops.
async fn watched(
    served: impl GracefulConnection<Error = hyper::Error>,
    connection: &Connection,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut served = pin!(served);
    let (mut stopping, mut stopped) = (false, false);
    loop {
        let deadline = connection.deadline();
        let progress = poll_fn(|context| {
            let mut result = served.as_mut().poll(context);
            // A stopped connection reads no more, so a head that has begun to come is awaited first.
            if result.is_pending() && stopping && !stopped && !connection.reads_head() {
                stopped = true;
                served.as_mut().graceful_shutdown();
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
