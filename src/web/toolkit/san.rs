//! Reads the subject alternative names of a certificate (RFC 5280, 4.2.1.6) as text.
//!
//! The certificate comes from a client and may be any bytes. A malformed one has no names.

use std::net::{Ipv4Addr, Ipv6Addr};

use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Returns the DNS names, e-mail addresses, IP addresses and URIs of a certificate in DER.
#[must_use]
pub fn names(certificate: &[u8]) -> Vec<String> {
    let certificate = Certificate::from_der(certificate).ok();
    let read = |certificate: &Certificate| {
        certificate.tbs_certificate().get_extension::<SubjectAltName>().ok().flatten()
    };
    let names = certificate.as_ref().and_then(read).map(|(_, SubjectAltName(names))| names);
    names.iter().flatten().filter_map(text).collect()
}

fn text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::Rfc822Name(name)
        | GeneralName::DnsName(name)
        | GeneralName::UniformResourceIdentifier(name) => Some(name.to_string()),
        GeneralName::IpAddress(address) => {
            let bytes = address.as_bytes();
            let four = <[u8; 4]>::try_from(bytes).map(|four| Ipv4Addr::from(four).to_string());
            let six = || <[u8; 16]>::try_from(bytes).map(|six| Ipv6Addr::from(six).to_string());
            four.or_else(|_| six()).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;
    use x509_cert::der::asn1::{Ia5String, ObjectIdentifier};

    /// Certificates that openssl has made are read in `tests/web_config.rs`.
    #[test]
    fn each_form_of_name_is_read() {
        let string = |text: &str| Ia5String::new(text).unwrap();
        let address = |text: &str| GeneralName::from(text.parse::<IpAddr>().unwrap());
        let all = [
            GeneralName::Rfc822Name(string("a@b.c")),
            GeneralName::DnsName(string("host.example")),
            GeneralName::UniformResourceIdentifier(string("spiffe://x/y")),
            address("127.0.0.1"),
            address("2001:db8::1"),
            GeneralName::RegisteredId(ObjectIdentifier::new_unwrap("1.2.3.4")),
        ];
        let expected = ["a@b.c", "host.example", "spiffe://x/y", "127.0.0.1", "2001:db8::1"];
        assert_eq!(all.iter().filter_map(text).collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(names(&bytes).is_empty());
        }
    }
}
