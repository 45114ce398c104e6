//! What is on either side of the `HAProxy`s: clients that hold a connection, servers behind.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Bed, PATIENCE, await_some, await_true, installed, tool};

/// A TCP connection held open. Dropped, it closes.
pub struct Flow(TcpStream);

impl Flow {
    /// Connects and waits until the process `server` has accepted.
    #[track_caller]
    pub fn held_by(bed: &Bed, address: &str, server: i32) -> Self {
        let before = bed.connections(server);
        let flow = Self::open(bed, address);
        await_true("the connection to be accepted", || bed.connections(server) > before);
        flow
    }

    /// Connects, which the kernel completes before any process accepts.
    #[track_caller]
    pub fn open(bed: &Bed, address: &str) -> Self {
        let stream = bed.inside(|| await_some(address, || TcpStream::connect(address).ok()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Connects through to an [`EchoServer`] and proves it.
    #[track_caller]
    pub fn echoing(bed: &Bed, address: &str) -> Self {
        let mut flow = Self::open(bed, address);
        flow.prove();
        flow
    }

    /// A byte goes there and back: the connection lives.
    #[track_caller]
    pub fn prove(&mut self) {
        self.0.write_all(b"?").unwrap();
        let mut byte = [0];
        self.0.read_exact(&mut byte).expect("the held connection still carries bytes");
        assert_eq!(&byte, b"?");
    }

    /// Sends the head of an HTTP request and never its body.
    pub fn ask(mut self) -> Self {
        self.0
            .write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            .unwrap();
        self
    }

    /// Closes with a reset, after which the kernel lists no connection on either side.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.0, Some(Duration::ZERO)).unwrap();
    }

    /// Closes the sending half: what the other side makes of it is `CLOSE_WAIT`.
    pub fn half_close(&self) {
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

/// Sends back what it receives.
pub struct EchoServer(Server);

impl EchoServer {
    pub fn start(bed: &Bed, address: &str) -> Self {
        Self(Server::start(bed, address, |mut stream| {
            let mut bytes = [0; 512];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(bytes.get(..count).unwrap_or_default()).is_err() {
                    break;
                }
            }
        }))
    }
}

/// Takes connections and neither reads nor closes them.
pub struct DeafServer(Server);

impl DeafServer {
    pub fn start(bed: &Bed, address: &str) -> Self {
        Self(Server::start(bed, address, |_stream| {
            loop {
                std::thread::park();
            }
        }))
    }
}

/// Takes connections in a bed and serves each on a thread of its own.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(
        bed: &Bed,
        address: &str,
        serve: impl Fn(TcpStream) + Clone + Send + 'static,
    ) -> Self {
        let listener = bed.inside(|| TcpListener::bind(address)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            stream.set_nonblocking(false).unwrap();
                            // Ends when the HAProxy in front does, with the bed at the latest.
                            let serve = serve.clone();
                            std::thread::spawn(move || serve(stream));
                        }
                        Err(_) => std::thread::sleep(Duration::from_millis(20)),
                    }
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A QUIC connection with half a request under way, held by a client that keeps it alive. Dropped, it closes.
pub struct QuicFlow(Child);

impl QuicFlow {
    /// Opens it and waits until the server has accepted the request's stream.
    #[track_caller]
    pub fn open(bed: &Bed, port: u16) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/quic_client.py");
        let mut child = bed
            .command(installed("python/bin/python3"))
            .args([script, "127.0.0.1", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "open\n", "no QUIC connection");
        Self(child)
    }
}

impl Drop for QuicFlow {
    fn drop(&mut self) {
        // At the end of its input it closes the connection.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A self-signed certificate with its key, for `bind … ssl crt`.
pub fn certificate(bed: &Bed) -> PathBuf {
    let pem = bed.directory().join("site.pem");
    bed.shell(&format!(
        "{} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out crt.pem 2>/dev/null \
         && cat crt.pem key.pem >{}",
        tool("openssl"),
        pem.display()
    ));
    pem
}

/// The body that an HTTP server in the caller's network answers with; `None` unless its status is 200.
pub fn fetch(address: &str, path: &str) -> Option<String> {
    let address = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.to_owned())
}
