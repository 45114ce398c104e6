//! The names of TLS versions, cipher suites and curves, as Go and therefore Prometheus write them.

use std::str::FromStr;

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::{cipher_suite as suite, kx_group};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::model::named::named;

named! {
    /// The TLS versions that are offered, in ascending order.
    pub enum Version {
        /// TLS 1.2.
        Tls12 = "TLS12",
        /// TLS 1.3.
        Tls13 = "TLS13",
    }
}

impl Version {
    /// The version as rustls has it.
    #[must_use]
    pub fn supported(self) -> &'static SupportedProtocolVersion {
        match self {
            Version::Tls12 => &version::TLS12,
            Version::Tls13 => &version::TLS13,
        }
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Version::ALL.into_iter().find(|version| version.as_str() == text);
        named.ok_or_else(|| match text {
            "TLS10" | "TLS11" => {
                format!("TLS version {text:?} is broken and not offered; write TLS12 or TLS13")
            }
            _ => format!("unknown TLS version {text:?}; valid versions: TLS12, TLS13"),
        })
    }
}

/// A cipher suite that is offered.
#[derive(Debug, Clone, Copy)]
pub struct Suite(pub SupportedCipherSuite);

const SUITES: [(&str, SupportedCipherSuite); 9] = [
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Weak suites that Prometheus accepts: with CBC, or without forward secrecy.
const REFUSED_SUITES: [&str; 8] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];

impl Suite {
    /// Whether it belongs to TLS 1.2.
    #[must_use]
    pub fn is_tls12(&self) -> bool {
        self.0.version() == &version::TLS12
    }
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, suite)) = SUITES.iter().find(|(name, _)| *name == text) {
            return Ok(Suite(*suite));
        }
        let names = SUITES.map(|(name, _)| name).join(", ");
        Err(if REFUSED_SUITES.contains(&text) {
            format!(
                "cipher suite {text:?} is weak and not offered; remove it, or choose from {names}"
            )
        } else {
            format!("unknown cipher suite {text:?}; valid suites: {names}")
        })
    }
}

/// A curve for the key exchange that is offered.
#[derive(Debug, Clone, Copy)]
pub struct Curve(pub &'static dyn SupportedKxGroup);

const CURVES: &str = "X25519, CurveP256, CurveP384";

impl FromStr for Curve {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "X25519" => Ok(Curve(kx_group::X25519)),
            "CurveP256" => Ok(Curve(kx_group::SECP256R1)),
            "CurveP384" => Ok(Curve(kx_group::SECP384R1)),
            "CurveP521" => {
                Err(format!("curve {text:?} is not offered; remove it, or choose from {CURVES}"))
            }
            _ => Err(format!("unknown curve {text:?}; valid curves: {CURVES}")),
        }
    }
}
