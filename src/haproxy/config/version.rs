//! Versions of HAProxy, compared as its own conditions compare them.

use std::cmp::Ordering;
use std::fmt;

/// A version of HAProxy, as far as it is known.
///
/// `2.6.12-1+deb12u4` and `3.5-dev5` are exact. `2.6` is only a branch, and a comparison that needs
/// the missing numbers has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Four numbers, the release state (1 dev, 2 rc or pre, 3 release), its number, and the commit.
    elements: [u64; 7],
    /// How many of the elements are known.
    known: usize,
}

impl Version {
    /// Parses the text that `haproxy -v` prints after `version`, and that `HAPROXY_STARTUP_VERSION`
    /// holds; `None` if HAProxy itself could not parse it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Version> {
        let elements = split(text.trim().as_bytes())?;
        let head = text.split_once('-').map_or(text, |(head, _)| head);
        let numbers = head.split('.').count();
        let known =
            if numbers >= 3 || text.contains("-dev") || text.contains("-rc") { 7 } else { numbers };
        Some(Version { elements, known })
    }

    /// Major and minor number, and the patch number where it is known.
    #[must_use]
    pub fn numbers(&self) -> (u64, u64, Option<u64>) {
        let [major, minor, patch, ..] = self.elements;
        (major, minor, (self.known > 2).then_some(patch))
    }

    /// Whether it belongs to branch `major.minor` or a later one.
    #[must_use]
    pub fn is_at_least(&self, major: u64, minor: u64) -> bool {
        let (own_major, own_minor, _) = self.numbers();
        (own_major, own_minor) >= (major, minor)
    }

    /// Whether it is a development version.
    #[must_use]
    pub fn is_development(&self) -> bool {
        let [.., state, _, _] = self.elements;
        state == 1
    }

    /// Compares it with a version in a condition.
    pub(super) fn compare(&self, text: &[u8]) -> Comparison {
        let Some(other) = split(text) else {
            return Comparison::NoVersion;
        };
        let known = self.elements.iter().zip(&other).take(self.known);
        match known.map(|(own, other)| own.cmp(other)).find(|order| order.is_ne()) {
            None if self.known < self.elements.len() => Comparison::NotKnown,
            order => Comparison::Order(order.unwrap_or(Ordering::Equal)),
        }
    }
}

/// How a version compares with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// How the version compares with the text's.
    Order(Ordering),
    /// The version is not known well enough.
    NotKnown,
    /// The text is not a version.
    NoVersion,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.numbers();
        write!(f, "{major}.{minor}")?;
        if let Some(patch) = patch.filter(|_| !self.is_development()) {
            write!(f, ".{patch}")?;
        }
        Ok(())
    }
}

/// Splits `a.b.c.d-tagN-…-commit` into comparable numbers (HAProxy's `src/haproxy.c`, `split_version`).
fn split(text: &[u8]) -> Option<[u64; 7]> {
    if text.is_empty() {
        return None;
    }
    let mut numbers = [0_u64; 4];
    let mut rest = text;
    let mut tag = None;
    for number in &mut numbers {
        let (value, after) = leading_number(rest);
        *number = value;
        match after.split_first() {
            None => {
                rest = &[];
                break;
            }
            Some((b'-', after)) => {
                tag = Some(after);
                rest = &[];
                break;
            }
            Some((b'.', after)) => rest = after,
            Some(_) => return None,
        }
    }
    if !rest.is_empty() {
        return None;
    }
    let [a, b, c, d] = numbers;
    let mut elements = [a, b, c, d, 3, 0, 0];
    let Some(mut tag) = tag else {
        return Some(elements);
    };
    let [.., state, state_number, commit] = &mut elements;
    for (name, value) in [(&b"dev"[..], 1), (b"rc", 2), (b"pre", 2)] {
        if let Some(after) = tag.strip_prefix(name) {
            *state = value;
            let (number, after) = leading_number(after);
            *state_number = number;
            match after.split_first() {
                None => return Some(elements),
                Some((b'-', after)) => tag = after,
                Some(_) => return None,
            }
            break;
        }
    }
    if let Some(dash) = tag.iter().rposition(|&byte| byte == b'-') {
        tag = tag.get(dash + 1..).unwrap_or_default();
        if tag.is_empty() {
            return None;
        }
    }
    let (number, after) = leading_number(tag);
    *commit = if after.is_empty() { number } else { 0 };
    Some(elements)
}

/// Splits the text after its leading decimal digits, and gives their value, 0 if there are none.
pub(super) fn leading_number(text: &[u8]) -> (u64, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    let value = digits.iter().fold(0_u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    (value, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_like_haproxy() {
        use Comparison::{NoVersion, NotKnown, Order};
        use Ordering::{Equal, Greater, Less};
        for (own, other, expected) in [
            ("2.6.12-1+deb12u4", "2.6", Order(Greater)),
            ("2.6.12", "2.6.12", Order(Equal)),
            ("2.6.12", "2.6.13", Order(Less)),
            ("2.6.12", "2.7-dev1", Order(Less)),
            ("3.5-dev5", "3.5", Order(Less)),
            ("3.5-dev5", "3.5-dev4", Order(Greater)),
            ("3.5-dev5-f6818d-20", "3.5-dev5", Order(Greater)),
            ("2.6", "2.4", Order(Greater)),
            ("2.6", "2.6.3", NotKnown),
            ("2.6.12", "", NoVersion),
            ("2.6.12", "two", NoVersion),
            ("2.6.12", "2.x", NoVersion),
        ] {
            let version = Version::parse(own).expect(own);
            assert_eq!(version.compare(other.as_bytes()), expected, "{own} against {other}");
        }
        assert_eq!(Version::parse(""), None);
    }
}
