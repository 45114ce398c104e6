//! The checks of clients' certificates, with the meaning of Go's `ClientAuthType`.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::config::ClientAuth;
use super::san;

/// Checks clients' certificates.
#[derive(Debug)]
pub struct Clients {
    mandatory: bool,
    verify: bool,
    /// `None` without an authority: then no certificate can be verified.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    /// The authorities. One of them may be a client's own, self-signed certificate.
    roots: Vec<CertificateDer<'static>>,
    allowed_sans: Option<Vec<String>>,
    provider: Arc<CryptoProvider>,
}

impl Clients {
    /// Makes the checks; `None` if no certificate is requested.
    pub fn new(
        auth: ClientAuth,
        roots: Vec<CertificateDer<'static>>,
        allowed_sans: Option<Vec<String>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Option<Clients>, String> {
        let (mandatory, verify) = match auth {
            ClientAuth::Unset | ClientAuth::No => return Ok(None),
            ClientAuth::Request => (false, false),
            ClientAuth::RequireAny => (true, false),
            ClientAuth::VerifyIfGiven => (false, true),
            ClientAuth::RequireAndVerify => (true, true),
        };
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(roots.iter().cloned());
        let chain = (verify && added > 0).then(|| {
            WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
                .build()
        });
        let chain = chain.transpose().map_err(|error| error.to_string())?;
        Ok(Some(Clients { mandatory, verify, chain, roots, allowed_sans, provider }))
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.verify {
            let unknown = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
            let verified = self
                .chain
                .as_ref()
                .map_or(unknown, |chain| chain.verify_client_cert(end_entity, intermediates, now));
            match verified {
                Ok(_) => {}
                // A self-signed certificate that is one of the authorities is accepted, even if it
                // does not claim to be an authority. Its validity was checked before.
                Err(Error::InvalidCertificate(CertificateError::Other(_)))
                    if self.roots.iter().any(|root| root == end_entity) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(allowed) = &self.allowed_sans
            && !san::names(end_entity).iter().any(|name| allowed.contains(name))
        {
            return Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            ));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
