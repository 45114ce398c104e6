//! Limits how many lines the log gets in one minute. The caller gives the time; nothing here reads a
//! clock.

use std::collections::BTreeMap;

use crate::judge::account::Account;
use crate::model::UnixSeconds;

/// The most lines in one minute, of all accounts together.
const MOST_LINES: usize = 60;
/// The length of the time for which lines are counted.
const MINUTE_SECONDS: f64 = 60.0;

/// The lines of the minute that has begun.
#[derive(Debug, Default)]
pub struct LogQuota {
    since: UnixSeconds,
    lines: BTreeMap<Account, usize>,
    left_out: usize,
}

impl LogQuota {
    /// Begins another minute if the last one is over, and returns how many lines it left out; `None`
    /// if there was none.
    pub fn begin(&mut self, now: UnixSeconds) -> Option<usize> {
        // A clock that was set back must not silence the log.
        if (0.0..MINUTE_SECONDS).contains(&(now - self.since)) {
            return None;
        }
        let over = std::mem::replace(self, LogQuota { since: now, ..LogQuota::default() });
        Some(over.left_out).filter(|left_out| *left_out > 0)
    }

    /// Whether an account may write one more line. It may use as many lines as it leaves to all
    /// others, so the first to flap gets half of them, the next half of the rest, and so on.
    pub fn take(&mut self, account: &Account) -> bool {
        let left = MOST_LINES - self.lines.values().sum::<usize>().min(MOST_LINES);
        let used = self.lines.get(account).copied().unwrap_or_default();
        let is_allowed = used < left;
        if is_allowed {
            self.lines.insert(account.clone(), used + 1);
        } else {
            self.left_out += 1;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(quota: &mut LogQuota, account: &Account, lines: usize) -> usize {
        (0..lines).filter(|_| quota.take(account)).count()
    }

    #[test]
    fn an_account_uses_no_more_than_it_leaves_to_others() {
        let services: Vec<Account> =
            (0..9).map(|number| Account::Service(number.to_string())).collect();
        let mut quota = LogQuota::default();
        quota.begin(1000.0);
        let lines: Vec<usize> =
            services.iter().map(|account| taken(&mut quota, account, 100)).collect();
        assert_eq!(lines, [30, 15, 8, 4, 2, 1, 0, 0, 0]);
        assert_eq!(lines.iter().sum::<usize>(), MOST_LINES);
        assert_eq!(quota.begin(1060.0), Some(900 - MOST_LINES));
    }

    #[test]
    fn what_was_left_out_is_said_once_for_each_minute() {
        let user = Account::User(1000);
        let mut quota = LogQuota::default();
        // Each row has a time, the lines that are wanted then, how many of them are written, and
        // how many are said to have been left out before.
        let table = [
            (1000.0, 20, 20, None),
            (1030.0, 20, 10, None),
            (1059.9, 5, 0, None),
            (1060.0, 1, 1, Some(15)),
            (1061.0, 0, 0, None),
            (1200.0, 40, 30, None),
            (900.0, 40, 30, Some(10)), // the clock was set back
            (1000.0, 0, 0, Some(10)),
            (1100.0, 0, 0, None),
        ];
        for (now, wanted, written, left_out) in table {
            assert_eq!(quota.begin(now), left_out, "at {now}");
            assert_eq!(taken(&mut quota, &user, wanted), written, "at {now}");
        }
    }
}
