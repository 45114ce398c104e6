//! The environment variables as the configuration sees them, after `setenv` and similar lines and
//! with those that are not known.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::launch::Launch;
use super::version::Version;

/// Why something is not known, in words for a person.
pub(super) type Reason = Arc<str>;

/// The state of one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup<'a> {
    /// The variable has this value.
    Set(&'a [u8]),
    /// The variable is not set.
    Unset,
    /// Its value, or whether it is set, is not known.
    Unknown(Reason),
}

/// The state of one variable as it is stored.
#[derive(Debug, Clone)]
enum Value {
    Known(Vec<u8>),
    Unset,
    Unknown(Reason),
}

/// The state of all variables.
#[derive(Debug, Clone)]
pub(super) struct Variables {
    values: BTreeMap<Vec<u8>, Value>,
    /// Why variables that are not in `values` are not known; `None` if they are not set.
    rest: Option<Reason>,
    /// Names that the configuration has asked for.
    asked: RefCell<BTreeSet<Vec<u8>>>,
}

impl Variables {
    /// The environment at the start of parsing: the one that HAProxy is executed with and the
    /// variables that it sets itself.
    pub(super) fn new(launch: &Launch, local_peer: Option<&str>) -> Variables {
        let mut variables =
            Variables { values: BTreeMap::new(), rest: None, asked: RefCell::default() };
        match &launch.environment {
            Some(environment) => {
                for (name, value) in environment {
                    variables.set(name.as_bytes(), value.as_bytes());
                }
            }
            None => variables.rest = Some("the environment is not known".into()),
        }
        variables.set_own(launch, local_peer);
        variables
    }

    /// Sets the variables that HAProxy sets before it parses (`src/haproxy.c`): since 2.8 its log
    /// formats and branch, and in a master `HAPROXY_MWORKER`, up to 3.0 only after a re-exec.
    fn set_own(&mut self, launch: &Launch, local_peer: Option<&str>) {
        match local_peer {
            Some(name) => self.set(b"HAPROXY_LOCALPEER", name.as_bytes()),
            None => self.forget(b"HAPROXY_LOCALPEER", &"the host's name is not known".into()),
        }
        let version = launch.version;
        if launch.master_worker {
            if version.is_some_and(|version| version.is_at_least(3, 1)) {
                self.set(b"HAPROXY_MWORKER", b"1");
            } else if !matches!(self.peek(b"HAPROXY_MWORKER"), Lookup::Set(_)) {
                self.forget(
                    b"HAPROXY_MWORKER",
                    &"up to 3.0 a master has HAPROXY_MWORKER only once it has restarted".into(),
                );
            }
        }
        let built_in: Reason = "its value is built into HAProxy".into();
        let names: [&[u8]; 5] = [
            b"HAPROXY_HTTP_LOG_FMT",
            b"HAPROXY_HTTPS_LOG_FMT",
            b"HAPROXY_TCP_LOG_FMT",
            b"HAPROXY_HTTP_CLF_LOG_FMT",
            b"HAPROXY_TCP_CLF_LOG_FMT",
        ];
        match version {
            Some(version) if version.is_at_least(2, 8) => {
                let (major, minor, _) = version.numbers();
                self.set(b"HAPROXY_BRANCH", format!("{major}.{minor}").as_bytes());
            }
            Some(_) => return,
            None => self.forget(b"HAPROXY_BRANCH", &"the version is not known".into()),
        }
        for name in names {
            self.forget(name, &built_in);
        }
    }

    /// Looks one up for the configuration, and keeps in mind that it was asked for.
    pub(super) fn get(&self, name: &[u8]) -> Lookup<'_> {
        if !self.asked.borrow().contains(name) {
            self.asked.borrow_mut().insert(name.to_vec());
        }
        self.peek(name)
    }

    /// The names that were asked for.
    pub(super) fn asked(&self) -> BTreeSet<String> {
        let asked = self.asked.borrow();
        asked.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    fn peek(&self, name: &[u8]) -> Lookup<'_> {
        match (self.values.get(name), &self.rest) {
            (Some(Value::Known(value)), _) => Lookup::Set(value),
            (Some(Value::Unknown(reason)), _) | (None, Some(reason)) => {
                Lookup::Unknown(Arc::clone(reason))
            }
            (Some(Value::Unset), _) | (None, None) => Lookup::Unset,
        }
    }

    /// Does what `setenv NAME VALUE` does.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) {
        self.values.insert(name.to_vec(), Value::Known(value.to_vec()));
    }

    /// Does what `presetenv NAME VALUE` does: sets the variable unless it is set.
    pub(super) fn preset(&mut self, name: &[u8], value: &[u8]) {
        match self.peek(name) {
            Lookup::Set(_) => {}
            Lookup::Unset => self.set(name, value),
            Lookup::Unknown(reason) => self.forget(name, &reason),
        }
    }

    /// Does what `unsetenv NAME` does.
    pub(super) fn unset(&mut self, name: &[u8]) {
        if self.rest.is_some() {
            self.values.insert(name.to_vec(), Value::Unset);
        } else {
            self.values.remove(name);
        }
    }

    /// Does what `resetenv NAME…` does: keeps only these variables.
    pub(super) fn keep_only(&mut self, names: &[&[u8]]) {
        if let Some(reason) = self.rest.take() {
            for name in names {
                self.values
                    .entry(name.to_vec())
                    .or_insert_with(|| Value::Unknown(Arc::clone(&reason)));
            }
        }
        self.values.retain(|name, _| names.contains(&name.as_slice()));
    }

    /// Marks one variable as not known from here on.
    pub(super) fn forget(&mut self, name: &[u8], reason: &Reason) {
        self.values.insert(name.to_vec(), Value::Unknown(Arc::clone(reason)));
    }

    /// Marks all variables as not known from here on.
    pub(super) fn forget_all(&mut self, reason: &Reason) {
        self.values.clear();
        self.rest = Some(Arc::clone(reason));
    }
}

/// How a version treats an unset variable and an empty word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Up to 2.8.3 an unset variable expands to nothing, and an empty word ends the arguments.
    Plain,
    /// From about 2.8.5 to 3.2 an unset variable at the end of quotes also swallows the closing quote
    /// and the spaces after it, so that the next word is glued on (HAProxy commit ff8db5a85).
    Swallowing,
    /// From 3.3 on an empty word is an error, and an empty `"${V[*]}"` gives no word at all.
    Strict,
    /// The version is not known well enough.
    Unknown,
}

impl Dialect {
    /// The dialect of a version. The swallowing dialect was backported after November 2023 in patch
    /// releases that are not all known, so that some patch numbers are undecided.
    pub(super) fn of(version: Option<Version>) -> Dialect {
        let Some(version) = version else {
            return Dialect::Unknown;
        };
        let (major, minor, patch) = version.numbers();
        match (major, minor, patch) {
            (3, 3.., _) | (4.., _, _) => Dialect::Strict,
            (2, 9, _) | (3, 0..=2, _) | (2, 8, Some(25..)) => Dialect::Swallowing,
            (2, 8, Some(..=4)) | (2, 6, Some(..=15)) => Dialect::Plain,
            (2, 4 | 6 | 7 | 8, _) => Dialect::Unknown,
            _ => Dialect::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_act_in_order() {
        let launch = Launch {
            environment: Some([("A".to_owned(), "1".to_owned())].into()),
            ..Launch::default()
        };
        let mut variables = Variables::new(&launch, Some("me"));
        variables.preset(b"A", b"2");
        variables.preset(b"B", b"2");
        assert_eq!(variables.get(b"A"), Lookup::Set(b"1"));
        assert_eq!(variables.get(b"B"), Lookup::Set(b"2"));
        assert_eq!(variables.get(b"HAPROXY_LOCALPEER"), Lookup::Set(b"me"));
        variables.keep_only(&[b"B"]);
        assert_eq!(variables.get(b"A"), Lookup::Unset);
        assert_eq!(variables.get(b"B"), Lookup::Set(b"2"));
        variables.unset(b"B");
        assert_eq!(variables.get(b"B"), Lookup::Unset);
    }

    #[test]
    fn unknown_environment_stays_unknown_until_set() {
        let mut variables = Variables::new(&Launch::default(), None);
        assert!(matches!(variables.get(b"A"), Lookup::Unknown(_)));
        variables.preset(b"A", b"1");
        assert!(matches!(variables.get(b"A"), Lookup::Unknown(_)));
        variables.set(b"A", b"1");
        assert_eq!(variables.get(b"A"), Lookup::Set(b"1"));
        variables.unset(b"A");
        assert_eq!(variables.get(b"A"), Lookup::Unset);
        variables.keep_only(&[b"C"]);
        assert_eq!(variables.get(b"D"), Lookup::Unset);
        assert!(matches!(variables.get(b"C"), Lookup::Unknown(_)));
    }
}
