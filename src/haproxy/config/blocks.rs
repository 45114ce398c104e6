//! Decides which lines count between `.if`, `.elif`, `.else` and `.endif` (configuration manual,
//! section 2.4).

use super::truth::Truth;
use super::variables::Reason;

/// Depth of nesting that HAProxy refuses (`MAXNESTEDCONDS`).
const MOST_LEVELS: usize = 100;

/// Whether a line counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Counts {
    /// HAProxy reads the line.
    Yes,
    /// HAProxy skips the line.
    No,
    /// A condition around the line cannot be decided, for this reason.
    Maybe(Reason),
}

/// Whether an earlier branch of the same `.if` was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
    Maybe,
}

#[derive(Debug)]
struct Level {
    counts: Counts,
    taken: Taken,
    in_else: bool,
    line: usize,
}

/// The blocks that are open at one place of a file.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    levels: Vec<Level>,
}

impl Blocks {
    /// Whether a line at this place counts.
    pub(super) fn counts(&self) -> Counts {
        self.levels.last().map_or(Counts::Yes, |level| level.counts.clone())
    }

    /// The line of the innermost open `.if`.
    pub(super) fn open_line(&self) -> Option<usize> {
        self.levels.last().map(|level| level.line)
    }

    fn around(&self) -> Counts {
        self.levels.iter().rev().nth(1).map_or(Counts::Yes, |level| level.counts.clone())
    }

    /// Opens a block with `.if`, and evaluates the condition only where it matters.
    pub(super) fn open(
        &mut self,
        line: usize,
        condition: impl FnOnce() -> Result<Truth, String>,
    ) -> Result<(), String> {
        if self.levels.len() + 1 >= MOST_LEVELS {
            return Err(format!("'.if' nested {MOST_LEVELS} levels deep; HAProxy allows fewer"));
        }
        let around = self.counts();
        let (counts, taken) = if around == Counts::No {
            (Counts::No, Taken::Yes)
        } else {
            branch(&around, Taken::No, condition()?)
        };
        self.levels.push(Level { counts, taken, in_else: false, line });
        Ok(())
    }

    /// Begins another branch with `.elif`.
    pub(super) fn otherwise_if(
        &mut self,
        condition: impl FnOnce() -> Result<Truth, String>,
    ) -> Result<(), String> {
        self.next_branch(".elif", condition)
    }

    /// Begins the last branch with `.else`.
    pub(super) fn otherwise(&mut self) -> Result<(), String> {
        self.next_branch(".else", || Ok(Truth::True))
    }

    fn next_branch(
        &mut self,
        keyword: &str,
        condition: impl FnOnce() -> Result<Truth, String>,
    ) -> Result<(), String> {
        let around = self.around();
        let Some(level) = self.levels.last_mut() else {
            return Err(format!("'{keyword}' without a matching '.if'"));
        };
        if level.in_else {
            return Err(format!("'{keyword}' after '.else' is not permitted"));
        }
        level.in_else = keyword == ".else";
        (level.counts, level.taken) = if level.taken == Taken::Yes {
            (Counts::No, Taken::Yes)
        } else {
            branch(&around, level.taken, condition()?)
        };
        Ok(())
    }

    /// Closes the innermost block with `.endif`.
    pub(super) fn close(&mut self) -> Result<(), String> {
        self.levels.pop().map(drop).ok_or_else(|| "'.endif' without a matching '.if'".to_owned())
    }
}

/// Whether the lines of a branch with this condition count, and whether any branch up to it was taken.
fn branch(around: &Counts, taken: Taken, condition: Truth) -> (Counts, Taken) {
    const EARLIER: &str = "an earlier branch of its '.if' cannot be decided";
    match condition {
        Truth::False => (Counts::No, taken),
        Truth::Unknown(reason) => (Counts::Maybe(reason), Taken::Maybe),
        Truth::True if taken == Taken::Maybe => (Counts::Maybe(EARLIER.into()), Taken::Yes),
        Truth::True => (around.clone(), Taken::Yes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches() {
        // i and e stand for .if and .elif with the condition T, F or ?, l for .else, x for .endif.
        for (commands, expected) in [
            ("", "yes"),
            ("iT", "yes"),
            ("iF", "no"),
            ("i?", "maybe"),
            ("iTl", "no"),
            ("iFl", "yes"),
            ("i?l", "maybe"),
            ("iFeT", "yes"),
            ("iTeT", "no"),
            ("iFeTl", "no"),
            ("i?eF", "no"),
            ("i?eT", "maybe"),
            ("i?eTl", "no"),
            ("iFiT", "no"),
            ("iFiTl", "no"),
            ("iTiFl", "yes"),
            ("i?iT", "maybe"),
            ("i?iF", "no"),
            ("iFiTx", "no"),
            ("iFx", "yes"),
            ("x", "error"),
            ("l", "error"),
            ("eT", "error"),
            ("iTll", "error"),
            ("iTleT", "error"),
        ] {
            let mut blocks = Blocks::default();
            let mut outcome = Ok(());
            let mut letters = commands.chars();
            while let Some(command) = letters.next() {
                let mut condition = || match letters.next() {
                    Some('T') => Ok(Truth::True),
                    Some('F') => Ok(Truth::False),
                    _ => Ok(Truth::Unknown("why".into())),
                };
                outcome = match command {
                    'i' => {
                        let truth = condition();
                        blocks.open(1, || truth)
                    }
                    'e' => {
                        let truth = condition();
                        blocks.otherwise_if(|| truth)
                    }
                    'l' => blocks.otherwise(),
                    _ => blocks.close(),
                };
            }
            let got = match (outcome, blocks.counts()) {
                (Err(_), _) => "error",
                (Ok(()), Counts::Yes) => "yes",
                (Ok(()), Counts::No) => "no",
                (Ok(()), Counts::Maybe(_)) => "maybe",
            };
            assert_eq!(got, expected, "{commands}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let mut blocks = Blocks::default();
        let opened =
            (0..1000).take_while(|&line| blocks.open(line, || Ok(Truth::True)).is_ok()).count();
        assert_eq!(opened, 99);
    }
}
