//! Which files the lines of a crt-list name.

use super::bases::{Bases, join};
use super::companions::with_companions;
use super::manifest::Role;
use super::reference::Reference;
use super::references::pairs;

/// Finds what the lines of the crt-list `list` name.
#[must_use]
pub fn references(text: &str, list: &Reference, bases: &Bases) -> Vec<Reference> {
    let read_in = &list.read_in;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let named_by = format!("{}:{}", list.path.display(), number + 1);
        let mut words = line.split_ascii_whitespace();
        let Some(certificate) = words.next().filter(|word| !word.starts_with('@')) else {
            continue;
        };
        let certificate = certificate.split('[').next().unwrap_or_default();
        let path = join(read_in, bases.certificates.as_ref(), certificate);
        found.extend(with_companions(path, read_in, &named_by));
        let options = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        let options: Vec<&str> =
            options.map(|(o, _)| o.split_ascii_whitespace().collect()).unwrap_or_default();
        for (word, value) in pairs(&options) {
            if matches!(word, "ca-file" | "ca-verify-file" | "crl-file") && !value.starts_with('@')
            {
                let path = join(read_in, bases.authorities.as_ref(), value);
                let (role, read_in) = (Role::Authorities, read_in.clone());
                let named_by = named_by.clone();
                found.push(Reference { path, role, required: true, read_in, named_by });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_crt_list_names_certificates_and_authorities() {
        let mut bases = Bases::of(Path::new("/cwd"));
        bases.certificates = Some("/c".into());
        let text = "# first\na.pem [ca-file /ca/x.pem verify none] *.example.org\n/abs/b.pem[alpn h2] x\n\n@store/y\n";
        let list = Reference {
            path: "/l".into(),
            role: Role::CrtList,
            required: true,
            read_in: "/cwd".into(),
            named_by: String::new(),
        };
        let found = references(text, &list, &bases);
        let paths: Vec<_> = found.iter().map(|one| one.path.display().to_string()).collect();
        for expected in
            ["/c/a.pem", "/c/a.pem.key", "/c/a.key", "/ca/x.pem", "/abs/b.pem", "/abs/b.pem.ocsp"]
        {
            assert!(paths.iter().any(|path| path == expected), "{expected}: {paths:?}");
        }
        assert!(!paths.iter().any(|path| path.contains("store")), "{paths:?}");
        assert_eq!(found[0].named_by, "/l:2");
    }
}
