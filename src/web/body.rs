//! Limits on requests: how often, and how many at once; and the body that counts as one until it
//! is sent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::connection::Flight;
use super::toolkit::config::RateLimit;

/// A token bucket for all requests together.
#[derive(Debug, Default)]
pub struct Bucket(Mutex<Option<Fill>>);

#[derive(Debug)]
struct Fill {
    limit: RateLimit,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Takes a token; false when there is none. A changed limit starts with a full bucket.
    pub fn take(&self, limit: Option<RateLimit>, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(limit) = limit else {
            *state = None;
            return true;
        };
        let burst = f64::from(limit.burst);
        let fill = state.take().filter(|fill| fill.limit == limit);
        let mut fill = fill.unwrap_or(Fill { limit, tokens: burst, at: now });
        let passed = now.saturating_duration_since(fill.at).as_secs_f64();
        fill.tokens = (fill.tokens + passed / limit.interval.as_secs_f64()).min(burst);
        fill.at = now;
        let allowed = fill.tokens >= 1.0;
        if allowed {
            fill.tokens -= 1.0;
        }
        *state = Some(fill);
        allowed
    }
}

/// A response's body: chunks that other responses share.
#[derive(Debug, Default)]
pub struct Chunks {
    left: VecDeque<Bytes>,
    /// Held until the body is handed over in full.
    guards: (Option<OwnedSemaphorePermit>, Option<Flight>),
}

impl Chunks {
    /// These, one after another.
    pub fn new(chunks: impl IntoIterator<Item = Bytes>) -> Chunks {
        let left = chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
        Chunks { left, guards: (None, None) }
    }

    /// Keeps a permit until the body is sent.
    pub fn hold(&mut self, permit: OwnedSemaphorePermit) {
        self.guards.0 = Some(permit);
    }

    /// Counts as under way until the body is sent.
    pub fn fly(&mut self, flight: Flight) {
        self.guards.1 = Some(flight);
    }

    #[cfg(test)]
    /// The whole body as text.
    pub fn text(&self) -> String {
        self.left.iter().map(|chunk| String::from_utf8_lossy(chunk)).collect()
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.left.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.iter().map(|chunk| chunk.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_fills_again() {
        let bucket = Bucket::default();
        let start = Instant::now();
        let limit = Some(RateLimit { interval: Duration::from_secs(1), burst: 2 });
        let table = [
            (0, limit, true),
            (0, limit, true),
            (0, limit, false),
            (900, limit, false),
            (1000, limit, true),
            (1100, limit, false),
            (9000, limit, true),
            (9000, limit, true),
            (9000, limit, false),
            (9000, None, true),
            (9000, Some(RateLimit { interval: Duration::from_secs(1), burst: 0 }), false),
        ];
        for (number, (milliseconds, limit, expected)) in table.into_iter().enumerate() {
            let now = start + Duration::from_millis(milliseconds);
            assert_eq!(bucket.take(limit, now), expected, "row {number}");
        }
    }
}
