//! Splits a line into words: quotes, escapes, comments, variables (configuration manual,
//! sections 2.2 and 2.3; `parse_line` in `src/tools.c`).

use std::ops::Range;

use super::variables::{Dialect, Lookup, Reason, Variables};

/// Most words a line may have (`MAX_LINE_ARGS`).
pub(super) const MOST_WORDS: usize = 64;

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// After quotes, escapes and variables.
    pub(super) text: Vec<u8>,
    /// The bytes of the line it comes from, from 0.
    pub(super) source: Range<usize>,
    /// The line has these very bytes, so that a part of the word can be underlined.
    pub(super) literal: bool,
    /// Why its text, or where it ends, is not known.
    pub(super) doubt: Option<Reason>,
}

/// What a line could not be split for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LexError {
    /// The bytes of the line it is about, from 0.
    pub(super) source: Range<usize>,
    /// What is wrong.
    pub(super) what: &'static str,
    /// How to fix it.
    pub(super) help: Option<&'static str>,
}

/// A line, split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// Its words.
    pub(super) list: Vec<Word>,
    /// Where a `${NAME-default}` began, if there was one.
    pub(super) default_at: Option<usize>,
    /// Bytes HAProxy would have written for them, a zero after each word included.
    pub(super) emitted: usize,
}

impl Words {
    /// The arguments of a keyword: an empty word ends them.
    pub(super) fn arguments(&self) -> &[Word] {
        let end = self
            .list
            .iter()
            .position(|word| word.text.is_empty() && word.doubt.is_none())
            .unwrap_or(self.list.len());
        self.list.get(..end).unwrap_or_default()
    }
}

/// What the line is read with.
pub(super) struct Setting<'a> {
    pub(super) variables: &'a Variables,
    pub(super) dialect: Dialect,
    /// `.FILE`
    pub(super) file: &'a [u8],
    /// `.LINE`
    pub(super) line: usize,
    /// `.SECTION`, once there is one.
    pub(super) section: Option<&'a [u8]>,
}

/// Splits `line`, at most `room` bytes of which come from variables; `room` is what is left after.
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single(usize),
    Double(usize),
}

struct Lexer<'a, 'r> {
    line: &'a [u8],
    at: usize,
    setting: &'a Setting<'a>,
    room: &'r mut usize,
    words: Words,
    current: Option<Word>,
    quote: Quote,
    quoted_nothing: bool,
}

/// `isspace(3)` in the C locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

impl Lexer<'_, '_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.line.get(self.at + ahead).copied()
    }

    fn run(&mut self) -> Result<(), LexError> {
        while let Some(byte) = self.peek(0) {
            match (byte, self.quote) {
                // A carriage return ends the line, inside quotes too.
                (b'\r' | b'\n', _) => break,
                (b'#', Quote::None) => break,
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

    fn skip_spaces(&mut self) {
        while self.peek(0).is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// The word under way, begun at `from` if there is none.
    fn word(&mut self, from: usize) -> &mut Word {
        self.current.get_or_insert_with(|| Word {
            text: Vec::new(),
            source: from..from,
            literal: true,
            doubt: None,
        })
    }

    /// Adds one byte taken from the line at `from`.
    fn push(&mut self, byte: u8, from: usize) {
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
        let end = self.at;
        // Up to 3.2 quotes make a word, whatever is in them.
        if self.setting.dialect != Dialect::Strict || self.current.is_some() {
            let word = self.word(from);
            word.literal = false;
            word.source.end = end;
        }
    }

    fn close(&mut self) {
        let from = self.at;
        self.at += 1;
        let end = self.at;
        self.quote = Quote::None;
        if self.quoted_nothing || self.current.is_some() {
            let word = self.word(from.saturating_sub(1));
            word.literal = false;
            word.source.end = end;
        }
    }

    /// Ends the word under way.
    fn finish(&mut self) -> Result<(), LexError> {
        let Some(mut word) = self.current.take() else {
            return Ok(());
        };
        self.words.emitted += word.text.len() + 1;
        // To HAProxy words are C strings.
        if let Some(zero) = word.text.iter().position(|&byte| byte == 0) {
            word.text.truncate(zero);
        }
        if word.source.end <= word.source.start {
            word.source.end = word.source.start + 1;
        }
        if self.words.list.len() >= MOST_WORDS {
            return Err(LexError {
                source: word.source,
                what: "too many words, the most is 64",
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
                let digits = (self.peek(2), self.peek(3));
                let (Some(high), Some(low)) =
                    (digits.0.and_then(hexadecimal_digit), digits.1.and_then(hexadecimal_digit))
                else {
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

    /// `$NAME`, `${NAME}`, `${NAME-default}`, `${NAME[*]}`, `$.LINE`.
    fn variable(&mut self) -> Result<(), LexError> {
        let from = self.at;
        self.at += 1;
        let brace = (self.peek(0) == Some(b'{')).then_some(self.at);
        if brace.is_some() {
            self.at += 1;
        }
        let name_at = self.at;
        if !self
            .peek(0)
            .is_some_and(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.'))
        {
            return Err(LexError {
                source: from..(self.at + 1).min(self.line.len()).max(from + 1),
                what: "forbidden first character in the name of a variable",
                help: Some("write \\$ for a dollar sign inside double quotes"),
            });
        }
        self.at += 1;
        while self.peek(0).is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            self.at += 1;
        }
        let name = self.line.get(name_at..self.at).unwrap_or_default();
        let own_line = self.setting.line.to_string();
        let mut value = match name {
            b".LINE" => Lookup::Set(own_line.as_bytes()),
            b".FILE" => Lookup::Set(self.setting.file),
            b".SECTION" => self.setting.section.map_or(Lookup::Unset, Lookup::Set),
            _ if name.starts_with(b".") => {
                return Err(LexError {
                    source: name_at..self.at,
                    what: "no such internal variable",
                    help: Some("there are .FILE, .LINE and .SECTION"),
                });
            }
            _ => self.setting.variables.get(name),
        };
        let mut splits = false;
        if brace.is_some() && self.peek(0) == Some(b'[') {
            if self.peek(1) != Some(b'*') || self.peek(2) != Some(b']') {
                return Err(LexError {
                    source: self.at..(self.at + 3).min(self.line.len()),
                    what: "invalid word expansion",
                    help: Some("write \"${NAME[*]}\""),
                });
            }
            splits = true;
            self.at += 3;
        }
        if let Some(brace) = brace {
            let unmatched = LexError {
                source: brace..brace + 1,
                what: "unmatched brace in the name of a variable",
                help: Some("close it: \"${NAME}\" or \"${NAME-default}\""),
            };
            if self.peek(0) == Some(b'-') {
                self.words.default_at.get_or_insert(brace);
                let rest = self.line.get(self.at + 1..).unwrap_or_default();
                let Some(length) = rest.iter().position(|&byte| byte == b'}') else {
                    return Err(unmatched);
                };
                if value == Lookup::Unset {
                    value = Lookup::Set(rest.get(..length).unwrap_or_default());
                }
                self.at += length + 2;
            } else if self.peek(0) == Some(b'}') {
                self.at += 1;
            } else {
                return Err(unmatched);
            }
        }
        if splits {
            self.quoted_nothing = false;
        }
        self.expand(from, name, value, splits)
    }

    fn expand(
        &mut self,
        from: usize,
        name: &[u8],
        value: Lookup<'_>,
        splits: bool,
    ) -> Result<(), LexError> {
        let end = self.at;
        match value {
            Lookup::Set(value) => {
                if value.len() > *self.room {
                    *self.room = 0;
                    let word = self.word(from);
                    word.doubt = Some("its variables expand to more than is read".into());
                    return Ok(());
                }
                *self.room -= value.len();
                if splits {
                    return self.expand_words(from, value);
                }
                if !value.is_empty() {
                    for &byte in value {
                        self.push(byte, from);
                    }
                    let word = self.word(from);
                    word.literal = false;
                }
            }
            Lookup::Unset => self.expand_nothing(from, name, splits),
            Lookup::Unknown(reason) => {
                let what = if splits { "how many words there are" } else { "the value" };
                let name = String::from_utf8_lossy(name);
                let word = self.word(from);
                word.literal = false;
                word.source.end = end;
                word.doubt = Some(format!("{what} of ${name} is not known: {reason}").into());
            }
        }
        Ok(())
    }

    /// `"${NAME[*]}"`: spaces in the value separate words.
    fn expand_words(&mut self, from: usize, value: &[u8]) -> Result<(), LexError> {
        let mut after_space = false;
        for &byte in value {
            if is_space(byte) {
                if !after_space {
                    self.finish()?;
                }
                after_space = true;
            } else {
                after_space = false;
                self.push(byte, from);
                self.word(from).literal = false;
            }
        }
        if self.setting.dialect == Dialect::Unknown
            && (value.first().copied().is_none_or(is_space)
                || value.last().copied().is_none_or(is_space))
        {
            self.word(from).doubt = Some(
                "whether spaces around a variable's words make an empty one differs between versions of HAProxy".into(),
            );
        } else if after_space && self.setting.dialect != Dialect::Strict {
            // The closing quote begins another, empty word.
            self.word(from);
        }
        Ok(())
    }

    /// A variable that does not exist.
    fn expand_nothing(&mut self, from: usize, name: &[u8], splits: bool) {
        let end = self.at;
        if !(splits && self.setting.dialect == Dialect::Strict) {
            let word = self.word(from);
            word.literal = false;
            word.source.end = end;
        }
        let at_end_of_quotes = self.peek(0) == Some(b'"') && !name.starts_with(b".");
        if !at_end_of_quotes {
            return;
        }
        match self.setting.dialect {
            Dialect::Swallowing => {
                self.at += 1;
                self.skip_spaces();
                self.quote = Quote::None;
            }
            Dialect::Unknown => {
                let rest = self.line.get(self.at + 1..).unwrap_or_default();
                let next = rest.iter().find(|&&byte| !is_space(byte));
                if next.is_some_and(|&byte| byte != b'#') {
                    let name = String::from_utf8_lossy(name);
                    self.word(from).doubt = Some(
                        format!("${name} is not set, and versions of HAProxy differ in where the word then ends").into(),
                    );
                }
            }
            Dialect::Plain | Dialect::Strict => {}
        }
    }
}

fn hexadecimal_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Expands variables a second time, as HAProxy does in addresses: anywhere, unset is empty, no
/// defaults (`env_expand` in `src/tools.c`). `Err`: one of them is not known.
pub(super) fn expand_again(
    text: &[u8],
    variables: &Variables,
    room: &mut usize,
) -> Result<Vec<u8>, Reason> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.iter().position(|&byte| byte == b'$') {
        let (before, after) = rest.split_at(dollar);
        out.extend_from_slice(before);
        let after = after.get(1..).unwrap_or_default();
        let (braced, after) = match after.strip_prefix(b"{") {
            Some(after) => (true, after),
            None => (false, after),
        };
        let length =
            after.iter().take_while(|&&byte| byte.is_ascii_alphanumeric() || byte == b'_').count();
        let (name, after) = after.split_at(length);
        rest = match after.strip_prefix(b"}") {
            Some(after) if braced => after,
            _ => after,
        };
        if name.is_empty() {
            continue;
        }
        match variables.get(name) {
            Lookup::Set(value) if value.len() > *room => {
                *room = 0;
                return Err("its variables expand to more than is read".into());
            }
            Lookup::Set(value) => {
                *room -= value.len();
                out.extend_from_slice(value);
            }
            Lookup::Unset => {}
            Lookup::Unknown(reason) => {
                let name = String::from_utf8_lossy(name);
                return Err(format!("the value of ${name} is not known: {reason}").into());
            }
        }
    }
    out.extend_from_slice(rest);
    Ok(out)
}
