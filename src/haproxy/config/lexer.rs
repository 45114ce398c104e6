//! Splits a line into words: quotes, escapes, comments, variables (configuration manual,
//! sections 2.2 and 2.3; `parse_line` in `src/tools.c`).

use std::ops::Range;

use super::variables::{Dialect, Reason, Variables};

/// Limit of the number of words on a line (`MAX_LINE_ARGS`).
pub(super) const MOST_WORDS: usize = 64;

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// Its text after quotes, escapes and variables are resolved.
    pub(super) text: Vec<u8>,
    /// The bytes of the line that it comes from, counted from 0.
    pub(super) source: Range<usize>,
    /// The line contains these very bytes, so that a part of the word can be underlined.
    pub(super) literal: bool,
    /// Why its text or its end is not known.
    pub(super) doubt: Option<Reason>,
}

/// Why a line could not be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LexError {
    /// The bytes of the line that it is about, counted from 0.
    pub(super) source: Range<usize>,
    /// What is wrong.
    pub(super) what: &'static str,
    /// How to fix it.
    pub(super) help: Option<&'static str>,
}

/// A line split into words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// Its words.
    pub(super) list: Vec<Word>,
    /// Where the first `${NAME-default}` begins, if there is one.
    pub(super) default_at: Option<usize>,
    /// How many bytes HAProxy writes for the words, with a zero byte after each.
    pub(super) emitted: usize,
}

impl Words {
    /// The words before the first empty one, which ends a keyword's arguments.
    pub(super) fn arguments(&self) -> &[Word] {
        let end = self
            .list
            .iter()
            .position(|word| word.text.is_empty() && word.doubt.is_none())
            .unwrap_or(self.list.len());
        self.list.get(..end).unwrap_or_default()
    }
}

/// What the splitting of a line depends on.
pub(super) struct Setting<'a> {
    pub(super) variables: &'a Variables,
    pub(super) dialect: Dialect,
    /// The value of `.FILE`.
    pub(super) file: &'a [u8],
    /// The value of `.LINE`.
    pub(super) line: usize,
    /// The value of `.SECTION`, once a section has begun.
    pub(super) section: Option<&'a [u8]>,
}

/// Splits `line`. Variables may expand to at most `room` bytes, which are then deducted from it.
pub(super) fn split(
    line: &[u8],
    setting: &Setting<'_>,
    room: &mut usize,
) -> Result<Words, LexError> {
    let mut lexer = Lexer {
        line,
        at: 0,
        setting,
        room,
        words: Words::default(),
        current: None,
        quote: Quote::None,
        quoted_nothing: false,
    };
    lexer.run()?;
    Ok(lexer.words)
}

/// The kind of quotes that are open, and where they begin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quote {
    None,
    Single(usize),
    Double(usize),
}

/// A line while it is split.
pub(super) struct Lexer<'a, 'r> {
    pub(super) line: &'a [u8],
    /// Index of the next byte.
    pub(super) at: usize,
    pub(super) setting: &'a Setting<'a>,
    pub(super) room: &'r mut usize,
    pub(super) words: Words,
    /// The word that is being read.
    pub(super) current: Option<Word>,
    pub(super) quote: Quote,
    /// The open quotes contain nothing so far.
    pub(super) quoted_nothing: bool,
}

/// Whether the byte is white space, as `isspace(3)` says in the C locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

impl Lexer<'_, '_> {
    pub(super) fn peek(&self, ahead: usize) -> Option<u8> {
        self.line.get(self.at + ahead).copied()
    }

    fn run(&mut self) -> Result<(), LexError> {
        while let Some(byte) = self.peek(0) {
            match (byte, self.quote) {
                // A carriage return ends the line, inside quotes too.
                (b'\r' | b'\n', _) | (b'#', Quote::None) => break,
                (b'"', Quote::None) => self.open(Quote::Double(self.at)),
                (b'\'', Quote::None) => self.open(Quote::Single(self.at)),
                (b'"', Quote::Double(_)) | (b'\'', Quote::Single(_)) => self.close(),
                (b'\\', Quote::None | Quote::Double(_)) => self.escape()?,
                (b'$', Quote::Double(_)) => self.variable()?,
                (byte, Quote::None) if is_space(byte) => {
                    self.finish()?;
                    self.skip_spaces();
                }
                (byte, _) => {
                    let at = self.at;
                    self.at += 1;
                    self.push(byte, at);
                }
            }
        }
        let quote = self.quote;
        self.finish()?;
        match quote {
            Quote::None => Ok(()),
            Quote::Single(at) | Quote::Double(at) => Err(LexError {
                source: at..self.line.len().max(at + 1),
                what: "unmatched quote",
                help: Some(
                    "close the quote on the same line, or write \\\" or \\' for the character itself",
                ),
            }),
        }
    }

    pub(super) fn skip_spaces(&mut self) {
        while self.peek(0).is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// The word that is being read; a new one, which begins at `from`, if there is none.
    pub(super) fn word(&mut self, from: usize) -> &mut Word {
        self.current.get_or_insert_with(|| Word {
            text: Vec::new(),
            source: from..from,
            literal: true,
            doubt: None,
        })
    }

    /// The same word, extended to the present place of the line. Its text is not the text of the line.
    pub(super) fn word_up_to_here(&mut self, from: usize) -> &mut Word {
        let end = self.at;
        let word = self.word(from);
        word.literal = false;
        word.source.end = end;
        word
    }

    /// Adds one byte taken from the line at `from`.
    pub(super) fn push(&mut self, byte: u8, from: usize) {
        self.quoted_nothing = false;
        let end = self.at;
        let word = self.word(from);
        word.text.push(byte);
        word.source.end = end;
    }

    fn open(&mut self, quote: Quote) {
        self.quote = quote;
        self.quoted_nothing = true;
        let from = self.at;
        self.at += 1;
        // Up to 3.2 quotes make a word even if they contain nothing.
        if self.setting.dialect != Dialect::Strict || self.current.is_some() {
            self.word_up_to_here(from);
        }
    }

    fn close(&mut self) {
        let from = self.at;
        self.at += 1;
        self.quote = Quote::None;
        if self.quoted_nothing || self.current.is_some() {
            self.word_up_to_here(from.saturating_sub(1));
        }
    }

    /// Ends the word that is being read.
    pub(super) fn finish(&mut self) -> Result<(), LexError> {
        let Some(mut word) = self.current.take() else {
            return Ok(());
        };
        self.words.emitted += word.text.len() + 1;
        // HAProxy's words are C strings.
        if let Some(zero) = word.text.iter().position(|&byte| byte == 0) {
            word.text.truncate(zero);
        }
        if word.source.end <= word.source.start {
            word.source.end = word.source.start + 1;
        }
        if self.words.list.len() >= MOST_WORDS {
            return Err(LexError {
                source: word.source,
                what: "more than 64 words on one line",
                help: Some("spread them over several lines"),
            });
        }
        self.words.list.push(word);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), LexError> {
        let from = self.at;
        let double = matches!(self.quote, Quote::Double(_));
        let (byte, length) = match self.peek(1) {
            Some(byte @ (b' ' | b'\\' | b'#' | b'\'' | b'"')) => (byte, 2),
            Some(b't') => (b'\t', 2),
            Some(b'n') => (b'\n', 2),
            Some(b'r') => (b'\r', 2),
            Some(b'$') if double => (b'$', 2),
            Some(b'x') => {
                let digit = |ahead| self.peek(ahead).and_then(hexadecimal_digit);
                let (Some(high), Some(low)) = (digit(2), digit(3)) else {
                    return Err(LexError {
                        source: from..(from + 4).min(self.line.len()),
                        what: "truncated or invalid hexadecimal sequence",
                        help: Some(
                            "write two hexadecimal digits after \\x, or \\\\x for the two characters",
                        ),
                    });
                };
                (high * 16 + low, 4)
            }
            _ => (b'\\', 1),
        };
        self.at += length;
        self.push(byte, from);
        self.word(from).literal = false;
        Ok(())
    }
}

fn hexadecimal_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::super::launch::Launch;
    use super::*;

    fn variables() -> Variables {
        let environment = [("A", "1"), ("E", ""), ("W", " a  b "), ("Z", "a b")];
        let launch = Launch {
            environment: Some(
                environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ),
            ..Launch::default()
        };
        Variables::new(&launch, Some("me"))
    }

    fn show(line: &str, dialect: Dialect) -> String {
        let variables = variables();
        let setting = Setting {
            variables: &variables,
            dialect,
            file: b"f.cfg",
            line: 7,
            section: Some(b"web"),
        };
        match split(line.as_bytes(), &setting, &mut 1000) {
            Ok(words) => {
                let shown = words.list.iter().map(|word| {
                    let doubt = if word.doubt.is_some() { "?" } else { "" };
                    format!("{}{doubt}", String::from_utf8_lossy(&word.text))
                });
                shown.collect::<Vec<_>>().join("|")
            }
            Err(error) => format!("{:?} {}", error.source, error.what),
        }
    }

    #[test]
    fn words_of_every_dialect() {
        for (line, expected) in [
            ("", ""),
            ("   ", ""),
            ("# a", ""),
            ("a b\tc", "a|b|c"),
            ("  a   b  # c", "a|b"),
            ("a#b c", "a"),
            ("a\\#b", "a#b"),
            ("'a b' \"c d\"", "a b|c d"),
            ("a' 'b", "a b"),
            ("'a\\' b", "a\\|b"),
            ("\"a\\\"b\" \\' \\\"", "a\"b|'|\""),
            ("\\x41\\x62 \\t\\n\\r", "Ab|\t\n\r"),
            ("a\\ b \\\\ \\1 \\", "a b|\\|\\1|\\"),
            ("a\\x00b c", "a|c"),
            ("a\rb", "a"),
            ("$A '$A' \\$A", "$A|$A|\\$A"),
            ("\"$A\" \"${A}2\" \"\\$A\"", "1|12|$A"),
            ("\"${A-x}\" \"${N-x y}\" \"${N-}z\"", "1|x y|z"),
            ("\"$.FILE:$.LINE:$.SECTION\"", "f.cfg:7:web"),
            ("\"${Z[*]}\"", "a|b"),
            ("x\"${Z[*]}\"y", "xa|by"),
            ("\"$Z\"", "a b"),
            ("'' b", "|b"),
            ("\"$E\" b", "|b"),
            ("a\"$E\"b", "ab"),
            ("\"$N b\"", " b"),
            ("\"a", "0..2 unmatched quote"),
            ("a 'b", "2..4 unmatched quote"),
            ("\"a\r\"", "0..4 unmatched quote"),
            ("a \\x4", "2..5 truncated or invalid hexadecimal sequence"),
            ("\"${A\"", "2..3 unmatched brace in the name of a variable"),
            ("\"${A-b\"", "2..3 unmatched brace in the name of a variable"),
            ("\"$1\"", "1..3 invalid first character in the name of a variable"),
            ("\"$", "1..2 invalid first character in the name of a variable"),
            ("\"$.X\"", "2..4 no such internal variable"),
            ("\"${A[1]}\"", "4..7 invalid word expansion"),
        ] {
            for dialect in [Dialect::Plain, Dialect::Swallowing, Dialect::Strict, Dialect::Unknown]
            {
                assert_eq!(show(line, dialect), expected, "{line} {dialect:?}");
            }
        }
    }

    #[test]
    fn words_by_dialect() {
        for (line, plain, swallowing, strict, unknown) in [
            ("\"$N\"", "", "", "", ""),
            ("\"$N\" b", "|b", "b", "|b", "?|b"),
            ("\"a$N\" b", "a|b", "ab", "a|b", "a?|b"),
            ("\"a$N\"b", "ab", "ab", "ab", "a?b"),
            ("\"${N[*]}\" b", "|b", "b", "b", "?|b"),
            ("\"${E[*]}\" b", "|b", "|b", "b", "?|b"),
            ("\"${W[*]}\" c", "|a|b||c", "|a|b||c", "a|b|c", "|a|b|?|c"),
        ] {
            assert_eq!(show(line, Dialect::Plain), plain, "{line}");
            assert_eq!(show(line, Dialect::Swallowing), swallowing, "{line}");
            assert_eq!(show(line, Dialect::Strict), strict, "{line}");
            let shown = show(line, Dialect::Unknown);
            assert_eq!(shown.contains('?'), unknown.contains('?'), "{line}: {shown}");
        }
    }

    #[test]
    fn most_words() {
        assert_eq!(show(&"a ".repeat(64), Dialect::Plain).split('|').count(), 64);
        assert_eq!(
            show(&"a ".repeat(65), Dialect::Plain),
            "128..129 more than 64 words on one line"
        );
    }

    #[test]
    fn expansion_is_bounded() {
        let mut variables = variables();
        variables.set(b"BIG", &[b'x'; 600]);
        let setting = Setting {
            variables: &variables,
            dialect: Dialect::Strict,
            file: b"",
            line: 1,
            section: None,
        };
        let mut room = 1000;
        let words = split(b"\"$BIG\" \"$BIG\" \"$BIG\"", &setting, &mut room).expect("three words");
        let doubts: Vec<bool> = words.list.iter().map(|word| word.doubt.is_some()).collect();
        assert_eq!(doubts, [false, true, true]);
    }
}
