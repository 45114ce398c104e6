//! `healthcheck`: asks a running exporter for its health. An image with no other program in it needs this
//! for its health check.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature as verify12, verify_tls13_signature as verify13,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::{ANOMALIES, Error, OK};
use crate::cli::Healthcheck;

/// What is asked where no URL says so.
const PATH: &str = "/-/healthy";
/// The most bytes of an answer that are read: its first line is enough.
const LARGEST_BYTES: u64 = 4096;

/// Asks, and says on standard error why the answer is not "healthy".
pub fn run(healthcheck: &Healthcheck) -> Result<u8, Error> {
    let target = if let Some(url) = &healthcheck.url {
        Target::of_url(url).map_err(|why| error("--url", url, why))?
    } else {
        let address = healthcheck.listen_addresses.first().map_or("", String::as_str);
        Target::of_listener(address).map_err(|why| error("--web.listen-address", address, why))?
    };
    let answer = target.ask(healthcheck.timeout);
    let why = match &answer {
        Ok(line) if is_success(line) => return Ok(OK),
        Ok(line) => format!("answered {line:?}"),
        Err(error) => error.to_string(),
    };
    eprintln!("haproxy-host-exporter: {}{}: {why}", target.authority, target.path);
    Ok(ANOMALIES)
}

fn error(flag: &'static str, value: &str, why: &'static str) -> Error {
    Error::Url { flag, value: value.to_owned(), why }
}

/// Whether the first line of an answer has a status of success.
fn is_success(line: &str) -> bool {
    let status = line.split(' ').nth(1).unwrap_or_default();
    line.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2')
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    tls: bool,
    /// Host and port, as the header `Host` has them.
    authority: String,
    /// The hosts to try, one after the other, and the port.
    hosts: Vec<String>,
    port: u16,
    path: String,
}

impl Target {
    fn of_url(url: &str) -> Result<Target, &'static str> {
        const HOW: &str = "write http://HOST:PORT/PATH or https://HOST:PORT/PATH";
        let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(HOW),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // What would end the line of the request is no part of a path.
        if path.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return Err(HOW);
        }
        let (host, port) = split(authority).ok_or(HOW)?;
        let path = if path.is_empty() { PATH } else { path };
        Ok(Target {
            tls,
            authority: authority.to_owned(),
            hosts: vec![host.to_owned()],
            port,
            path: path.to_owned(),
        })
    }

    /// The local address at which a server answers that listens on `address`.
    fn of_listener(address: &str) -> Result<Target, &'static str> {
        let (host, port) = split(address).ok_or("write ADDRESS:PORT or :PORT")?;
        let hosts: &[&str] = match host {
            "" | "::" => &["127.0.0.1", "::1"],
            "0.0.0.0" => &["127.0.0.1"],
            host => &[host],
        };
        Ok(Target {
            tls: false,
            authority: format!("localhost:{port}"),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            port,
            path: PATH.to_owned(),
        })
    }

    /// The first line of the answer.
    fn ask(&self, timeout: Duration) -> io::Result<String> {
        let deadline = Instant::now() + timeout;
        let stream = self.connect(deadline)?;
        if !self.tls {
            return self.converse(stream, deadline);
        }
        let name = self.hosts.first().map_or("", String::as_str);
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::new(client_config()?), name);
        self.converse(StreamOwned::new(session.map_err(io::Error::other)?, stream), deadline)
    }

    fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for host in &self.hosts {
            let addresses = match (host.as_str(), self.port).to_socket_addrs() {
                Ok(addresses) => addresses.collect::<Vec<SocketAddr>>(),
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            for address in addresses {
                match TcpStream::connect_timeout(&address, left(deadline)?) {
                    Ok(stream) => {
                        stream.set_read_timeout(Some(left(deadline)?))?;
                        stream.set_write_timeout(Some(left(deadline)?))?;
                        return Ok(stream);
                    }
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    fn converse(&self, mut stream: impl Read + Write, deadline: Instant) -> io::Result<String> {
        let (path, host) = (&self.path, &self.authority);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        stream.flush()?;
        let mut answer = Vec::new();
        let mut stream = stream.take(LARGEST_BYTES);
        let mut bytes = [0; 512];
        while !answer.contains(&b'\n') {
            left(deadline)?;
            match stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => answer.extend(bytes.iter().take(count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    }
}

/// Host and port of `HOST:PORT`, an IPv6 address without its brackets.
fn split(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port.parse().ok()?))
}

/// The time that is left.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn client_config() -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let verifier = Arc::new(Unverified(provider));
    Ok(versions.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Accepts every certificate, as Kubernetes' probes do: the question is whether the server answers, and
/// nothing secret is sent or believed.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify12(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify13(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_asks() {
        let table = [
            ("http://127.0.0.1:10101", Some((false, "127.0.0.1", 10101, "/-/healthy"))),
            ("http://lb1:1/-/ready", Some((false, "lb1", 1, "/-/ready"))),
            ("https://[::1]:443/x?y", Some((true, "::1", 443, "/x?y"))),
            ("ftp://a:1/", None),
            ("http://a/", None),
            ("http://::1:1/", None),
            ("http://a:70000/", None),
            ("http://a:1/ HTTP/1.1", None),
            ("http://a:1/x\r\ny", None),
            ("127.0.0.1:10101", None),
        ];
        for (url, expected) in table {
            let target = Target::of_url(url).ok();
            let found = target.as_ref().map(|target| {
                (target.tls, target.hosts[0].as_str(), target.port, target.path.as_str())
            });
            assert_eq!(found, expected, "{url:?}");
        }
    }

    #[test]
    fn where_a_listener_answers() {
        let table: [(&str, Option<&[&str]>); 8] = [
            (":10101", Some(&["127.0.0.1", "::1"])),
            ("[::]:10101", Some(&["127.0.0.1", "::1"])),
            ("0.0.0.0:10101", Some(&["127.0.0.1"])),
            ("192.0.2.1:10101", Some(&["192.0.2.1"])),
            ("[2001:db8::1]:10101", Some(&["2001:db8::1"])),
            ("lb1:10101", Some(&["lb1"])),
            ("10101", None),
            ("2001:db8::1:10101", None),
        ];
        for (address, expected) in table {
            let target = Target::of_listener(address).ok();
            let found = target.map(|target| (target.hosts, target.port));
            let expected = expected
                .map(|hosts| (hosts.iter().map(|host| (*host).to_owned()).collect(), 10101));
            assert_eq!(found, expected, "{address}");
        }
    }

    #[test]
    fn which_answers_are_healthy() {
        let table = [
            ("HTTP/1.1 200 OK", true),
            ("HTTP/1.0 204 No Content", true),
            ("HTTP/1.1 503 Service Unavailable", false),
            ("HTTP/1.1 20 OK", false),
            ("SSH-2.0-OpenSSH_9 200", false),
            ("", false),
        ];
        for (line, expected) in table {
            assert_eq!(is_success(line), expected, "{line:?}");
        }
    }
}
