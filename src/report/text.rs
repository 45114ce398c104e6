//! Text for a person: foreign text made harmless, ages, lists, wrapped lines and colour.

use std::fmt::{Display, Write as _};
use std::ops::Range;

use crate::judge::verdict::ConnectionCounts;
use crate::model::Unreadable;
pub use crate::model::time::age;

/// Paints words for a terminal, or leaves them plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Whether to write colour escapes.
    pub colour: bool,
}

/// The meaning of a word, shown as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tint {
    /// Something is broken.
    Bad,
    /// Something is wrong.
    Poor,
    /// Something is worth knowing.
    Plain,
    /// All is well.
    Good,
    /// The words are a heading.
    Head,
    /// The words matter less than those around them.
    Faint,
}

impl Paint {
    /// Returns the words in the colour of `tint`.
    #[must_use]
    pub fn tint(self, tint: Tint, words: &str) -> String {
        let code = match tint {
            Tint::Bad => "1;31",
            Tint::Poor => "1;33",
            Tint::Plain => "36",
            Tint::Good => "32",
            Tint::Head => "1",
            Tint::Faint => "2",
        };
        if self.colour { format!("\x1b[{code}m{words}\x1b[0m") } else { words.to_owned() }
    }
}

/// Escapes the characters of foreign text that would move the cursor, ring the bell, turn the
/// direction of writing, or not show at all.
#[must_use]
pub fn printable(text: &str) -> String {
    // Nearly every text is of this sort, and a report may have tens of thousands.
    if text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hostile(character) {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// What could not be read, as one line.
#[must_use]
pub fn unread_line(entry: &Unreadable) -> String {
    let (subject, reason) = (printable(&entry.subject), printable(&entry.reason));
    format!("could not read {} of {subject}: {reason}", entry.what.as_str())
}

/// Whether a character controls the terminal, turns the direction of writing, breaks the line or is
/// invisible.
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// Joins values, such as pids, with a separator.
#[must_use]
pub fn list<T: Display>(values: &[T], separator: &str) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(separator)
}

/// The end of a list that shows at most `limit` of `count` items, such as `and 3 more ports`; `None`
/// when it shows all.
#[must_use]
pub fn more(count: usize, limit: usize, items: &str) -> Option<String> {
    let left_out = count.checked_sub(limit).filter(|left_out| *left_out > 0)?;
    Some(format!("and {left_out} more {items}").trim_end().to_owned())
}

/// A number and what it counts, such as `1 port` or `2 ports`.
#[must_use]
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(
    count: N,
    one: &str,
    many: &str,
) -> String {
    format!("{count} {}", if count == N::from(1) { one } else { many })
}

/// The connections of a process by state, as `3 established, 1 unix`; `none` if there are none.
#[must_use]
pub fn by_state(connections: &ConnectionCounts, none: &str) -> String {
    let named = connections.named().into_iter().filter(|(_, count)| *count > 0);
    let words: Vec<String> = named.map(|(state, count)| format!("{count} {state}")).collect();
    if words.is_empty() { none.to_owned() } else { words.join(", ") }
}

/// Text cut to `width` characters.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Breaks text at spaces into lines of at most `width` characters. A longer word stays whole.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Writes words behind a mark, and aligns the following lines with the first.
pub fn lines(text: &mut String, mark: &str, words: &str, width: usize) {
    let indent = mark.chars().count();
    for (index, line) in wrap(words, width.saturating_sub(indent)).iter().enumerate() {
        let _ = match index {
            0 => writeln!(text, "{mark}{line}"),
            _ => writeln!(text, "{:indent$}{line}", ""),
        };
    }
}

/// The number of bytes of an excerpt that precede the underlined ones.
const BEFORE: usize = 60;
/// The number of bytes that an excerpt underlines at most.
const WITHIN: usize = 80;
/// The number of bytes of an excerpt that follow the underlined ones.
const AFTER: usize = 40;

/// Cuts out the part of a line around `columns` (bytes, counted from 1) and makes it harmless for a
/// terminal. Also returns the bytes to underline. A line may hold megabytes of anything.
#[must_use]
pub fn excerpt(line: &[u8], columns: &Range<usize>) -> (String, Range<usize>) {
    let start = columns.start.saturating_sub(1).min(line.len());
    let end = columns.end.saturating_sub(1).clamp(start, line.len());
    let from = start.saturating_sub(BEFORE);
    let cut = end.min(start + WITHIN);
    let until = if cut < end { cut } else { line.len().min(end + AFTER) };
    let part = |range: Range<usize>| one_line(line.get(range).unwrap_or_default());
    let mut text = String::new();
    if from > 0 {
        text.push('…');
    }
    text.push_str(&part(from..start));
    let first = text.len();
    text.push_str(&part(start..cut));
    let last = text.len();
    text.push_str(&part(cut..until));
    if until < line.len() {
        text.push('…');
    }
    if last == first {
        text.push(' '); // to be underlined at the end of a line
    }
    (text, first..last.max(first + 1))
}

/// Replaces each character that is not exactly one column wide, so that the underline stays below
/// its words.
fn one_line(bytes: &[u8]) -> String {
    let picture = |character: char| match character {
        '\t' => ' ',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        _ if is_hostile(character) => '\u{fffd}',
        other => other,
    };
    String::from_utf8_lossy(bytes).chars().map(picture).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_escaped() {
        assert_eq!(printable("a\x1b[2Jb\u{202e}c\n"), "a\\u{1b}[2Jb\\u{202e}c\\n");
        assert_eq!(printable("a\u{2028}b\u{feff}"), "a\\u{2028}b\\u{feff}");
        assert_eq!(printable("→ é"), "→ é");
    }

    #[test]
    fn ages_have_two_units() {
        let table = [
            (-1.0, "0s"),
            (0.4, "0s"),
            (59.9, "59s"),
            (61.0, "1m 1s"),
            (7260.0, "2h 1m"),
            (90000.0, "1d 1h"),
        ];
        for (seconds, expected) in table {
            assert_eq!(age(seconds), expected);
        }
    }

    #[test]
    fn a_cut_list_counts_the_rest() {
        let table = [
            (3, 3, "ports", None),
            (4, 3, "ports", Some("and 1 more ports")),
            (9, 3, "", Some("and 6 more")),
        ];
        for (count, limit, items, expected) in table {
            assert_eq!(more(count, limit, items).as_deref(), expected);
        }
    }

    #[test]
    fn an_excerpt_is_bounded_and_points_right() {
        let table: [(&[u8], Range<usize>, &str, &str); 6] = [
            (b" bind :80", 7..10, " bind :80", ":80"),
            (b"\tbind\x1b[2J :80", 6..10, " bind\u{241b}[2J :80", "\u{241b}[2J"),
            (b"\xff\xfe bind", 4..8, "\u{fffd}\u{fffd} bind", "bind"),
            (b"", 1..2, " ", " "),
            (b"abc", 900..901, "abc ", " "),
            ("é bind".as_bytes(), 2..3, "\u{fffd}\u{fffd} bind", "\u{fffd}"),
        ];
        for (line, columns, text, underlined) in table {
            let (shown, range) = excerpt(line, &columns);
            assert_eq!((shown.as_str(), shown.get(range)), (text, Some(underlined)), "{line:?}");
        }
        let long = [vec![b'x'; 500_000], b" :80 ".to_vec(), vec![b'y'; 500_000]].concat();
        let (shown, range) = excerpt(&long, &(500_002..500_005));
        assert!(shown.chars().count() < 200 && shown.starts_with('…') && shown.ends_with('…'));
        assert_eq!(shown.get(range), Some(":80"));
        assert!(excerpt(&long, &(1..1_000_000)).0.chars().count() < 200);
    }

    #[test]
    fn text_is_wrapped_at_spaces() {
        assert_eq!(wrap("aa bb cc dddddddd e", 5), ["aa bb", "cc", "dddddddd", "e"]);
    }
}
