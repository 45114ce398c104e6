//! Bounds the time that a command may take.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Does the work on a thread of its own, and waits at most this long for the answer.
///
/// The thread of unfinished work is left alone, because what it waits for, such as a name server, may
/// never answer. It ends with the process.
pub fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let worker = thread::spawn(move || drop(sender.send(work())));
    match receiver.recv_timeout(limit) {
        Ok(answer) => Some(answer),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => match worker.join() {
            Ok(()) => None,
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_gives_no_answer() {
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
        let (keep, wait) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(10), move || wait.recv().is_ok()), None);
        drop(keep);
    }
}
