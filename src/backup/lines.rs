//! The lines in which two texts differ, with their numbers and some lines around them.

use similar::{Algorithm, DiffTag, capture_diff_slices, group_diff_ops};

use crate::haproxy::mask::{Text, all_masked};

/// The number of equal lines shown around a difference.
const AROUND: usize = 2;

/// One line of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number in the old text; `None` if it is not there.
    pub old: Option<usize>,
    /// Its number in the new text; `None` if it is not there.
    pub new: Option<usize>,
    /// The line as it may be shown.
    pub text: String,
}

/// Compares two texts. With `text` secrets are masked, as in a text of that kind.
#[must_use]
pub fn differences(old: &str, new: &str, text: Option<Text>) -> Vec<Line> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let masked = |lines: &[&str]| match text {
        Some(text) => all_masked(lines, text),
        None => lines.iter().map(|line| (*line).to_owned()).collect(),
    };
    let (of_old, of_new) = (masked(&old), masked(&new));
    let shown = |lines: &[String], at: usize| lines.get(at).cloned().unwrap_or_default();
    let old_line = |at: usize, new| Line { old: Some(at + 1), new, text: shown(&of_old, at) };
    let mut lines = Vec::new();
    for operation in
        group_diff_ops(capture_diff_slices(Algorithm::Myers, &old, &new), AROUND).concat()
    {
        let (tag, from, to) = operation.as_tag_tuple();
        if tag == DiffTag::Equal {
            lines.extend(from.zip(to).map(|(from, to)| old_line(from, Some(to + 1))));
            continue;
        }
        lines.extend(from.map(|at| old_line(at, None)));
        lines.extend(to.map(|at| Line { old: None, new: Some(at + 1), text: shown(&of_new, at) }));
    }
    lines
}

impl Line {
    /// The line for a person: its number, and `-` for the old text, `+` for the new one.
    #[must_use]
    pub fn shown(&self) -> String {
        let (number, sign) = match (self.old, self.new) {
            (_, Some(new)) if self.old.is_some() => (new, ' '),
            (Some(old), None) => (old, '-'),
            (_, new) => (new.unwrap_or(0), '+'),
        };
        format!("{number:6} {sign}{}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_numbers_and_no_secrets() {
        let old = "a\nb\nc\nd\n user x password ONE\ne\n";
        let new = "a\nb\nc\nd\n user x password TWO\ne\nf\n";
        let shown: Vec<String> =
            differences(old, new, Some(Text::Other)).iter().map(Line::shown).collect();
        let expected = [
            "     3  c",
            "     4  d",
            "     5 - user x password ****",
            "     5 + user x password ****",
            "     6  e",
            "     7 +f",
        ];
        assert_eq!(shown, expected);
        let open: String = differences(old, new, None).iter().map(Line::shown).collect();
        assert!(open.contains("ONE") && open.contains("TWO"));
        assert!(differences(old, old, None).is_empty());
    }
}
