//! Hides the secrets in a line before it is shown.
//!
//! Everything after a word that announces a secret is hidden to the end of the line, comments included: it
//! is better to show too little than to show a password.

use std::sync::LazyLock;

use regex::Regex;

/// What stands in the place of hidden words.
const HIDDEN: &str = "****";

/// The words after which a line is hidden. What the first group matches is kept.
static SECRETS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"(?i)(\b(?:pre)?setenv\s+\S+)\s+\S",
        r"(?i)(\bstats\s+auth)\s+\S",
        r"(?i)(\b(?:insecure-)?pass(?:word|wd|phrase)?\b['\x22]?)\s*[\s=:,(]\s*\S",
        r"(?i)([\w-]*pass(?:word|wd|phrase)[\w-]*['\x22]?)\s*[\s=:,(]\s*\S",
        r"(?i)(\bca-sign-pass)\s+\S",
        r"(?i)([\w-]*(?:secret|token|credential|api[-_]?key|private[-_]?key)[\w-]*['\x22]?\)?)\s*[\s=:,(]\s*\S",
        r"(?i)(\bdynamic-cookie-key)\s+\S",
        r"(?i)(\b[\w.]*hdr\([^)]*(?:auth|key)[^)]*\))\s*\S",
        r"(?i)((?:proxy-)?authorization\b['\x22]?)\s*\S",
        r"(?i)(\b(?:basic|bearer)(?:\\?\s)+)\S",
        r"(?i)(\b(?:tcp|http)-check\s+(?:send|send-binary|send-lf|send-binary-lf)\b)\s*\S",
        r"(?i)(\bhttp-(?:request|response|after-response)\s+(?:set|add)-header\s+(?:authorization|x-[\w-]*(?:auth|key)[\w-]*))\s+\S",
        r"(?i)(\b(?:hmac|jwt_verify\w*|jwt_decrypt\w*|aes_\w+)\()\S",
        r"(?i)(\b[a-z][a-z0-9+.-]*://)[^/\s@]+@",
        r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).",
    ]
    .iter()
    .filter_map(|pattern| Regex::new(pattern).ok())
    .collect()
});

/// An assignment in a file of variables.
static ASSIGNMENT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(\s*(?:export\s+)?#?\s*[A-Za-z_]\w*\s*=).*").ok());
/// An assignment in a unit.
static OF_UNIT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)^(\s*#?\s*(?:Environment|PassEnvironment|SetCredential\w*)\s*=).*").ok()
});

/// What a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// A file of variables, of which every value is hidden.
    Variables,
    /// A systemd unit.
    Unit,
    /// Anything else.
    Other,
}

/// The lines of a text as they may be shown.
#[must_use]
pub fn all_masked(lines: &[&str], text: Text) -> Vec<String> {
    let mut continues = false;
    let mut shown = Vec::with_capacity(lines.len());
    for line in lines {
        // A unit continues an assignment on the next line, over comments in between.
        let is_hidden = text == Text::Unit && continues;
        let is_comment = line.trim_start().starts_with(['#', ';']);
        let of_unit = OF_UNIT.as_ref().is_some_and(|pattern| pattern.is_match(line));
        continues = if is_hidden && is_comment {
            true
        } else {
            (is_hidden || of_unit) && line.trim_end().ends_with('\\')
        };
        let line = if is_hidden { HIDDEN.to_owned() } else { masked(line, text) };
        shown.push(line);
    }
    shown
}

/// The line as it may be shown.
#[must_use]
pub fn masked(line: &str, text: Text) -> String {
    let whole = match text {
        Text::Variables => ASSIGNMENT.as_ref(),
        Text::Unit => OF_UNIT.as_ref(),
        Text::Other => None,
    };
    if let Some(found) = whole.and_then(|pattern| pattern.captures(line)) {
        return format!("{}{HIDDEN}", found.get(1).map_or("", |kept| kept.as_str()));
    }
    let first =
        SECRETS.iter().filter_map(|pattern| pattern.captures(line)?.get(1)).map(|kept| kept.end());
    match first.min().and_then(|end| line.get(..end)) {
        Some(kept) => format!("{} {HIDDEN}", kept.trim_end()),
        // A variables file may continue a value on the next line, and quotes may span lines.
        None if text == Text::Variables
            && !line.trim().is_empty()
            && !line.trim_start().starts_with('#') =>
        {
            HIDDEN.to_owned()
        }
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_valid() {
        assert_eq!(SECRETS.len(), 15);
        assert!(ASSIGNMENT.is_some() && OF_UNIT.is_some());
    }

    #[test]
    fn secrets_are_hidden_and_the_rest_is_shown() {
        for (line, expected) in [
            ("  bind :80", "  bind :80"),
            ("  user joe insecure-password S3CRET # S3CRET", "  user joe insecure-password ****"),
            ("  user joe password $6$S3CRET", "  user joe password ****"),
            ("  stats auth admin:S3CRET", "  stats auth ****"),
            ("  setenv TOKEN S3CRET", "  setenv TOKEN ****"),
            ("  presetenv A \"S3 CRET\"", "  presetenv A ****"),
            ("  tcp-check send AUTH\\ S3CRET\\r\\n", "  tcp-check send ****"),
            (
                "  http-request set-header Authorization \"Basic S3CRET\"",
                "  http-request set-header Authorization ****",
            ),
            (
                "  http-request set-header X-Api-Key S3CRET",
                "  http-request set-header X-Api-Key ****",
            ),
            (
                "  bind :443 ssl crt a ca-sign-pass S3CRET",
                "  bind :443 ssl crt a ca-sign-pass ****",
            ),
            (
                "  http-request set-var(txn.h) req.hdr(x),hmac(sha256,S3CRET)",
                "  http-request set-var(txn.h) req.hdr(x),hmac( ****",
            ),
            ("local password = 'S3CRET'", "local password ****"),
            ("  cluster-secret S3CRET", "  cluster-secret ****"),
            (
                "  option httpchk GET / HTTP/1.0\\r\\nAuthorization:\\ Basic\\ S3CRET",
                "  option httpchk GET / HTTP/1.0\\r\\nAuthorization ****",
            ),
            ("# db: postgres://joe:S3CRET@db/x", "# db: postgres:// ****"),
            ("  dynamic-cookie-key S3CRET", "  dynamic-cookie-key ****"),
            ("  acl k req.hdr(X-API-Key) -m str S3CRET", "  acl k req.hdr(X-API-Key) ****"),
            (
                "  http-request deny if !{ req.fhdr(X-Auth-Token) -m str S3CRET }",
                "  http-request deny if !{ req.fhdr(X-Auth-Token) ****",
            ),
            ("  acl k hdr(x-my-auth) S3CRET", "  acl k hdr(x-my-auth) ****"),
        ] {
            let shown = masked(line, Text::Other);
            assert_eq!(shown, expected);
            assert!(!shown.contains("S3CRET"));
        }
        assert_eq!(masked("EXTRAOPTS=\"-S S3CRET\"", Text::Variables), "EXTRAOPTS=****");
        assert_eq!(masked("export A=S3CRET", Text::Variables), "export A=****");
        assert_eq!(masked("  S3CRET continued\"", Text::Variables), "****");
        assert_eq!(masked("# a comment", Text::Variables), "# a comment");
        assert_eq!(masked("Environment=\"A=S3CRET\"", Text::Unit), "Environment=****");
        let unit = ["Environment=A=1 \\", " # why", " B=S3CRET \\", " C=S3CRET", "User=root"];
        let shown = all_masked(&unit, Text::Unit);
        assert_eq!(shown, ["Environment=****", HIDDEN, HIDDEN, HIDDEN, "User=root"]);
        assert_eq!(
            masked("ExecStart=/usr/sbin/haproxy", Text::Unit),
            "ExecStart=/usr/sbin/haproxy"
        );
    }
}
