//! The web configuration in force: read at the start, and again when one of its files changes.
//!
//! An invalid change leaves the last good configuration in force and is logged once.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use rustls::ServerConfig;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::config::{ClientAuth, Pem, RateLimit, Tls, WebConfig};
use super::tls;
use crate::config::{self, Error};
use crate::yaml;

/// How often the files are checked for changes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The web configuration in force, with its files read.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// The settings of TLS; `None` for plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// The headers that are added to every response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The rate limit for all requests together.
    pub rate_limit: Option<RateLimit>,
    /// The users with their bcrypt hashes. Without users no credentials are required.
    pub users: Vec<(String, String)>,
    /// The configuration file, and the stamps of it and of the files it names when they were read.
    seen: Option<(PathBuf, Vec<Stamp>)>,
}

/// The identity of a file's content. It differs once the file is replaced or rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    path: PathBuf,
    identity: Option<(u64, u64, u64, i64, i64, i64, i64)>,
}

impl Stamp {
    fn of(path: &Path) -> Stamp {
        let identity = fs::metadata(path).ok().map(|meta| {
            let (dev, ino, size) = (meta.dev(), meta.ino(), meta.size());
            (dev, ino, size, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
        });
        Stamp { path: path.to_owned(), identity }
    }
}

impl Security {
    /// Reads a web configuration and the files it names. Without a path nothing is required of clients.
    pub fn load(path: Option<&Path>) -> Result<Security, Error> {
        path.map_or_else(|| Ok(Security::default()), |path| read(path).1)
    }

    /// Logs warnings about settings that are valid but probably unintended.
    pub fn warn(&self) {
        if !self.users.is_empty() && self.tls.is_none() {
            warn!("basic authentication without TLS sends passwords in the clear");
        }
        if self.rate_limit.is_some_and(|limit| limit.burst == 0) {
            warn!("rate_limit has burst 0: every request is refused");
        }
    }
}

/// Reads the files and their stamps. Stamps are taken first, so that a change during the reading is
/// seen at the next check.
fn read(path: &Path) -> (Vec<Stamp>, Result<Security, Error>) {
    let mut stamps = vec![Stamp::of(path)];
    let result = (|| {
        let invalid = |message| Error::Invalid { path: path.to_owned(), message };
        let text = config::text_of(path)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let config = WebConfig::parse(&text, directory).map_err(invalid)?;
        let tls = config.tls.as_ref();
        stamps.extend(tls.into_iter().flat_map(files).map(Stamp::of));
        tls.into_iter().for_each(warn_tls);
        let tls = tls.map(|tls| tls::server_config(tls, config.http2)).transpose();
        let tls = tls.map_err(|fault| {
            let keys = ["tls_server_config", fault.key];
            invalid(yaml::message_at(&text, &keys, &fault.message))
        })?;
        let WebConfig { headers, rate_limit, users, .. } = config;
        Ok(Security { tls: tls.map(Arc::new), headers, rate_limit, users, seen: None })
    })();
    let result = result.map(|mut security| {
        security.seen = Some((path.to_owned(), stamps.clone()));
        security
    });
    (stamps, result)
}

fn warn_tls(tls: &Tls) {
    let verifies =
        matches!(tls.client_auth, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify);
    if verifies && tls.client_ca.is_none() {
        warn!("client certificates cannot be verified without client_ca or client_ca_file");
    }
    let asks = !matches!(tls.client_auth, ClientAuth::Unset | ClientAuth::No);
    if tls.allowed_sans.is_some() && !asks {
        warn!("client_allowed_sans has no effect without client_auth_type");
    }
}

fn files(tls: &Tls) -> impl Iterator<Item = &Path> {
    let pems = [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref()];
    pems.into_iter().flatten().filter_map(|pem| match pem {
        Pem::File(_, path) => Some(path.as_path()),
        Pem::Inline(..) => None,
    })
}

/// Checks the files forever, puts changes in force, and calls `done` with whether that succeeded.
pub async fn follow(security: &watch::Sender<Arc<Security>>, done: impl Fn(bool)) {
    let Some((path, mut stamps)) = security.borrow().seen.clone() else { return };
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let (place, old) = (path.clone(), stamps.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let same = old.iter().all(|stamp| *stamp == Stamp::of(&stamp.path));
            (!same).then(|| read(&place))
        });
        let Ok(Some((new, result))) = looked.await else { continue };
        stamps = new;
        done(put(security, result, &path).is_ok());
    }
}

/// Reloads the web configuration now.
pub async fn reload(security: &watch::Sender<Arc<Security>>) -> Result<(), String> {
    let Some((path, _)) = security.borrow().seen.clone() else { return Ok(()) };
    let place = path.clone();
    let read = tokio::task::spawn_blocking(move || read(&place).1).await;
    put(security, read.map_err(|error| error.to_string())?, &path)
}

fn put(
    security: &watch::Sender<Arc<Security>>,
    result: Result<Security, Error>,
    path: &Path,
) -> Result<(), String> {
    let switched = "tls_server_config was added or removed: restart the exporter, so that encryption \
                    is not switched off by mistake";
    let result = result.map_err(|error| error.to_string()).and_then(|new| {
        let same = new.tls.is_some() == security.borrow().tls.is_some();
        if same { Ok(new) } else { Err(format!("{}: {switched}", path.display())) }
    });
    match result {
        Ok(new) => {
            new.warn();
            security.send_replace(Arc::new(new));
            info!(file = %path.display(), "web configuration reloaded");
            Ok(())
        }
        Err(error) => {
            error!(error, "invalid web configuration; the last good one stays in force");
            Err(error)
        }
    }
}
