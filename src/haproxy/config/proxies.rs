//! Reads `defaults`, `frontend`, `listen`, `backend` and `log-forward` sections and finds which of
//! their `bind` lines open sockets (configuration manual, section 4; `src/cfgparse-listen.c`,
//! `src/log.c`).

use std::sync::Arc;

use super::addresses::Accepts;
use super::bind::{self, Options, Owner, Socket};
use super::context::{Context, Flow};
use super::findings::{Line, Switch};
use super::variables::Reason;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Defaults,
    Proxy,
    LogForward,
}

/// One of these sections while it is read.
#[derive(Debug)]
pub(super) struct Proxy {
    kind: Kind,
    name: Vec<u8>,
    label: Arc<str>,
    disabled: Switch,
    sockets: Vec<(Socket, Option<Reason>)>,
    /// Why the section as a whole may be absent, or may be another one.
    doubt: Option<Reason>,
}

/// Why a name with a wrong character may not stop HAProxy: since 3.4 `cfg_parse_listen` overwrites the
/// error code of a section's line with that of `proxy_ref_defaults`.
const STARTS_ANYWAY: &str =
    "HAProxy 3.4 and later report this, but start anyway if a defaults section is above it";

/// HAProxy accepts the text as a name (`invalid_char` in `src/tools.c`).
pub(super) fn is_identifier(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':'))
}

impl Proxy {
    /// Opens the section with its first line.
    pub(super) fn open(line: &Line<'_>, context: &mut Context<'_>) -> Result<Proxy, Flow> {
        let keyword = line.text(0);
        let kind = match keyword {
            b"defaults" => Kind::Defaults,
            b"log-forward" => Kind::LogForward,
            _ => Kind::Proxy,
        };
        let name = line.text(1);
        let label = format!("{} {}", line.string(0), line.string(1));
        let mut proxy = Proxy {
            kind,
            name: name.to_vec(),
            label: label.trim_end().into(),
            disabled: Switch::Off,
            sockets: Vec::new(),
            doubt: line.doubt.cloned(),
        };
        if kind != Kind::Defaults {
            if name.is_empty() && line.doubt_to(1).is_none() {
                let what = format!("'{}' needs a name", line.string(0));
                return Err(context.abort(line, 0, what, Some("write one after it")));
            }
            if !is_identifier(name) {
                let what = "the name has a character that is not permitted";
                let version = context.launch.version.filter(|_| kind != Kind::LogForward);
                let starts_anyway: Option<Reason> = version
                    .is_some_and(|version| version.is_at_least(3, 4))
                    .then(|| STARTS_ANYWAY.into());
                let help = Some("use letters, digits, '-', '_', '.' and ':'");
                let doubt = line.doubt_to(1).or(starts_anyway.as_ref());
                context.findings.error(line.place(1), what, help, doubt);
            }
        }
        if kind != Kind::LogForward {
            proxy.inherit(line, context)?;
        }
        Ok(proxy)
    }

    /// Inherits from `from NAME` or from the last `defaults`, and reads the address of the old form
    /// `listen NAME ADDRESS:PORT`.
    fn inherit(&mut self, line: &Line<'_>, context: &mut Context<'_>) -> Result<(), Flow> {
        let unnamed_from =
            self.kind == Kind::Defaults && line.text(1) == b"from" && line.words.len() == 3;
        let from = if unnamed_from {
            self.name.clear();
            Some(2)
        } else if line.text(2) == b"from" && line.words.len() > 3 {
            Some(3)
        } else {
            None
        };
        if let Some(index) = from {
            if let Some(doubt) = line.doubt_to(index) {
                self.disabled = Switch::Maybe(Arc::clone(doubt));
            } else if let Some(found) = context.defaults.named.get(line.text(index)) {
                self.disabled = found.clone();
            } else {
                let what = format!("no defaults section '{}' above this line", line.string(index));
                return Err(context.abort(line, index, what, None));
            }
        } else if self.kind != Kind::Defaults {
            self.disabled = context.defaults.last.clone();
            if line.words.len() > 2 {
                self.old_address(line, context);
            }
        }
        Ok(())
    }

    /// Reads `listen NAME ADDRESS:PORT`. It was a bind up to HAProxy 1.7. Later versions refuse it,
    /// some of them only with a message and by ignoring the section.
    fn old_address(&mut self, line: &Line<'_>, context: &mut Context<'_>) {
        const WHY: &str = "an address on the section's own line is a bind up to HAProxy 1.7; later versions \
             refuse it, or ignore the section";
        let Some(word) = line.words.get(2) else {
            return;
        };
        let version = context.launch.version;
        if version.is_some_and(|version| version.is_at_least(3, 1)) || line.text(0) == b"backend" {
            let what = "an address is not allowed on the section's own line";
            let help = Some("move it to a bind line of the section");
            return context.findings.refuse(line, 2, what, help);
        }
        let bound = context.addresses(word, line, Accepts::Streams);
        let old = version.is_some_and(|version| !version.is_at_least(1, 8));
        if old {
            context.findings.address_errors(&bound, line.doubt);
        } else {
            self.doubt.get_or_insert_with(|| WHY.into());
        }
        self.take(&bound, &Options::default(), line, context);
    }

    /// Reads any other line of the section.
    pub(super) fn line(&mut self, line: &Line<'_>, context: &mut Context<'_>) {
        match (line.text(0), self.kind) {
            (b"bind", Kind::Proxy | Kind::LogForward) => {
                self.bind(line, Accepts::Streams, context);
            }
            (b"dgram-bind", Kind::LogForward) => self.bind(line, Accepts::Datagrams, context),
            (b"bind", Kind::Defaults) => {
                let what = "'bind' is not allowed in a defaults section";
                let help = Some("move it to a frontend or listen section");
                context.findings.refuse(line, 0, what, help);
            }
            (b"disabled", Kind::Proxy | Kind::Defaults) => self.disabled.set(true, line.doubt),
            (b"enabled", Kind::Proxy | Kind::Defaults) => self.disabled.set(false, line.doubt),
            _ => {}
        }
    }

    fn bind(&mut self, line: &Line<'_>, accepts: Accepts, context: &mut Context<'_>) {
        let Some(word) = line.words.get(1) else {
            let what = format!("'{}' needs an address", line.string(0));
            let help = Some("write ADDRESS:PORT or a path; is a variable in it empty?");
            return context.findings.refuse(line, 0, what, help);
        };
        let bound = context.addresses(word, line, accepts);
        context.findings.address_errors(&bound, line.doubt);
        if bind::is_no_keyword(line.text(2)) {
            let help =
                Some("separate addresses by a comma without a space, or use another bind line");
            let what = format!("'{}' is not a keyword of a bind line", line.string(2));
            context.findings.error(line.place(2), what, help, line.doubt_to(2));
        }
        let mut options = Options::default();
        options.read(line.rest(2));
        self.take(&bound, &options, line, context);
    }

    fn take(
        &mut self,
        bound: &[bind::Bound],
        options: &Options,
        line: &Line<'_>,
        context: &Context<'_>,
    ) {
        let owner = Owner { section: &self.label, unix_prefix: context.unix_prefix.as_deref() };
        for bound in bound {
            let socket = bind::socket(bound, options, &owner);
            self.sockets.push((socket, line.doubt.cloned()));
        }
    }

    /// Ends the section and hands its sockets over.
    pub(super) fn close(self, context: &mut Context<'_>) {
        if self.kind == Kind::Defaults {
            let state = match self.doubt {
                Some(reason) => Switch::Maybe(reason),
                None => self.disabled,
            };
            if !self.name.is_empty() {
                context.defaults.named.insert(self.name, state.clone());
            }
            context.defaults.last = state;
            return;
        }
        let disabled = match &self.disabled {
            Switch::On => return,
            Switch::Off => None,
            Switch::Maybe(reason) => Some(reason),
        };
        for (socket, doubt) in self.sockets {
            let doubt = doubt.as_ref().or(self.doubt.as_ref()).or(disabled);
            context.findings.socket(socket, doubt);
        }
    }
}
