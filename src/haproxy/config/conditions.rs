//! Evaluates the condition of an `.if` line to true, false or unknown (configuration manual,
//! section 2.4; `src/cfgcond.c`).

use std::cmp::Ordering;

use super::predicates::{self, World};
use super::truth::Truth;
use super::variables::Lookup;

/// Limit of nesting, and of the length of a chain of `&&` or `||` (`MAX_CFG_RECURSION`).
const MOST_DEPTH: usize = 1024;

/// Evaluates `text`, the words after `.if`. The error says why HAProxy cannot parse it.
pub(super) fn evaluate(text: &[u8], world: &World<'_>) -> Result<Truth, String> {
    if text.is_empty() {
        return Ok(Truth::False);
    }
    let mut parser = Parser { text, at: 0, world };
    let truth = parser.either(MOST_DEPTH)?;
    parser.skip_blanks();
    match parser.peek() {
        None => Ok(truth),
        Some(byte) => Err(format!(
            "unexpected character '{}' at the end of the condition",
            byte.escape_ascii()
        )),
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    world: &'a World<'a>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    fn unparsable(&self) -> String {
        let rest = self.rest();
        let shown = rest.get(..60).unwrap_or(rest);
        format!("unparsable condition '{}'", shown.escape_ascii())
    }

    /// Reads terms joined by `||`.
    fn either(&mut self, depth: usize) -> Result<Truth, String> {
        self.chain(b"||", depth, Self::both, Truth::or)
    }

    /// Reads terms joined by `&&`.
    fn both(&mut self, depth: usize) -> Result<Truth, String> {
        self.chain(b"&&", depth, Self::term, Truth::and)
    }

    fn chain(
        &mut self,
        operator: &[u8],
        depth: usize,
        part: fn(&mut Self, usize) -> Result<Truth, String>,
        join: fn(Truth, Truth) -> Truth,
    ) -> Result<Truth, String> {
        let mut truth = part(self, depth.saturating_sub(1))?;
        let mut left = depth;
        self.skip_blanks();
        while self.rest().starts_with(operator) {
            left = left.saturating_sub(1);
            if left == 0 {
                return Err(self.unparsable());
            }
            self.at += operator.len();
            self.skip_blanks();
            truth = join(truth, part(self, left.saturating_sub(1))?);
            self.skip_blanks();
        }
        Ok(truth)
    }

    /// Reads a number, a predicate or a condition in parentheses, each possibly negated.
    fn term(&mut self, depth: usize) -> Result<Truth, String> {
        self.skip_blanks();
        if self.peek().is_none() || depth == 0 {
            return Err(self.unparsable());
        }
        let mut negated = false;
        while self.peek() == Some(b'!') {
            negated = !negated;
            self.at += 1;
            self.skip_blanks();
        }
        let truth = if let Some((nonzero, length)) = integer(self.rest()) {
            self.at += length;
            Truth::of(nonzero)
        } else if self.peek() == Some(b'(') {
            self.at += 1;
            self.skip_blanks();
            let truth = self.either(depth - 1)?;
            self.skip_blanks();
            if self.peek() != Some(b')') {
                return Err("expected ')' after the condition".to_owned());
            }
            self.at += 1;
            self.skip_blanks();
            truth
        } else {
            self.predicate()?
        };
        Ok(if negated { truth.negated() } else { truth })
    }

    fn predicate(&mut self) -> Result<Truth, String> {
        let rest = self.rest();
        let length = rest.iter().position(|byte| matches!(byte, b' ' | b'(')).unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or_default().to_vec();
        let version = self.world.launch.version;
        let wanted = match name.as_slice() {
            b"enabled" | b"strstr" if version.is_some_and(|version| !version.is_at_least(2, 7)) => {
                return Err(self.unparsable());
            }
            b"defined"
            | b"feature"
            | b"version_atleast"
            | b"version_before"
            | b"openssl_version_atleast"
            | b"openssl_version_before"
            | b"ssllib_name_startswith"
            | b"awslc_api_atleast"
            | b"awslc_api_before"
            | b"enabled" => 1,
            b"streq" | b"strneq" | b"strstr" => 2,
            b"fips_mode" => 0,
            _ => return self.foreign_predicate(&name),
        };
        self.at += length;
        let arguments = self.arguments(wanted)?;
        let first = arguments.first().map(Vec::as_slice).unwrap_or_default();
        let second = arguments.get(1).map(Vec::as_slice).unwrap_or_default();
        let world = self.world;
        match name.as_slice() {
            b"streq" => Ok(Truth::of(first == second)),
            b"strneq" => Ok(Truth::of(first != second)),
            b"strstr" => Ok(Truth::of(contains(first, second))),
            b"defined" => Ok(match world.variables.get(first) {
                Lookup::Set(_) => Truth::True,
                Lookup::Unset => Truth::False,
                Lookup::Unknown(reason) => Truth::unknown(format!(
                    "it is not known whether ${} is set: {reason}",
                    String::from_utf8_lossy(first)
                )),
            }),
            b"version_atleast" => Ok(world.version(first, |order| order != Ordering::Less, true)),
            b"version_before" => Ok(world.version(first, |order| order == Ordering::Less, false)),
            b"enabled" => Ok(world.enabled(first)),
            b"openssl_version_atleast" | b"openssl_version_before"
                if !predicates::is_openssl_version(first) =>
            {
                Err("invalid OpenSSL version".to_owned())
            }
            b"feature" => Ok(Truth::unknown("the features HAProxy was built with are not known")),
            _ => Ok(Truth::unknown("the SSL library HAProxy was built with is not known")),
        }
    }

    /// Reads a predicate that no version up to 3.5 knows. A later version may know it.
    fn foreign_predicate(&mut self, name: &[u8]) -> Result<Truth, String> {
        let plausible = !name.is_empty()
            && name.iter().all(|byte| byte.is_ascii_lowercase() || *byte == b'_')
            && self.text.get(self.at + name.len()) == Some(&b'(');
        let known_version = self.world.launch.version;
        if !plausible || known_version.is_some_and(|version| !version.is_at_least(3, 6)) {
            return Err(self.unparsable());
        }
        self.at += name.len();
        self.arguments(usize::MAX)?;
        Ok(Truth::unknown(format!(
            "predicate '{}' is not known here",
            String::from_utf8_lossy(name)
        )))
    }

    /// Reads `(a,b)`, which has quotes and escapes of its own (`make_arg_list` in `src/arg.c`).
    fn arguments(&mut self, wanted: usize) -> Result<Vec<Vec<u8>>, String> {
        let mut arguments = Vec::new();
        if self.peek() != Some(b'(') {
            return if wanted == 0 {
                Ok(arguments)
            } else {
                Err(format!("missing arguments (got 0/{wanted})"))
            };
        }
        self.at += 1;
        while arguments.len() < wanted {
            arguments.push(self.argument()?);
            if self.peek() != Some(b',') || arguments.len() >= wanted {
                break;
            }
            self.at += 1;
        }
        if wanted != usize::MAX && arguments.len() < wanted {
            return Err(format!("missing arguments (got {}/{wanted})", arguments.len()));
        }
        if self.peek() != Some(b')') {
            return Err("expected ')' after the arguments".to_owned());
        }
        self.at += 1;
        Ok(arguments)
    }

    fn argument(&mut self) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let (mut single, mut double) = (false, false);
        while let Some(byte) = self.peek() {
            let next = self.text.get(self.at + 1).copied();
            self.at += 1;
            match byte {
                b'"' if !single => double = !double,
                b'\'' if !double => single = !single,
                b'\\' if !single => {
                    let (byte, length) = match next {
                        None => return Err("a lone '\\' at the end".to_owned()),
                        Some(byte @ (b'\\' | b' ' | b'"' | b'\'')) => (byte, 1),
                        Some(b'r') => (b'\r', 1),
                        Some(b'n') => (b'\n', 1),
                        Some(b't') => (b'\t', 1),
                        Some(_) => (b'\\', 0),
                    };
                    self.at += length;
                    out.push(byte);
                }
                b',' | b')' if !single && !double => {
                    self.at -= 1;
                    break;
                }
                _ => out.push(byte),
            }
        }
        Ok(out)
    }
}

/// Whether `needle` occurs in `text`, found in linear time.
fn contains(text: &[u8], needle: &[u8]) -> bool {
    // Only the standard library's search in text is linear.
    let as_text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
    as_text(text).contains(&as_text(needle))
}

/// Reads an integer as `strtol(3)` does with base 0, and gives whether it is nonzero and its length.
fn integer(text: &[u8]) -> Option<(bool, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let digits = text.get(sign..).unwrap_or_default();
    let (skip, radix) = match digits {
        [b'0', b'x' | b'X', next, ..] if next.is_ascii_hexdigit() => (2, 16),
        [b'0', ..] => (0, 8),
        _ => (0, 10),
    };
    let digits = digits.get(skip..).unwrap_or_default();
    let length = digits.iter().take_while(|&&byte| char::from(byte).is_digit(radix)).count();
    if length == 0 {
        return None;
    }
    let nonzero = digits.iter().take(length).any(|&byte| byte != b'0');
    Some((nonzero, sign + skip + length))
}

#[cfg(test)]
mod tests {
    use super::super::launch::Launch;
    use super::super::variables::Variables;
    use super::super::version::Version;
    use super::*;

    fn world_of(launch: &Launch, text: &str) -> Result<Truth, String> {
        let variables = Variables::new(launch, Some("host"));
        let world = World { variables: &variables, launch, switched: &[("SPLICE", false)] };
        evaluate(text.as_bytes(), &world)
    }

    #[test]
    fn known_world() {
        let launch = Launch {
            environment: Some([("A".to_owned(), String::new())].into()),
            version: Version::parse("2.8.25-5cf5d0683"),
            ..Launch::default()
        };
        for (text, expected) in [
            ("", false),
            ("0", false),
            ("00x", false),
            ("1", true),
            ("-1", true),
            ("0x10", true),
            ("!0", true),
            ("! ! 1", true),
            ("defined(A)", true),
            ("defined(B)", false),
            ("!defined(B) && 1", true),
            ("defined(B) || defined(A) && 0", false),
            ("(defined(B) || defined(A)) && 1", true),
            ("streq(a,a)", true),
            ("streq(\"a,b\",'a,b')", true),
            ("streq(a\\ b,\"a b\")", true),
            ("strneq(a,b)", true),
            ("strstr(haystack,st)", true),
            ("streq(,)", true),
            ("version_atleast(2.8)", true),
            ("version_atleast(2.8.26)", false),
            ("version_before(2.9-dev1)", true),
            ("version_atleast(nonsense)", true),
            ("version_before(nonsense)", false),
            ("enabled(SPLICE)", false),
            ("enabled(REUSEPORT)", true),
            ("enabled(NOTHING)", false),
        ] {
            let outcome = world_of(&launch, text);
            if text == "00x" {
                assert!(outcome.is_err(), "{text}");
            } else {
                assert_eq!(outcome, Ok(Truth::of(expected)), "{text}");
            }
        }
    }

    #[test]
    fn unknown_world() {
        let launch = Launch::default();
        for text in [
            "defined(A)",
            "feature(QUIC)",
            "version_atleast(2.6)",
            "openssl_version_before(3.0.0)",
            "openssl_version_atleast(1.1.1w)",
            "openssl_version_atleast(3.0.0-beta1)",
            "ssllib_name_startswith(O)",
            "enabled(EPOLL)",
            "someday(x,y)",
            "defined(A) && 1",
            "0 || !defined(A)",
        ] {
            assert!(matches!(world_of(&launch, text), Ok(Truth::Unknown(_))), "{text}");
        }
        assert_eq!(world_of(&launch, "defined(A) && 0"), Ok(Truth::False));
        assert_eq!(world_of(&launch, "defined(A) || 1"), Ok(Truth::True));
    }

    #[test]
    fn unparsable() {
        let launch = Launch { version: Version::parse("3.2.1"), ..Launch::default() };
        let deep = "(".repeat(100_000);
        let chain = "1&&".repeat(100_000) + "1";
        for text in [
            "foo",
            "foo(1)",
            "defined",
            "defined(A",
            "defined(A,B)",
            "streq(a)",
            "1 1",
            "1 &&",
            "1 ||",
            "&& 1",
            "(1",
            "!",
            "openssl_version_atleast(x)",
            "openssl_version_before(3.0.0-beta15)",
            deep.as_str(),
            chain.as_str(),
        ] {
            let shown = text.get(..20).unwrap_or(text);
            assert!(world_of(&launch, text).is_err(), "{shown}");
        }
    }
}
