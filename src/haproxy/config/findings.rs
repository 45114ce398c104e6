//! Collects what the sections declare, and separates the doubtful from the certain.

use std::path::Path;
use std::sync::Arc;

use super::bind::{Bound, Socket, possible};
use super::lexer::Word;
use super::variables::Reason;
use crate::model::declared::{ConfigError, Declared, Inherited, Place, Possible, Uncertain};

/// A setting that lines switch on and off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Switch {
    /// The setting is off.
    #[default]
    Off,
    /// The setting is on.
    On,
    /// It is not known which, for this reason.
    Maybe(Reason),
}

impl Switch {
    /// Switches the setting. With a doubt, the line only may do so.
    pub(super) fn set(&mut self, on: bool, doubt: Option<&Reason>) {
        let wanted = if on { Switch::On } else { Switch::Off };
        match doubt {
            None => *self = wanted,
            Some(_) if *self == wanted => {}
            Some(reason) => *self = Switch::Maybe(Arc::clone(reason)),
        }
    }
}

/// A line that counts, or may count, as words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// The keyword and its arguments, up to an empty word.
    pub(super) words: &'a [Word],
    pub(super) file: &'a Arc<Path>,
    /// Number of the line, from 1.
    pub(super) number: usize,
    /// Why the line may not count.
    pub(super) doubt: Option<&'a Reason>,
}

impl<'a> Line<'a> {
    /// The bytes of a word; empty if there is no such word, as for HAProxy.
    pub(super) fn text(&self, index: usize) -> &'a [u8] {
        self.words.get(index).map(|word| word.text.as_slice()).unwrap_or_default()
    }

    /// The same as a string.
    pub(super) fn string(&self, index: usize) -> String {
        String::from_utf8_lossy(self.text(index)).into_owned()
    }

    /// The words from `index` on.
    pub(super) fn rest(&self, index: usize) -> &'a [Word] {
        self.words.get(index..).unwrap_or_default()
    }

    /// Why the words up to and including `last`, or the line as a whole, are not known.
    pub(super) fn doubt_to(&self, last: usize) -> Option<&'a Reason> {
        self.doubt.or_else(|| self.words.iter().take(last + 1).find_map(|word| word.doubt.as_ref()))
    }

    /// The place of one word, or of the whole line if there is no such word.
    pub(super) fn place(&self, index: usize) -> Place {
        match self.words.get(index) {
            Some(word) => self.place_of(word.source.start, word.source.end),
            None => self.place_of(
                self.words.first().map_or(0, |word| word.source.start),
                self.words.last().map_or(1, |word| word.source.end),
            ),
        }
    }

    fn place_of(&self, start: usize, end: usize) -> Place {
        Place {
            file: Arc::clone(self.file),
            line: self.number,
            columns: start + 1..end.max(start + 1) + 1,
        }
    }
}

/// The answer as far as the configuration has been read.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) declared: Declared,
}

impl Findings {
    /// Reports what HAProxy refuses, as uncertain if the line may not count.
    pub(super) fn error(
        &mut self,
        place: Place,
        what: impl Into<String>,
        help: Option<&'static str>,
        doubt: Option<&Reason>,
    ) {
        let what = what.into();
        match doubt {
            None => self.declared.errors.push(ConfigError { place, what, help }),
            Some(reason) => {
                self.uncertain(place, format!("{what}, if this line counts: {reason}"), vec![]);
            }
        }
    }

    /// Reports what HAProxy refuses in one word of a line.
    pub(super) fn refuse(
        &mut self,
        line: &Line<'_>,
        word: usize,
        what: impl Into<String>,
        help: Option<&'static str>,
    ) {
        self.error(line.place(word), what, help, line.doubt);
    }

    /// Reports a line that cannot be decided.
    pub(super) fn uncertain(
        &mut self,
        place: Place,
        why: impl Into<String>,
        may_bind: Vec<Possible>,
    ) {
        self.declared.uncertain.push(Uncertain { place, why: why.into(), may_bind });
    }

    /// Reports the errors in the addresses of a line.
    pub(super) fn address_errors(&mut self, bound: &[Bound], doubt: Option<&Reason>) {
        for bound in bound {
            if let Err(error) = &bound.outcome {
                self.error(bound.place.clone(), error.what.clone(), error.help, doubt);
            }
        }
    }

    /// Takes a socket in, as uncertain if its line or section is.
    pub(super) fn socket(&mut self, socket: Socket, doubt: Option<&Reason>) {
        let (place, why, may_bind) = match (socket, doubt) {
            (Socket::None, _) => return,
            (Socket::Listener(listener), None) => return self.declared.listeners.push(listener),
            (Socket::Inherited(inherited), None) => return self.declared.inherited.push(inherited),
            (Socket::Unix(unix), None) => return self.declared.unix.push(unix),
            (Socket::Listener(listener), Some(why)) => {
                let possible = possible(&listener);
                (listener.place, Arc::clone(why), vec![possible])
            }
            (Socket::Inherited(Inherited { protocol, place, .. }), Some(why)) => {
                let possible = Possible { protocol: Some(protocol), ..Possible::default() };
                (place, Arc::clone(why), vec![possible])
            }
            (Socket::Unix(unix), Some(why)) => (unix.place, Arc::clone(why), vec![]),
            (Socket::Uncertain(place, why, possible), _) => (place, why, vec![possible]),
        };
        self.uncertain(place, why.to_string(), may_bind);
    }
}
