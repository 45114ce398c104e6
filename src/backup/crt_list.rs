//! Which files the lines of a crt-list name.

use std::path::Path;

use super::bases::Bases;
use super::manifest::Role;
use super::references::{Reference, with_companions};

/// Finds what the lines of a crt-list name.
#[must_use]
pub fn references(text: &str, path: &Path, bases: &Bases) -> Vec<Reference> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let named_by = format!("{}:{}", path.display(), number + 1);
        let mut words = line.split_ascii_whitespace();
        let Some(certificate) = words.next().filter(|word| !word.starts_with('@')) else {
            continue;
        };
        let certificate = certificate.split('[').next().unwrap_or_default();
        let path = bases.join(bases.certificates.as_ref(), certificate, None);
        found.extend(with_companions(path, Role::Certificate, &named_by));
        let options = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        let options: Vec<&str> =
            options.map(|(o, _)| o.split_ascii_whitespace().collect()).unwrap_or_default();
        for pair in options.windows(2) {
            let [word, value] = pair else { continue };
            if matches!(*word, "ca-file" | "ca-verify-file" | "crl-file") && !value.starts_with('@')
            {
                let path = bases.join(bases.authorities.as_ref(), value, None);
                let (role, named_by) = (Role::Authorities, named_by.clone());
                found.push(Reference { path, role, required: true, named_by });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crt_list_names_certificates_and_authorities() {
        let mut bases = Bases::of(Path::new("/cwd"));
        bases.certificates = Some("/c".into());
        let text = "# first\na.pem [ca-file /ca/x.pem verify none] *.example.org\n/abs/b.pem[alpn h2] x\n\n@store/y\n";
        let found = references(text, Path::new("/l"), &bases);
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
