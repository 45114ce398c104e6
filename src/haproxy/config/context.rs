//! What the sections of a configuration share while it is read.

use std::collections::BTreeMap;

use super::addresses::Accepts;
use super::bind::{self, Bound, Options, Owner};
use super::findings::{Findings, Line, Switch};
use super::launch::Launch;
use super::lexer::Word;
use super::statement::Statement;
use super::variables::{Dialect, Variables};
use crate::model::declared::HostName;

/// How far reading stops after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// HAProxy skips the rest of this file.
    EndFile,
    /// HAProxy stops reading altogether.
    Abort,
}

/// What the sections share while a configuration is read.
pub(super) struct Context<'a> {
    pub(super) launch: &'a Launch,
    pub(super) dialect: Dialect,
    pub(super) variables: Variables,
    pub(super) local_peer: Option<String>,
    pub(super) defaults: Defaults,
    pub(super) findings: Findings,
    /// The lines that count; `None` unless they were asked for.
    pub(super) statements: Option<Vec<Statement>>,
    pub(super) switched: Vec<(&'static str, bool)>,
    pub(super) quic_off: Switch,
    /// `unix-bind prefix`, once a line has set it.
    pub(super) unix_prefix: Option<String>,
    /// How many more bytes variables may expand to.
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
            launch: self.launch,
            accepts,
            file: line.file,
            line: line.number,
        };
        let bound = bind::read(word, &setting, &mut self.room);
        for one in &bound {
            if let Some(query) = one.host.clone() {
                let name = HostName { query, place: one.place.clone() };
                self.findings.declared.host_names.push(name);
            }
        }
        bound
    }

    /// Declares the sockets of a line outside of every proxy: those of the addresses in `word`, with the
    /// options in `keywords`. The prefix of `unix-bind` does not apply to them.
    pub(super) fn sockets(
        &mut self,
        word: &Word,
        line: &Line<'_>,
        keywords: &[Word],
        section: &str,
    ) {
        let bound = self.addresses(word, line, Accepts::Streams);
        self.findings.address_errors(&bound, line.doubt);
        let mut options = Options::default();
        options.read(keywords);
        let owner = Owner { section: &section.into(), unix_prefix: None };
        for bound in &bound {
            self.findings.socket(bind::socket(bound, &options, &owner), line.doubt);
        }
    }

    /// Reports an error after which HAProxy stops. The caller reads on if the line may not count.
    pub(super) fn abort(
        &mut self,
        line: &Line<'_>,
        word: usize,
        what: impl Into<String>,
        help: Option<&'static str>,
    ) -> Flow {
        self.findings.refuse(line, word, what, help);
        Flow::Abort
    }
}

/// For each `defaults` section so far, whether a proxy that inherits from it is disabled.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    /// The last section, from which a proxy without `from` inherits.
    pub(super) last: Switch,
    pub(super) named: BTreeMap<Vec<u8>, Switch>,
}
