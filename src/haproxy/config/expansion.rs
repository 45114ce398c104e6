//! Replaces variables by their values (configuration manual, section 2.3).

use super::lexer::{LexError, Lexer, Quote, is_space};
use super::variables::{Dialect, Lookup, Reason, Variables};

impl Lexer<'_, '_> {
    /// Reads `$NAME`, `${NAME}`, `${NAME-default}`, `${NAME[*]}` or `$.LINE`.
    pub(super) fn variable(&mut self) -> Result<(), LexError> {
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
                what: "invalid first character in the name of a variable",
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
                    help: Some("the internal variables are .FILE, .LINE and .SECTION"),
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
        match value {
            Lookup::Set(value) => {
                if value.len() > *self.room {
                    *self.room = 0;
                    let why = "its variables expand to more text than is read here";
                    self.word(from).doubt = Some(why.into());
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
                    self.word(from).literal = false;
                }
            }
            Lookup::Unset => self.expand_nothing(from, name, splits),
            Lookup::Unknown(reason) => {
                let what = if splits { "the number of words in" } else { "the value of" };
                let name = String::from_utf8_lossy(name);
                let why = format!("{what} ${name} is not known: {reason}");
                self.word_up_to_here(from).doubt = Some(why.into());
            }
        }
        Ok(())
    }

    /// Expands `"${NAME[*]}"`, in whose value spaces separate words.
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
                "HAProxy versions differ in whether spaces around a variable's words add an empty word".into(),
            );
        } else if after_space && self.setting.dialect != Dialect::Strict {
            // The closing quote begins another word, which is empty.
            self.word(from);
        }
        Ok(())
    }

    /// Expands a variable that is not set.
    fn expand_nothing(&mut self, from: usize, name: &[u8], splits: bool) {
        if !(splits && self.setting.dialect == Dialect::Strict) {
            self.word_up_to_here(from);
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
                        format!("HAProxy versions differ in where a word ends after ${name}, which is not set").into(),
                    );
                }
            }
            Dialect::Plain | Dialect::Strict => {}
        }
    }
}

/// Expands variables a second time, as HAProxy does in addresses: also outside of quotes, without
/// defaults, and with nothing for an unset one (`env_expand` in `src/tools.c`). The error says
/// which one is not known.
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
                return Err("its variables expand to more text than is read here".into());
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
