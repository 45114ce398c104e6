//! Answers what a condition asks about HAProxy itself: its version and its options
//! (`src/cfgcond.c`).

use std::cmp::Ordering;

use super::launch::Launch;
use super::truth::Truth;
use super::variables::Variables;
use super::version::Comparison;

/// Everything that a condition may ask about.
pub(super) struct World<'a> {
    pub(super) variables: &'a Variables,
    pub(super) launch: &'a Launch,
    /// The options that `global` lines have switched so far, by their name in `enabled()`.
    pub(super) switched: &'a [(&'static str, bool)],
}

impl World<'_> {
    pub(super) fn version(
        &self,
        text: &[u8],
        holds: impl Fn(Ordering) -> bool,
        unparsable: bool,
    ) -> Truth {
        let Some(version) = &self.launch.version else {
            return Truth::unknown("HAProxy's version is not known");
        };
        match version.compare(text) {
            Comparison::NotKnown => {
                Truth::unknown("HAProxy's version is not known to the patch number")
            }
            // HAProxy treats a text that it cannot read as an older version.
            Comparison::NoVersion => Truth::of(unparsable),
            Comparison::Order(order) => Truth::of(holds(order)),
        }
    }

    /// Answers `enabled(OPTION)`: the option is built in and not switched off.
    pub(super) fn enabled(&self, name: &[u8]) -> Truth {
        let (option, always_built_in, switch) = match name {
            b"POLL" => ("POLL", false, "dp"),
            b"EPOLL" => ("EPOLL", false, "de"),
            b"SPLICE" => ("SPLICE", false, "dS"),
            b"GETADDRINFO" => ("GETADDRINFO", false, "dG"),
            b"REUSEPORT" => ("REUSEPORT", true, "dR"),
            b"FAST-FORWARD" => ("FAST-FORWARD", true, "dF"),
            b"SERVER-SSL-VERIFY-NONE" => {
                let switched = self.launch.switches.contains("dV")
                    || self.last_switch("SERVER-SSL-VERIFY-NONE") == Some(true);
                return Truth::of(switched);
            }
            // Up to 3.0 HAProxy answers for EPOLL instead.
            b"KQUEUE" => match self.launch.version.map(|version| version.is_at_least(3, 2)) {
                Some(true) => return Truth::False,
                Some(false) => ("EPOLL", false, "de"),
                None => return Truth::unknown("enabled(KQUEUE) depends on HAProxy's version"),
            },
            // EVPORTS belongs to another operating system; there are no other options.
            _ => return Truth::False,
        };
        if self.launch.switches.contains(switch) || self.last_switch(option) == Some(false) {
            return Truth::False;
        }
        if always_built_in {
            Truth::True
        } else {
            Truth::unknown("the features HAProxy was built with are not known")
        }
    }

    fn last_switch(&self, option: &str) -> Option<bool> {
        let found = self.switched.iter().rev().find(|(name, _)| *name == option);
        found.map(|(_, on)| *on)
    }
}

/// A text that HAProxy can read as a version of OpenSSL, such as `3.0.17`, `1.1.1w` or
/// `3.0.0-beta1` (`openssl_version_parser` in `src/ssl_utils.c`).
pub(super) fn is_openssl_version(text: &[u8]) -> bool {
    let (major, rest) = leading_digits(text);
    let Some((minor, rest)) = rest.strip_prefix(b".").map(leading_digits) else { return false };
    let Some((fix, rest)) = rest.strip_prefix(b".").map(leading_digits) else { return false };
    let in_range = major.is_some_and(|major| major <= 0xf)
        && minor.unwrap_or(0) <= 0xff
        && fix.unwrap_or(0) <= 0xff;
    let beta = rest.strip_prefix(b"-beta").map(|number| leading_digits(number).0);
    in_range && beta.is_none_or(|number| number.is_some_and(|number| number <= 14))
}

fn leading_digits(text: &[u8]) -> (Option<u32>, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    (number, rest)
}
