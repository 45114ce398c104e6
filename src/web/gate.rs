//! The checks before a request is answered: rate limit, credentials, number of requests at once.
//!
//! `/-/healthy` and `/-/ready` need no credentials: they reveal nothing about the host, and the
//! probes of orchestrators and load balancers have none. TLS, client certificates and the rate limit
//! apply to them too.

use std::sync::Arc;
use std::time::Instant;

use hyper::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Semaphore, watch};

use super::admission::{Connection, Connections};
use super::body::Chunks;
use super::lifecycle::Reloader;
use super::page::{LastPage, Settings};
use super::rate_limit::Bucket;
use super::routes::{self, RELOAD, text};
use super::toolkit::auth::{Keeper, Pass};
use super::toolkit::security::Security;

/// Everything that decides about a request.
#[derive(Debug)]
pub struct Gate {
    /// The settings of the server.
    pub settings: Settings,
    /// The last page.
    pub page: LastPage,
    /// The web configuration in force.
    pub security: watch::Receiver<Arc<Security>>,
    /// Checks credentials.
    pub keeper: Keeper,
    /// Limits the rate of requests.
    pub bucket: Bucket,
    /// Limits the number of requests at once.
    pub permits: Option<Arc<Semaphore>>,
    /// The open connections.
    pub connections: Connections,
    /// Reads the configuration again.
    pub reloader: Reloader,
}

impl Gate {
    /// Returns the web configuration in force.
    pub fn security(&self) -> Arc<Security> {
        Arc::clone(&self.security.borrow())
    }

    /// Answers a request, with the configured headers.
    pub async fn answer<B>(
        &self,
        request: Request<B>,
        connection: &Arc<Connection>,
    ) -> Response<Chunks> {
        let flight = connection.begin();
        let security = self.security();
        let mut response = self.pass(&request, &security).await;
        if response.status().is_success() {
            connection.mark_served();
        }
        for (name, value) in &security.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        response.body_mut().fly(flight);
        response
    }

    async fn pass<B>(&self, request: &Request<B>, security: &Security) -> Response<Chunks> {
        if !self.bucket.take(security.rate_limit, Instant::now()) {
            return text(StatusCode::TOO_MANY_REQUESTS, "too many requests; see rate_limit\n");
        }
        let path = request.uri().path();
        if !security.users.is_empty() && !routes::is_probe(path) {
            match self.keeper.check(request.headers(), &security.users).await {
                Pass::Yes => {}
                Pass::No => {
                    let mut response = text(StatusCode::UNAUTHORIZED, "credentials required\n");
                    let scheme = HeaderValue::from_static("Basic realm=\"haproxy-host-exporter\"");
                    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                    return response;
                }
                Pass::Busy => return busy("too many credentials are being checked\n"),
            }
        }
        let permit = self.permits.clone().map(Semaphore::try_acquire_owned).transpose();
        let Ok(permit) = permit else {
            return busy("too many requests at once; see --web.max-requests\n");
        };
        let lifecycle = self.settings.enable_lifecycle;
        let mut response = if path == RELOAD && lifecycle && request.method() == Method::POST {
            match self.reloader.reload().await {
                Ok(()) => text(StatusCode::OK, "configuration reloaded\n"),
                Err(why) => {
                    routes::failed(format!("the last good configuration stays in force: {why}\n"))
                }
            }
        } else {
            routes::answer(request, &self.settings, self.page.borrow().as_deref())
        };
        if let Some(permit) = permit {
            response.body_mut().hold(permit);
        }
        response
    }
}

fn busy(why: &'static str) -> Response<Chunks> {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
