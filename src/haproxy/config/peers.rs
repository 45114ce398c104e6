//! Reads `peers` sections, in which only the local peer listens (configuration manual, section 3.5;
//! `src/cfgparse-peers.c`).

use std::sync::Arc;

use super::addresses::Accepts;
use super::bind::{self, Bound, Options, Owner};
use super::context::{Context, Flow};
use super::findings::{Line, Switch};
use super::variables::Reason;

/// A `peers` section while it is read.
#[derive(Debug)]
pub(super) struct Peers {
    label: Arc<str>,
    disabled: Switch,
    /// A `peer` or `server` line has the local peer's name. Without one HAProxy drops the section.
    local: Switch,
    /// The options, which all its lines share.
    options: Options,
    bound: Vec<(Bound, Option<Reason>)>,
    /// It certainly has a `bind` line.
    has_bind: bool,
    /// It certainly has a `peer` line, which HAProxy does not accept beside a `bind` line.
    has_peer: bool,
    doubt: Option<Reason>,
}

impl Peers {
    /// Opens the section with its first line.
    pub(super) fn open(line: &Line<'_>, context: &mut Context<'_>) -> Result<Peers, Flow> {
        if line.text(1).is_empty() && line.doubt_to(1).is_none() {
            return Err(context.abort(line, 0, "'peers' needs a name", None));
        }
        Ok(Peers {
            label: format!("peers {}", line.string(1)).into(),
            disabled: Switch::Off,
            local: Switch::Off,
            options: Options::default(),
            bound: Vec::new(),
            has_bind: false,
            has_peer: false,
            doubt: line.doubt.cloned(),
        })
    }

    /// Reads any other line of the section.
    pub(super) fn line(&mut self, line: &Line<'_>, context: &mut Context<'_>) {
        self.mixed(line, context);
        match line.text(0) {
            b"bind" => {
                let Some(word) = line.words.get(1) else {
                    let help = Some("write ADDRESS:PORT");
                    return context.findings.refuse(line, 0, "'bind' needs an address", help);
                };
                self.read_options(line, 2);
                self.take(word, line, None, context);
            }
            b"default-bind" => self.read_options(line, 1),
            b"peer" | b"server" => self.peer(line, context),
            b"disabled" => self.disabled.set(true, line.doubt),
            b"enabled" => self.disabled.set(false, line.doubt),
            _ => {}
        }
    }

    /// Refuses `peer` lines beside `bind` lines.
    fn mixed(&mut self, line: &Line<'_>, context: &mut Context<'_>) {
        if line.doubt.is_some() {
            return;
        }
        let (own, other) = match line.text(0) {
            b"bind" => (&mut self.has_bind, self.has_peer),
            b"peer" => (&mut self.has_peer, self.has_bind),
            _ => return,
        };
        *own = true;
        if other {
            let what = "a peers section cannot have both 'peer' and 'bind' lines";
            let help = Some("beside a 'bind' line, write 'server' instead of 'peer'");
            context.findings.refuse(line, 0, what, help);
        }
    }

    fn read_options(&mut self, line: &Line<'_>, from: usize) {
        if let Some(reason) = line.doubt {
            self.options.doubt.get_or_insert_with(|| Arc::clone(reason));
        } else {
            self.options.read(line.rest(from));
        }
    }

    /// Reads `peer NAME ADDRESS:PORT`, which listens there if NAME is the local peer's, and `server
    /// NAME`, which only names a peer: the local one then listens on the `bind` line.
    fn peer(&mut self, line: &Line<'_>, context: &mut Context<'_>) {
        let unknown: Reason = "the name of the local peer is not known".into();
        let doubt = match (line.doubt_to(1), &context.local_peer) {
            (Some(doubt), _) => Some(doubt.clone()),
            (None, None) => Some(unknown),
            (None, Some(local)) if local.as_bytes() == line.text(1) => None,
            (None, Some(_)) => return,
        };
        let address = line.words.get(2);
        if line.text(0) == b"server" || address.is_some() {
            self.local.set(true, doubt.as_ref());
        }
        match (line.text(0), address) {
            (b"peer", Some(word)) => self.take(word, line, doubt, context),
            (b"server", Some(word)) if bind::is_no_keyword(&word.text) => {
                context.findings.error(
                    line.place(2),
                    "the local peer's 'server' line cannot have an address",
                    Some("move it to a 'bind' line of the section, or write 'peer' instead of 'server'"),
                    doubt.as_ref().or(word.doubt.as_ref()),
                );
            }
            _ => {}
        }
    }

    fn take(
        &mut self,
        word: &super::lexer::Word,
        line: &Line<'_>,
        doubt: Option<Reason>,
        context: &mut Context<'_>,
    ) {
        let doubt = doubt.or_else(|| line.doubt.cloned());
        let bound = context.addresses(word, line, Accepts::Streams);
        context.findings.address_errors(&bound, doubt.as_ref());
        self.bound.extend(bound.into_iter().map(|bound| (bound, doubt.clone())));
    }

    /// Ends the section and hands its sockets over.
    pub(super) fn close(self, context: &mut Context<'_>) {
        let mut section_doubt = self.doubt;
        for switch in [&self.disabled, &self.local] {
            if let Switch::Maybe(reason) = switch {
                section_doubt.get_or_insert_with(|| Arc::clone(reason));
            }
        }
        if self.disabled == Switch::On || self.local == Switch::Off {
            return;
        }
        for (bound, doubt) in self.bound {
            let owner = Owner { section: &self.label, unix_prefix: context.unix_prefix.as_deref() };
            let socket = bind::socket(&bound, &self.options, &owner);
            let doubt = doubt.as_ref().or(section_doubt.as_ref());
            context.findings.socket(socket, doubt);
        }
    }
}
