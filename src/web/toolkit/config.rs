//! `--web.config.file`: the format of Prometheus' exporter-toolkit in, checked values out.
//!
//! Keys, defaults and errors follow `promtool check web-config`. Options that this program does not
//! support (TLS before 1.2, suites with CBC, the curve P-521) are errors that name the option.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::names::{Curve, Suite, Version};
use crate::yaml::{self, Pairs, Word};

/// A checked web configuration. Its paths are resolved; the files are not read yet.
#[derive(Debug, Clone)]
pub struct WebConfig {
    /// The settings of TLS; `None` serves plain HTTP.
    pub tls: Option<Tls>,
    /// Whether to offer HTTP/2 over TLS.
    pub http2: bool,
    /// The headers that are added to every response.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The rate limit for all requests together.
    pub rate_limit: Option<RateLimit>,
    /// The users with their bcrypt hashes. Without users no credentials are required.
    pub users: Vec<(String, String)>,
}

/// The settings of TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: Pem,
    /// Its private key.
    pub key: Pem,
    /// The authorities that verify clients' certificates.
    pub client_ca: Option<Pem>,
    /// Whether clients need a certificate.
    pub client_auth: ClientAuth,
    /// The subject alternative names of which a client's certificate must have at least one.
    pub allowed_sans: Option<Vec<String>>,
    /// The suites of TLS 1.2, empty for all. The suites of TLS 1.3 are always offered.
    pub suites: Vec<Suite>,
    /// The curves in order of preference, empty for all.
    pub curves: Vec<Curve>,
    /// The versions to offer.
    pub versions: Vec<Version>,
    /// Whether the server's order of suites counts, not the client's.
    pub prefer_server_suites: bool,
}

/// The source of PEM text, with the key of the configuration that names it.
#[derive(Debug, Clone)]
pub enum Pem {
    /// A file.
    File(&'static str, PathBuf),
    /// The text is in the configuration itself.
    Inline(&'static str, String),
}

/// Whether clients need a certificate, and whether it is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// The key is absent: no certificate is requested.
    Unset,
    /// No certificate is requested.
    No,
    /// A certificate is requested, optional, and not verified.
    Request,
    /// A certificate is required and not verified.
    RequireAny,
    /// A certificate is optional, and verified if given.
    VerifyIfGiven,
    /// A certificate is required and verified.
    RequireAndVerify,
}

/// A limit of one request in each `interval`, with up to `burst` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The time after which one more request is allowed.
    pub interval: Duration,
    /// The most requests that are allowed at once.
    pub burst: u32,
}

impl WebConfig {
    /// Reads and checks the text of a web configuration in `directory`. The error is a message with
    /// its position.
    pub fn parse(text: &str, directory: &Path) -> Result<WebConfig, String> {
        let raw: Raw = yaml::parse(text)?.unwrap_or_default();
        raw.check(directory).map_err(|Fault(keys, message)| {
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            yaml::message_at(text, &keys, &message)
        })
    }
}

/// An error at the value below some keys.
struct Fault(Vec<String>, String);

fn fault(keys: &[&str], message: impl Into<String>) -> Fault {
    Fault(keys.iter().map(|&key| key.to_owned()).collect(), message.into())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    tls_server_config: Option<RawTls>,
    http_server_config: Option<RawHttp>,
    rate_limit: Option<RawRateLimit>,
    basic_auth_users: Option<Pairs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    client_auth_type: Option<Word<ClientAuth>>,
    client_ca_file: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    cipher_suites: Option<Vec<Word<Suite>>>,
    curve_preferences: Option<Vec<Word<Curve>>>,
    min_version: Option<Word<Version>>,
    max_version: Option<Word<Version>>,
    prefer_server_cipher_suites: Option<Word<Switch>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttp {
    http2: Option<Word<Switch>>,
    headers: Option<Pairs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRateLimit {
    interval: Option<Word<GoDuration>>,
    burst: Option<i64>,
}

impl Raw {
    fn check(self, directory: &Path) -> Result<WebConfig, Fault> {
        let http = self.http_server_config.unwrap_or_default();
        let users = self.basic_auth_users.unwrap_or_default().0;
        for (name, hash) in &users {
            check_hash(hash).map_err(|why| fault(&["basic_auth_users", name], why))?;
        }
        let headers = http.headers.unwrap_or_default().0;
        Ok(WebConfig {
            headers: headers.iter().map(check_header).collect::<Result<_, _>>()?,
            tls: self.tls_server_config.map(|tls| tls.check(directory)).transpose()?.flatten(),
            http2: http.http2.is_none_or(|word| word.0.0),
            rate_limit: self.rate_limit.and_then(RawRateLimit::limit),
            users,
        })
    }
}

impl RawTls {
    fn check(self, directory: &Path) -> Result<Option<Tls>, Fault> {
        // The file wins over inline text, and an empty value counts as absent.
        let pem = |(file_key, file): (_, Option<String>), (key, inline): (_, Option<String>)| {
            let file = file.filter(|file| !file.is_empty());
            let inline = inline.filter(|text| !text.is_empty());
            let file = file.map(|file| Pem::File(file_key, directory.join(file)));
            file.or_else(|| inline.map(|text| Pem::Inline(key, text)))
        };
        let certificate = pem(("cert_file", self.cert_file), ("cert", self.cert));
        let key = pem(("key_file", self.key_file), ("key", self.key));
        let client_ca = pem(("client_ca_file", self.client_ca_file), ("client_ca", self.client_ca));
        let client_auth = self.client_auth_type.map_or(ClientAuth::Unset, |word| word.0);
        let asked = client_auth != ClientAuth::Unset;
        if certificate.is_none() && key.is_none() && client_ca.is_none() && !asked {
            return Ok(None);
        }
        let here = |message: &str| fault(&["tls_server_config"], message);
        let certificate = certificate.ok_or_else(|| here("missing one of cert or cert_file"))?;
        let key = key.ok_or_else(|| here("missing one of key or key_file"))?;
        if client_ca.is_some() && matches!(client_auth, ClientAuth::Unset | ClientAuth::No) {
            return Err(here(
                "client authorities have no effect without a client_auth_type; add \
                 client_auth_type: RequireAndVerifyClientCert",
            ));
        }
        let low = self.min_version.map_or(Version::Tls12, |word| word.0);
        let high = self.max_version.map_or(Version::Tls13, |word| word.0);
        let versions: Vec<_> =
            Version::ALL.into_iter().filter(|v| (low..=high).contains(v)).collect();
        if versions.is_empty() {
            return Err(fault(
                &["tls_server_config", "min_version"],
                "it is above max_version, so no version is left",
            ));
        }
        let suites: Vec<_> = words(self.cipher_suites);
        if !suites.is_empty() && high == Version::Tls12 && !suites.iter().any(Suite::is_tls12) {
            return Err(fault(
                &["tls_server_config", "cipher_suites"],
                "none of these suites belongs to TLS 1.2, the only version offered",
            ));
        }
        Ok(Some(Tls {
            certificate,
            key,
            client_ca,
            client_auth,
            allowed_sans: self.client_allowed_sans,
            suites,
            curves: words(self.curve_preferences),
            versions,
            prefer_server_suites: self.prefer_server_cipher_suites.is_none_or(|word| word.0.0),
        }))
    }
}

impl RawRateLimit {
    fn limit(self) -> Option<RateLimit> {
        let interval = self.interval.and_then(|word| word.0.0).filter(|d| !d.is_zero())?;
        let burst = u32::try_from(self.burst.unwrap_or(0).max(0)).unwrap_or(u32::MAX);
        Some(RateLimit { interval, burst })
    }
}

fn words<T>(words: Option<Vec<Word<T>>>) -> Vec<T> {
    words.into_iter().flatten().map(|word| word.0).collect()
}

/// The headers that may be set. A header with values accepts only these.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

fn check_header((name, value): &(String, String)) -> Result<(HeaderName, HeaderValue), Fault> {
    let wrong = |why: String| fault(&["http_server_config", "headers", name], why);
    let Some((_, values)) = HEADERS.iter().find(|(known, _)| known == name) else {
        let known = HEADERS.map(|(known, _)| known).join(", ");
        return Err(wrong(format!("header {name:?} cannot be configured; valid headers: {known}")));
    };
    if !values.is_empty() && !values.contains(&value.as_str()) {
        return Err(wrong(format!("{name} must be one of {}, not {value:?}", values.join(", "))));
    }
    let text = HeaderValue::from_str(value)
        .map_err(|_| wrong(format!("{value:?} is not a valid header value")))?;
    let name =
        HeaderName::from_str(name).map_err(|_| wrong("not a valid header name".to_owned()))?;
    Ok((name, text))
}

/// Checks the form of a bcrypt hash: version and cost, such as `$2y$10$`, and 53 characters of salt
/// and hash.
fn check_hash(hash: &str) -> Result<(), String> {
    let remedy = "make one with: htpasswd -nBC 10 USER";
    let sound = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"./".contains(&b));
    let mut parts = hash.split('$');
    let parts = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
    let (Some(""), Some("2" | "2a" | "2b" | "2x" | "2y"), Some(cost), Some(rest), None) = parts
    else {
        return Err(format!("not a bcrypt hash; {remedy}"));
    };
    match cost.parse::<u8>() {
        Ok(4..=31) if cost.len() == 2 => {}
        _ => return Err(format!("the cost must be from 04 to 31, not {cost:?}; {remedy}")),
    }
    if rest.len() != 53 || !sound(rest) {
        return Err(format!("the bcrypt hash is truncated or has an invalid character; {remedy}"));
    }
    Ok(())
}

impl FromStr for ClientAuth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "" => ClientAuth::Unset,
            "NoClientCert" => ClientAuth::No,
            "RequestClientCert" => ClientAuth::Request,
            // The second name is an old one of the first.
            "RequireAnyClientCert" | "RequireClientCert" => ClientAuth::RequireAny,
            "VerifyClientCertIfGiven" => ClientAuth::VerifyIfGiven,
            "RequireAndVerifyClientCert" => ClientAuth::RequireAndVerify,
            _ => {
                return Err(format!(
                    "unknown client_auth_type {text:?}; valid types: NoClientCert, \
                     RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, \
                     RequireAndVerifyClientCert"
                ));
            }
        })
    }
}

/// A switch as in YAML 1.1, which Prometheus' reader follows.
#[derive(Debug)]
struct Switch(bool);

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let first_upper_or_one_case = |word: &str| {
            let mut title = word.to_owned();
            if let Some(first) = title.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            text == word || text == word.to_ascii_uppercase() || text == title
        };
        if ["true", "yes", "on", "y"].into_iter().any(first_upper_or_one_case) {
            Ok(Switch(true))
        } else if ["false", "no", "off", "n"].into_iter().any(first_upper_or_one_case) {
            Ok(Switch(false))
        } else {
            Err(format!("invalid switch {text:?}; write true or false"))
        }
    }
}

/// A duration as Go writes it: `1s`, `1m30s`, `1.5h`, or a number of nanoseconds. `None` if it is
/// negative.
#[derive(Debug)]
struct GoDuration(Option<Duration>);

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(nanoseconds) = text.parse::<i64>() {
            return Ok(GoDuration(u64::try_from(nanoseconds).ok().map(Duration::from_nanos)));
        }
        let wrong = || format!("invalid duration {text:?}; write it like 1s, 500ms or 1m30s");
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            let scale = match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
            seconds += number.parse::<f64>().map_err(|_| wrong())? * scale;
            rest = tail;
        }
        // The longest duration of Go is 292 years.
        let duration = Duration::try_from_secs_f64(seconds).ok().filter(|d| d.as_nanos() < 1 << 63);
        let duration = duration.ok_or_else(wrong)?;
        Ok(GoDuration((!negative).then_some(duration)))
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
