//! What the configurations of one user may cost in one sample.
//!
//! A user can start hundreds of HAProxys, each with a configuration of its own, and change them all
//! between two samples. Their reading must not keep the exporter from sampling the services of others,
//! nor may what is kept of them fill its memory.

use std::collections::BTreeMap;

use crate::sample::clock::seconds;
use crate::sample::paths::access::Reader;
use rustix::time::ClockId;

/// The size that all configurations of one user may have together: what is kept of one takes up to some ten
/// times as much. One of 10,000 listeners has a megabyte.
const MOST_BYTES: u64 = 8 << 20;
/// The processor time after which no more of them are read in one sample: a twentieth of the five
/// seconds between two.
const MOST_SECONDS: f64 = 0.25;

/// What has been spent of each user's allowance. Root's has no limit.
#[derive(Debug, Default)]
pub struct Allowances {
    spent: BTreeMap<Reader, Spent>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Spent {
    bytes: u64,
    seconds: f64,
}

impl Allowances {
    /// Does the work of reading one configuration, if there is something left for it. `work` gets the
    /// number of bytes that are left, and returns how many it read.
    pub fn spend<T>(&mut self, reader: &Reader, work: impl FnOnce(u64) -> (T, u64)) -> Option<T> {
        let Some(user) = charged(reader) else { return Some(work(u64::MAX).0) };
        let spent = self.spent.entry(user).or_default();
        if spent.seconds >= MOST_SECONDS || spent.bytes >= MOST_BYTES {
            return None;
        }
        let begun = seconds(ClockId::ThreadCPUTime);
        let (outcome, bytes) = work(MOST_BYTES - spent.bytes);
        spent.seconds += seconds(ClockId::ThreadCPUTime) - begun;
        spent.bytes += bytes;
        Some(outcome)
    }

    /// Charges a configuration that was read in an earlier sample and is kept. Returns whether its size
    /// is still within the allowance.
    pub fn keep(&mut self, reader: &Reader, bytes: u64) -> bool {
        let Some(user) = charged(reader) else { return true };
        let spent = self.spent.entry(user).or_default();
        let fits = spent.bytes + bytes <= MOST_BYTES;
        spent.bytes += if fits { bytes } else { 0 };
        fits
    }
}

/// The user against whose allowance a reading counts; the groups of the process do not matter.
fn charged(reader: &Reader) -> Option<Reader> {
    match reader {
        Reader::Root => None,
        Reader::User { uid, .. } => Some(Reader::User { uid: *uid, groups: Vec::new() }),
        Reader::Member(_) | Reader::Anyone => Some(Reader::Anyone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, groups: &[u32]) -> Reader {
        Reader::User { uid, groups: groups.to_vec() }
    }

    #[test]
    fn each_user_has_an_allowance_and_root_has_no_limit() {
        let mut allowances = Allowances::default();
        let half = MOST_BYTES / 2;
        let mut read = |reader: &Reader| allowances.spend(reader, |left| (left, half));
        assert_eq!(read(&user(1000, &[])), Some(MOST_BYTES));
        assert_eq!(read(&user(1000, &[7])), Some(half), "other groups, the same user");
        assert_eq!(read(&user(1000, &[])), None);
        assert_eq!(read(&user(1001, &[])), Some(MOST_BYTES));
        for _ in 0..5 {
            assert_eq!(read(&Reader::Root), Some(u64::MAX));
        }
        assert!(!allowances.keep(&user(1000, &[]), 1) && allowances.keep(&user(1001, &[]), half));
        assert!(!allowances.keep(&user(1001, &[]), 1) && allowances.keep(&Reader::Root, u64::MAX));
    }

    #[test]
    fn no_more_is_read_when_the_time_is_used_up() {
        let mut allowances = Allowances::default();
        let mut read = |until: f64| {
            allowances.spend(&Reader::Anyone, |_| {
                let begun = seconds(ClockId::ThreadCPUTime);
                while seconds(ClockId::ThreadCPUTime) - begun < until {}
                ((), 0)
            })
        };
        assert!(read(0.0).is_some());
        assert!(read(MOST_SECONDS).is_some());
        assert!(read(0.0).is_none());
    }
}
