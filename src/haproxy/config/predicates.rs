//! What a condition asks HAProxy about itself: its version, features, SSL library and options
//! (`src/cfgcond.c`).

use std::cmp::Ordering;

use super::launch::Launch;
use super::truth::Truth;
use super::variables::Variables;
use super::version::Comparison;

/// What a condition may ask about.
pub(super) struct World<'a> {
    pub(super) variables: &'a Variables,
    pub(super) launch: &'a Launch,
    /// Options the `global` section has switched off or on so far, as `enabled()` calls them.
    pub(super) switched: &'a [(&'static str, bool)],
}

impl World<'_> {
    pub(super) fn feature(&self, name: &[u8]) -> Truth {
        let Some(features) = &self.launch.features else {
            return Truth::unknown("the features HAProxy was built with are not known");
        };
        Truth::of(features.split_ascii_whitespace().any(|feature| {
            feature.strip_prefix('+').is_some_and(|feature| feature.as_bytes() == name)
        }))
    }

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
            // HAProxy takes what it cannot read for an older version.
            Comparison::NoVersion => Truth::of(unparsable),
            Comparison::Order(order) => Truth::of(holds(order)),
        }
    }

    pub(super) fn openssl(
        &self,
        text: &[u8],
        holds: impl Fn(Ordering) -> bool,
    ) -> Result<Truth, String> {
        let Some(wanted) = openssl_number(text) else {
            return Err("invalid OpenSSL version".to_owned());
        };
        let own = self
            .launch
            .ssl_library
            .as_ref()
            .filter(|library| library.text.starts_with("OpenSSL "))
            .and_then(|library| library.text.split_ascii_whitespace().nth(1))
            .and_then(|version| openssl_header_number(version.as_bytes()));
        Ok(match own {
            Some(own) => Truth::of(holds(own.cmp(&wanted))),
            None => Truth::unknown("the version of OpenSSL is not known"),
        })
    }

    /// `enabled(OPTION)`: built in and not switched off.
    pub(super) fn enabled(&self, name: &[u8]) -> Truth {
        let (option, feature, switch) = match name {
            b"POLL" => ("POLL", Some("POLL"), "dp"),
            b"EPOLL" => ("EPOLL", Some("EPOLL"), "de"),
            b"SPLICE" => ("SPLICE", Some("LINUX_SPLICE"), "dS"),
            b"GETADDRINFO" => ("GETADDRINFO", Some("GETADDRINFO"), "dG"),
            b"REUSEPORT" => ("REUSEPORT", None, "dR"),
            b"FAST-FORWARD" => ("FAST-FORWARD", None, "dF"),
            b"SERVER-SSL-VERIFY-NONE" => {
                let switched = self.launch.switches.contains("dV")
                    || self.last_switch("SERVER-SSL-VERIFY-NONE") == Some(true);
                return Truth::of(switched);
            }
            // Up to 3.0 it is taken for EPOLL.
            b"KQUEUE" => match self.launch.version.map(|version| version.is_at_least(3, 2)) {
                Some(true) => return Truth::False,
                Some(false) => ("EPOLL", Some("EPOLL"), "de"),
                None => return Truth::unknown("enabled(KQUEUE) depends on HAProxy's version"),
            },
            // EVPORTS is of another system; the rest is no option.
            _ => return Truth::False,
        };
        if self.launch.switches.contains(switch) || self.last_switch(option) == Some(false) {
            return Truth::False;
        }
        match feature {
            None => Truth::True,
            Some(feature) => self.feature(feature.as_bytes()),
        }
    }

    fn last_switch(&self, option: &str) -> Option<bool> {
        let found = self.switched.iter().rev().find(|(name, _)| *name == option);
        found.map(|(_, on)| *on)
    }
}

/// The number HAProxy makes of an OpenSSL version in a condition, such as `3.0.17`, `1.1.1w` or
/// `3.0.0-beta1` (`openssl_version_parser` in `src/ssl_utils.c`): the layout of OpenSSL 1.
fn openssl_number(text: &[u8]) -> Option<u32> {
    let ([major, minor, fix], rest) = three_numbers(text)?;
    let (patch, status) = match rest.split_first() {
        None => (0, 0xf),
        Some((b'-', tag)) => match tag.strip_prefix(b"beta") {
            Some(number) => (0, leading_digits(number).0.filter(|&beta| beta <= 14)?),
            None => (0, 0),
        },
        Some(_) => {
            let letters = rest.iter().fold(1_u32, |sum, letter| {
                sum.wrapping_add(u32::from(letter & !0x20)).wrapping_sub(65)
            });
            (letters & 0xff, 0xf)
        }
    };
    Some(major << 28 | minor << 20 | fix << 12 | patch << 4 | status)
}

/// The number in OpenSSL's own header. Since OpenSSL 3 it has another layout, so that HAProxy
/// finds `3.0.17` older than `3.0.1`; this reader has to agree.
fn openssl_header_number(text: &[u8]) -> Option<u32> {
    let ([major, minor, fix], _) = three_numbers(text)?;
    if major < 3 {
        return openssl_number(text);
    }
    Some(major << 28 | minor << 20 | fix << 4)
}

fn three_numbers(text: &[u8]) -> Option<([u32; 3], &[u8])> {
    let (major, rest) = leading_digits(text);
    let (minor, rest) = leading_digits(rest.strip_prefix(b".")?);
    let (fix, rest) = leading_digits(rest.strip_prefix(b".")?);
    let numbers = [major?, minor.unwrap_or(0), fix.unwrap_or(0)];
    let [major, minor, fix] = numbers;
    (major <= 0xf && minor <= 0xff && fix <= 0xff).then_some((numbers, rest))
}

fn leading_digits(text: &[u8]) -> (Option<u32>, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    (number, rest)
}
