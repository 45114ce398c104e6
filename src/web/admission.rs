//! The connections that are open, what each is doing, and which one is closed for a new one.
//!
//! At the limit a new connection takes the place of the one that has been silent longest;
//! connections that never got an answer go first. So a crowd of silent clients pushes out its own
//! connections, not a scrape.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The longest time from the connection, or from the first byte of a later request, to the end of the
/// head. The TLS handshake has a limit of its own of the same length.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time from the head to the end of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time between requests. It exceeds the usual interval of scrapes, so that they need no
/// new handshake.
const IDLE_TIMEOUT: Duration = Duration::from_secs(130);
/// The most connections that are open at once.
const MAX_CONNECTIONS: usize = 512;

/// What a connection is doing.
#[derive(Debug)]
struct State {
    in_flight: usize,
    /// Since when it has been doing that.
    since: Instant,
    /// When the first byte of an incomplete head came.
    head_since: Option<Instant>,
    /// At least one request was answered successfully.
    served: bool,
}

/// One open connection.
#[derive(Debug)]
pub struct Connection {
    number: u64,
    state: Mutex<State>,
    evicted: Notify,
}

impl Connection {
    /// Completes when a newer connection takes its place.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the begin of a request, which lasts until the returned value is dropped.
    pub fn begin(self: &Arc<Connection>) -> Flight {
        let mut state = self.state();
        state.in_flight += 1;
        state.head_since = None;
        state.since = Instant::now();
        Flight(Arc::clone(self))
    }

    /// Notes that a request was answered successfully.
    pub fn mark_served(&self) {
        self.state().served = true;
    }

    /// Returns when the connection will have taken too long, unless something happens before.
    pub fn deadline(&self) -> Instant {
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

    /// Whether the head of a request has begun to come and is incomplete.
    pub fn reads_head(&self) -> bool {
        self.state().head_since.is_some()
    }

    /// Notes that bytes came. Outside a request they begin the head of the next one.
    pub fn read_some(&self) {
        let mut state = self.state();
        if state.in_flight == 0 && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
        }
    }
}

/// A request that is being answered; dropping it ends the request.
#[derive(Debug)]
pub struct Flight(Arc<Connection>);

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.since = Instant::now();
    }
}

/// The open connections.
#[derive(Debug, Default)]
pub struct Connections(Mutex<(u64, BTreeMap<u64, Arc<Connection>>)>);

impl Connections {
    /// Admits a new connection; `None` when every open one has a request that is being answered.
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

    /// Frees the place of a connection that has ended.
    pub fn leave(&self, connection: &Connection) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.1.remove(&connection.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn at_the_limit_the_longest_silent_connection_gives_way() {
        let all = Connections::default();
        let first: Vec<_> = (0..MAX_CONNECTIONS).map(|_| all.admit().unwrap()).collect();
        first[0].mark_served();
        let flight = first[1].begin();
        assert!(all.admit().is_some());
        let left = |index: usize| !all.0.lock().unwrap().1.contains_key(&first[index].number);
        assert_eq!([0, 1, 2, 3].map(left), [false, false, true, false]);
        // While every connection has a request, a new one is refused.
        let flights: Vec<_> = {
            let all = all.0.lock().unwrap();
            all.1.values().map(Connection::begin).collect()
        };
        assert!(all.admit().is_none());
        drop((flight, flights));
        assert!(all.admit().is_some());
    }
}
