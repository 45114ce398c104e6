//! The sockets that the server listens on: bound here, or handed over by systemd.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};

use listenfd::ListenFd;

use super::error::Error;

/// The length of the accept queue. With a shorter one, clients that connect at the same moment would
/// have to retry after a second.
const BACKLOG: i32 = 1024;

/// Binds every address, or none. An address without a host, such as `:10101`, means all interfaces.
pub fn bind(addresses: &[String]) -> Result<Vec<TcpListener>, Error> {
    let bind = |address: &String| {
        let listener = match address.strip_prefix(':') {
            Some(port) => bind_one(&format!("[::]:{port}")).or_else(|error| {
                // A host without IPv6 may still have IPv4.
                let no_ipv6 = error.kind() != io::ErrorKind::AddrInUse;
                if no_ipv6 { bind_one(&format!("0.0.0.0:{port}")) } else { Err(error) }
            }),
            None => bind_one(address),
        };
        listener.map_err(|source| {
            let remedy = match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 come from a systemd socket unit, with --web.systemd-socket"
                }
                _ => "choose another with --web.listen-address",
            };
            Error::Bind { address: address.clone(), source, remedy }
        })
    };
    addresses.iter().map(bind).collect()
}

fn bind_one(address: &str) -> io::Result<TcpListener> {
    let resolved: Vec<_> = address.to_socket_addrs()?.collect();
    let listener = TcpListener::bind(resolved.as_slice())?;
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Takes the sockets that systemd hands over (sd_listen_fds(3)). Call it before there is a second
/// thread, because it changes the environment.
pub fn take_from_systemd() -> Result<Vec<TcpListener>, Error> {
    let mut sockets = ListenFd::from_env();
    let mut listeners = Vec::new();
    for number in 0..sockets.len() {
        let taken = sockets.take_tcp_listener(number).and_then(|listener| {
            let listener = listener.ok_or(io::ErrorKind::NotFound)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        listeners.push(taken.map_err(|source| Error::HandedOver { number, source })?);
    }
    if listeners.is_empty() { Err(Error::NothingHandedOver) } else { Ok(listeners) }
}
