//! Bounds the time that a command may take.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Does the work on this thread. If that takes longer than `limit`, another thread calls `late`, which has to
/// end the process: what the work waits for, such as a name server, may never answer.
///
/// The work is not the one that gets a thread of its own, because the C library makes the memory of any but the
/// first thread grow by one page at a time.
pub fn within<T>(
    limit: Duration,
    late: impl FnOnce() + Send + 'static,
    work: impl FnOnce() -> T,
) -> T {
    let (done, waiting) = mpsc::channel::<()>();
    thread::spawn(move || {
        if waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            late();
        }
    });
    let answer = work();
    drop(done);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_reported_as_late() {
        assert_eq!(within(Duration::from_secs(60), || unreachable!(), || 7), 7);
        let (keep, wait) = mpsc::channel::<()>();
        let unfinished = move || wait.recv().is_err();
        assert!(within(Duration::from_millis(10), move || drop(keep), unfinished));
    }
}
