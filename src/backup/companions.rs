//! What HAProxy loads beside a certificate.

use std::path::{Path, PathBuf};

use super::manifest::Role;
use super::reference::Reference;

/// The files that HAProxy looks for beside a certificate (`ssl-load-extra-files`).
pub(super) const BESIDE: [&str; 4] = ["key", "ocsp", "sctl", "issuer"];
/// The endings of the parts of a bundle.
pub(super) const BUNDLE: [&str; 3] = ["rsa", "ecdsa", "dsa"];

/// What HAProxy may load beside a certificate: the parts of a bundle, and the files beside each.
#[must_use]
pub fn companions(certificate: &Path) -> Vec<PathBuf> {
    let with = |path: &Path, ending: &str| {
        let mut path = path.to_owned().into_os_string();
        path.push(format!(".{ending}"));
        PathBuf::from(path)
    };
    let parts: Vec<PathBuf> = BUNDLE.iter().map(|ending| with(certificate, ending)).collect();
    let all = parts.iter().map(PathBuf::as_path).chain([certificate]);
    let beside = all.flat_map(|part| BESIDE.iter().map(move |ending| with(part, ending)));
    let beside: Vec<PathBuf> = beside.collect();
    beside.into_iter().chain(parts).collect()
}

/// A certificate and its companions. Of a bundle the name itself need not exist.
pub(super) fn with_companions(path: PathBuf, read_in: &Path, named_by: &str) -> Vec<Reference> {
    // `ssl-load-extra-del-ext` looks for `site.key` beside `site.crt`.
    let by_extension = path.with_extension("key");
    let all = companions(&path).into_iter().chain([by_extension, path]);
    let reference = |path| Reference {
        path,
        role: Role::Certificate,
        required: false,
        read_in: read_in.to_owned(),
        named_by: named_by.to_owned(),
    };
    all.map(reference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_bundle_has_its_own_companions() {
        let found = with_companions("/c/site.pem".into(), Path::new("/"), "f:1");
        let paths: Vec<_> = found.iter().map(|one| one.path.display().to_string()).collect();
        for expected in
            ["site.pem", "site.key", "site.pem.ocsp", "site.pem.rsa", "site.pem.ecdsa.key"]
        {
            assert!(paths.contains(&format!("/c/{expected}")), "{expected}: {paths:?}");
        }
    }
}
