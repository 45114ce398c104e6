//! A number that is equal on hosts with the same configuration, and reveals none of the secrets in it.

use std::borrow::Cow;

use ring::digest::{Context, SHA256};

use super::config::SourceFile;
use super::mask::{Text, masked};

/// The number of bytes of the hash that are kept: an integer of 48 bits is exact in the value of a sample.
const BYTES: usize = 6;

/// The first 48 bits of the SHA-256 of all files, one after another.
///
/// Everyone who may read the metrics sees the hash, and could guess a short secret until the hash agrees.
/// Each line is therefore hashed without its secrets, as it would be shown: two files that differ only in a
/// password have the same hash. For a file without secrets it is the beginning of its `sha256sum`.
#[must_use]
pub fn digest(files: &[SourceFile]) -> u64 {
    let mut context = Context::new(&SHA256);
    for file in files {
        for line in file.text.split_inclusive(|byte| *byte == b'\n') {
            context.update(&without_secrets(line));
        }
    }
    let hash = context.finish();
    hash.as_ref().iter().take(BYTES).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn without_secrets(line: &[u8]) -> Cow<'_, [u8]> {
    let shown = String::from_utf8_lossy(line);
    let hidden = masked(&shown, Text::Other);
    if hidden == shown { Cow::Borrowed(line) } else { Cow::Owned(hidden.into_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(texts: &[&str]) -> u64 {
        let file = |text: &&str| SourceFile { path: "/a.cfg".into(), text: (*text).into() };
        digest(&texts.iter().map(file).collect::<Vec<_>>())
    }

    #[test]
    fn it_is_the_beginning_of_sha256sum() {
        assert_eq!(digest_of(&["frontend a\n    bind :80\n"]), 0x6c8f_9a09_a285);
        assert_eq!(
            digest_of(&["frontend a\n", "    bind :80\n"]),
            0x6c8f_9a09_a285,
            "in two files"
        );
    }

    #[test]
    fn what_may_be_shown_counts_and_secrets_do_not() {
        let with = |port: &str, password: &str| {
            digest_of(&[&format!("listen a\n    bind :{port}\n    stats auth admin:{password}\n")])
        };
        assert_ne!(with("80", "x"), with("81", "x"));
        assert_eq!(with("80", "x"), with("80", "y"), "a password cannot be guessed");
        assert!(with("80", "x") < 1 << 48);
    }
}
