//! Which backups `--keep` removes.

/// A backup, as far as its removal depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// When it was taken.
    pub taken: i64,
    /// It has been verified, and has not changed since.
    pub verified: bool,
}

/// The names of the backups to remove, oldest first, so that `keep` of the complete backups of one service
/// remain. The newest verified one is never removed.
#[must_use]
pub fn removed(mut all: Vec<Kept>, keep: usize) -> Vec<String> {
    all.sort_by(|one, other| (one.taken, &one.name).cmp(&(other.taken, &other.name)));
    let last_verified = all.iter().rposition(|backup| backup.verified);
    let surplus = all.len().saturating_sub(keep);
    let old = all.into_iter().enumerate().take(surplus);
    old.filter(|(at, _)| Some(*at) != last_verified).map(|(_, backup)| backup.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_the_last_that_verifies_stays() {
        type Row = (&'static [(i64, bool)], usize, &'static [&'static str]);
        let table: [Row; 6] = [
            (&[(1, false), (2, false), (3, false)], 2, &["1"]),
            (&[(3, false), (1, false), (2, false)], 1, &["1", "2"]),
            (&[(1, true), (2, false), (3, false)], 1, &["2"]),
            (&[(1, true), (2, true), (3, false)], 1, &["1"]),
            (&[(1, true), (2, false), (3, true)], 1, &["1", "2"]),
            (&[(1, false)], 5, &[]),
        ];
        for (all, keep, expected) in table {
            let backup = |&(taken, verified)| Kept { name: format!("{taken}"), taken, verified };
            let removed = removed(all.iter().map(backup).collect(), keep);
            assert_eq!(removed, expected, "{all:?} {keep}");
        }
    }
}
