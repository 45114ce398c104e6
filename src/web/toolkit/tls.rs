//! Prepares TLS from the configuration: reads certificates, chooses suites and versions.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::clients::Clients;
use super::config::{Pem, Tls};

/// An error in the value of a key of `tls_server_config`.
#[derive(Debug)]
pub struct Fault {
    /// The key.
    pub key: &'static str,
    /// What is wrong, and how to correct it.
    pub message: String,
}

impl Pem {
    fn fault(&self, message: impl std::fmt::Display) -> Fault {
        let (key, message) = match self {
            Pem::File(key, path) => (key, format!("{}: {message}", path.display())),
            Pem::Inline(key, _) => (key, message.to_string()),
        };
        Fault { key, message }
    }

    fn read(&self) -> Result<Vec<u8>, Fault> {
        match self {
            Pem::File(_, path) => std::fs::read(path).map_err(|error| self.fault(error)),
            Pem::Inline(_, text) => Ok(text.clone().into_bytes()),
        }
    }

    /// Reads the certificates. Like Go, it skips other PEM blocks.
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Fault> {
        Ok(CertificateDer::pem_slice_iter(&self.read()?).filter_map(Result::ok).collect())
    }
}

/// Reads the certificates and prepares the server.
pub fn server_config(tls: &Tls, http2: bool) -> Result<ServerConfig, Fault> {
    let chain = tls.certificate.certificates()?;
    if chain.is_empty() {
        return Err(tls.certificate.fault("no certificate in PEM form"));
    }
    let key = PrivateKeyDer::from_pem_slice(&tls.key.read()?)
        .map_err(|_| tls.key.fault("no private key in PEM form without a passphrase"))?;
    let mut provider = ring::default_provider();
    if !tls.suites.is_empty() {
        // Like in Go, the list restricts the suites of TLS 1.2 only.
        let listed = |suite: &rustls::SupportedCipherSuite| {
            tls.suites.iter().any(|wanted| wanted.0.suite() == suite.suite())
        };
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || listed(suite));
    }
    if !tls.curves.is_empty() {
        provider.kx_groups = tls.curves.iter().map(|curve| curve.0).collect();
    }
    let provider = Arc::new(provider);
    let roots = tls.client_ca.as_ref().map(Pem::certificates).transpose()?.unwrap_or_default();
    let sans = tls.allowed_sans.clone();
    let clients = Clients::new(tls.client_auth, roots, sans, Arc::clone(&provider))
        .map_err(|message| Fault { key: "client_ca_file", message })?;
    // TLS 1.2 is not offered if the list has none of its suites.
    let has_tls12 = provider.cipher_suites.iter().any(|suite| suite.tls13().is_none());
    let versions = tls.versions.iter().map(|version| version.supported());
    let versions: Vec<_> =
        versions.filter(|v| has_tls12 || **v != rustls::version::TLS12).collect();
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| Fault { key: "cipher_suites", message: error.to_string() })?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::new(clients)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        use rustls::Error::{InconsistentKeys, InvalidCertificate};
        match error {
            InconsistentKeys(_) => tls.key.fault("the private key does not match the certificate"),
            InvalidCertificate(_) => tls.certificate.fault(error),
            _ => tls.key.fault(format!(
                "{error}; use an RSA key of 2048 bits or more, a P-256 or P-384 key, or Ed25519"
            )),
        }
    })?;
    config.ignore_client_order = tls.prefer_server_suites;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(config)
}
