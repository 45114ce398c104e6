//! The `rate_limit` of the web configuration, for all clients together.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

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
    /// Takes a token and returns whether there was one. A changed limit starts with a full bucket.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_refills() {
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
