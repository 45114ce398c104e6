//! Text that others wrote, made fit for a terminal; and colour.

use std::ops::Range;

/// Colours of the terminal, or none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Escape sequences are wanted.
    pub colour: bool,
}

/// What a word means, as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tint {
    /// Something is broken.
    Bad,
    /// Something is wrong.
    Poor,
    /// Good to know.
    Plain,
    /// All is well.
    Good,
    /// A heading.
    Head,
    /// Less important.
    Faint,
}

impl Paint {
    /// The words in their colour.
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

/// Without what would move the cursor, ring, or turn the direction of writing.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmful(character) {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

fn is_harmful(character: char) -> bool {
    let turns = matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    character.is_control() || turns
}

/// Breaks text at blanks into lines of at most `width` characters; a longer word stays whole.
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

/// Most bytes of a line shown before, within and after what is underlined.
const BEFORE: usize = 60;
const WITHIN: usize = 80;
const AFTER: usize = 40;

/// The part of a line around `columns` (bytes, from 1), fit for a terminal, and the bytes of it to
/// underline. Lines may be megabytes of anything.
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
        text.push(' '); // something to underline at the end of a line
    }
    (text, first..last.max(first + 1))
}

/// One column for each character, so that what is underlined stays above its line.
fn one_line(bytes: &[u8]) -> String {
    let picture = |character: char| match character {
        '\t' => ' ',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        _ if is_harmful(character) => '\u{fffd}',
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
        assert_eq!(printable("→ é"), "→ é");
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
    fn text_is_wrapped_at_blanks() {
        assert_eq!(wrap("aa bb cc dddddddd e", 5), ["aa bb", "cc", "dddddddd", "e"]);
    }
}
