//! Reads the subject alternative names of a certificate (RFC 5280, 4.2.1.6) as text.
//!
//! The certificate comes from a client and may be any bytes. A malformed one has no names.

use std::net::{Ipv4Addr, Ipv6Addr};

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
/// The field `extensions` of TBSCertificate.
const EXTENSIONS: u8 = 0xa3;
/// id-ce-subjectAltName, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const ADDRESS: u8 = 0x87;

/// Returns the DNS names, e-mail addresses, IP addresses and URIs of a certificate in DER.
#[must_use]
pub fn names(certificate: &[u8]) -> Vec<String> {
    extension(certificate).and_then(general_names).unwrap_or_default()
}

fn extension(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut body, _) = element(certificate, SEQUENCE)?;
    while let Some((tag, content, rest)) = next(body) {
        if tag != EXTENSIONS {
            body = rest;
            continue;
        }
        let (mut extensions, _) = element(content, SEQUENCE)?;
        while let Some((SEQUENCE, extension, rest)) = next(extensions) {
            extensions = rest;
            let (identifier, value) = element(extension, OBJECT_IDENTIFIER)?;
            if identifier == SUBJECT_ALT_NAME {
                let value = element(value, BOOLEAN).map_or(value, |(_, rest)| rest);
                return element(value, OCTET_STRING).map(|(value, _)| value);
            }
        }
        return None;
    }
    None
}

fn general_names(value: &[u8]) -> Option<Vec<String>> {
    let (mut list, _) = element(value, SEQUENCE)?;
    let mut names = Vec::new();
    while let Some((tag, content, rest)) = next(list) {
        list = rest;
        match tag {
            EMAIL | DNS | URI => names.push(String::from_utf8(content.to_owned()).ok()?),
            ADDRESS => names.extend(address(content)),
            _ => {}
        }
    }
    Some(names)
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
    let six = || <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).to_string());
    four.or_else(|_| six()).ok()
}

/// Returns the content of the first element, if it has this tag, and the bytes after it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    next(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Returns the tag and the content of the first element, and the bytes after it.
fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = if short < 0x80 {
        (usize::from(short), rest)
    } else {
        let count = usize::from(short & 0x7f);
        let (digits, rest) = rest.split_at_checked(count).filter(|_| (1..=3).contains(&count))?;
        (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], content].concat()
    }

    fn certificate(critical: bool, names: &[(u8, &[u8])]) -> Vec<u8> {
        let list: Vec<u8> = names.iter().flat_map(|(tag, name)| wrap(*tag, name)).collect();
        let value = wrap(OCTET_STRING, &wrap(SEQUENCE, &list));
        let flag: &[u8] = if critical { &[BOOLEAN, 1, 0xff] } else { &[] };
        let san =
            wrap(SEQUENCE, &[&wrap(OBJECT_IDENTIFIER, SUBJECT_ALT_NAME), flag, &value].concat());
        let other = wrap(SEQUENCE, &[OBJECT_IDENTIFIER, 1, 0x55, OCTET_STRING, 0]);
        let extensions = wrap(EXTENSIONS, &wrap(SEQUENCE, &[other, san].concat()));
        wrap(SEQUENCE, &wrap(SEQUENCE, &[wrap(0x02, &[1]), extensions].concat()))
    }

    #[test]
    fn each_form_of_name_is_read() {
        let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let all: [(u8, &[u8]); 6] = [
            (EMAIL, b"a@b.c"),
            (DNS, b"host.example"),
            (URI, b"spiffe://x/y"),
            (ADDRESS, &[127, 0, 0, 1]),
            (ADDRESS, &v6),
            (0x88, &[1, 2]),
        ];
        let expected = ["a@b.c", "host.example", "spiffe://x/y", "127.0.0.1", "2001:db8::1"];
        assert_eq!(names(&certificate(false, &all)), expected);
        assert_eq!(names(&certificate(true, &all)), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = names(&bytes);
        }

        #[test]
        fn no_cut_breaks_it(cut in 0usize..80) {
            let whole = certificate(true, &[(DNS, b"host.example")]);
            let cut = cut.min(whole.len() - 1);
            prop_assert!(names(&whole[..cut]).is_empty());
        }
    }
}
