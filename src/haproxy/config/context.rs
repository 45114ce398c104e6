//! What the sections of a configuration share while it is read.

use std::collections::BTreeMap;

use super::addresses::Accepts;
use super::bind::{self, Bound};
use super::findings::{Findings, Line, Switch};
use super::launch::Launch;
use super::lexer::Word;
use super::variables::{Dialect, Variables};

/// Why reading ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// HAProxy reads no further in this file.
    EndFile,
    /// It reads no further at all.
    Abort,
}

/// What the sections share.
pub(super) struct Context<'a> {
    pub(super) launch: &'a Launch,
    pub(super) dialect: Dialect,
    pub(super) variables: Variables,
    pub(super) local_peer: Option<String>,
    pub(super) defaults: Defaults,
    pub(super) findings: Findings,
    pub(super) switched: Vec<(&'static str, bool)>,
    pub(super) quic_off: Switch,
    /// Bytes variables may still expand to.
    pub(super) room: usize,
}

impl Context<'_> {
    /// Reads the addresses in one word of a line.
    pub(super) fn addresses(
        &mut self,
        word: &Word,
        line: &Line<'_>,
        accepts: Accepts,
    ) -> Vec<Bound> {
        let setting = bind::Setting {
            variables: &self.variables,
            version: self.launch.version,
            accepts,
            file: line.file,
            line: line.number,
        };
        bind::read(word, &setting, &mut self.room)
    }

    /// `unix-bind prefix`, as far as it was set above.
    pub(super) fn unix_prefix(&self) -> Option<&str> {
        self.findings.declared.globals.unix_bind_prefix.as_deref()
    }

    /// Reports an error after which HAProxy stops; where the line may not count, reading goes on.
    pub(super) fn abort(
        &mut self,
        line: &Line<'_>,
        word: usize,
        what: impl Into<String>,
        help: Option<&'static str>,
    ) -> Flow {
        self.findings.error(line.place(word), what, help, line.doubt);
        Flow::Abort
    }
}

/// The `defaults` sections so far: is what inherits from them disabled?
#[derive(Debug, Default)]
pub(super) struct Defaults {
    /// The last one, which a proxy without `from` inherits from.
    pub(super) last: Switch,
    pub(super) named: BTreeMap<Vec<u8>, Switch>,
}
