//! Finds private keys in files, which are left out of a backup unless they are asked for.

/// What every PEM block begins with.
const BEGIN: &[u8] = b"-----BEGIN ";
/// How the first line of a private key goes on, after the words for its kind.
const PRIVATE: &[u8] = b"PRIVATE KEY-----";
/// The bytes that may stand between the two: the kinds are `RSA`, `EC`, `DSA`, `ENCRYPTED` and `OPENSSH`.
const LONGEST_KIND: usize = 32;

/// Looks for a private key in a stream of bytes that comes in pieces.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The end of the pieces before, in which a first line may have begun.
    tail: Vec<u8>,
    found: bool,
}

impl Scanner {
    /// Looks at the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.found {
            return;
        }
        self.tail.extend_from_slice(piece);
        self.found = has_private_key(&self.tail) || has_private_member(&self.tail);
        let kept = BEGIN.len() + LONGEST_KIND + PRIVATE.len();
        let cut = self.tail.len().saturating_sub(kept);
        self.tail.drain(..cut);
    }

    /// Whether one has been seen.
    #[must_use]
    pub fn found(&self) -> bool {
        self.found
    }
}

fn has_private_key(bytes: &[u8]) -> bool {
    let begins = bytes.windows(BEGIN.len()).enumerate().filter(|(_, part)| *part == BEGIN);
    begins.into_iter().any(|(at, _)| {
        let rest = bytes.get(at + BEGIN.len()..).unwrap_or_default();
        let line = rest.get(..rest.len().min(LONGEST_KIND + PRIVATE.len())).unwrap_or_default();
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        line.windows(PRIVATE.len()).any(|part| part == PRIVATE)
    })
}

/// The private member of a JSON web key, which HAProxy's ACME client keeps beside PEM.
fn has_private_member(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|part| part == b"\"d\":")
        && bytes.windows(5).any(|part| part == b"\"kty\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &[u8], piece: usize) -> bool {
        let mut scanner = Scanner::default();
        text.chunks(piece).for_each(|piece| scanner.feed(piece));
        scanner.found()
    }

    #[test]
    fn keys_are_found_wherever_a_piece_ends() {
        let table: [(&[u8], bool); 7] = [
            (b"-----BEGIN PRIVATE KEY-----\nx", true),
            (b"cert\n-----BEGIN CERTIFICATE-----\nx\n-----BEGIN RSA PRIVATE KEY-----\n", true),
            (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", true),
            (b"-----BEGIN OPENSSH PRIVATE KEY-----", true),
            (b"-----BEGIN CERTIFICATE-----\nPRIVATE KEY-----", false),
            (b"-----BEGIN PUBLIC KEY-----", false),
            (b"", false),
        ];
        for (text, expected) in table {
            for piece in [1, 3, 16, 4096] {
                assert_eq!(found(text, piece), expected, "{} by {piece}", text.escape_ascii());
            }
        }
        assert!(found(br#"{"kty":"EC","d":"x"}"#, 4096));
    }
}
