//! The priority of the threads that work in the background.

use tracing::warn;

/// Added to the sampling thread's nice value, so that scrapes and HAProxy itself run first. Under
/// contention the thread gets about a tenth of a processor.
const NICE_INCREMENT: i32 = 10;

/// Lowers the priority of the calling thread; Linux has a nice value for each thread.
pub fn lower_priority() {
    let raise = |nice| rustix::process::setpriority_process(None, nice + NICE_INCREMENT);
    if let Err(error) = rustix::process::getpriority_process(None).and_then(raise) {
        warn!(%error, "the sampling thread keeps its full priority");
    }
}
