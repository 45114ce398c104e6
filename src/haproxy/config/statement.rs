//! The lines of a configuration as keywords in their sections, for the comparison of versions and for what
//! a configuration names.

use super::findings::Line;
use crate::model::declared::Place;

/// One line that counts, or may count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The keyword of its section, such as `global`; of the first line of a section, its own.
    pub section: String,
    /// Its first words, a `no` or `default` in front included.
    pub words: Vec<String>,
    /// The place of its keyword.
    pub place: Place,
    /// No condition that cannot be decided rules it out.
    pub is_certain: bool,
}

impl Statement {
    pub(super) fn of(line: &Line<'_>, section: &[u8]) -> Statement {
        let words = line.words.iter();
        Statement {
            section: String::from_utf8_lossy(section).into_owned(),
            words: words.map(|word| String::from_utf8_lossy(&word.text).into_owned()).collect(),
            place: line.place(0),
            is_certain: line.doubt.is_none(),
        }
    }
}
