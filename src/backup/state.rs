//! What the metrics say of the backups of one service.

/// The backups of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// When the newest that is whole was taken; `None` if there is none.
    pub last_success: Option<i64>,
    /// When the newest that verifies was last verified; `None` if there is none.
    pub last_verified: Option<i64>,
    /// The configuration on the disk is in no verified backup; `None` if that could not be seen.
    pub differs: Option<bool>,
}

/// How one verified backup compares with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// It is the same.
    Same,
    /// Something differs.
    Differs,
    /// Not everything could be read.
    Unknown,
}

/// Whether the configuration is in no verified backup.
#[must_use]
pub fn differs(compared: &[Compared]) -> Option<bool> {
    if compared.contains(&Compared::Same) {
        Some(false)
    } else if compared.contains(&Compared::Unknown) {
        None
    } else {
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_backup_that_is_the_same_is_enough() {
        let table: [(&[Compared], Option<bool>); 5] = [
            (&[], Some(true)),
            (&[Compared::Differs], Some(true)),
            (&[Compared::Differs, Compared::Same], Some(false)),
            (&[Compared::Unknown, Compared::Same], Some(false)),
            (&[Compared::Unknown, Compared::Differs], None),
        ];
        for (compared, expected) in table {
            assert_eq!(differs(compared), expected, "{compared:?}");
        }
    }
}
