//! Cuts text that a user has chosen, so that no user's names fill a page, a log or the memory.

use std::borrow::Cow;

/// A path, the name of a unit or a version is cut at this many characters where it is shown.
pub const MOST_SHOWN: usize = 256;

/// Returns a text of at most `most` characters. A longer one keeps its beginning, and gets a hash of
/// the whole, so that different texts stay different.
#[must_use]
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most || text.chars().count() <= most {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(most.saturating_sub(HASH_CHARACTERS + 1)).collect();
    Cow::Owned(format!("{kept}-{}", short_hash(text)))
}

/// The number of characters of a short hash.
const HASH_CHARACTERS: usize = 6;

/// A short hash of a text, the same in every build: 24 bits of FNV-1a. It distinguishes names and proves
/// nothing: any user can make two texts with the same one.
#[must_use]
pub fn short_hash(text: &str) -> String {
    let step = |hash: u32, &byte: &u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = text.as_bytes().iter().fold(0x811c_9dc5, step);
    format!("{:06x}", hash & 0x00ff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_gets_a_hash() {
        for (text, most, expected) in [
            ("short", 8, "short"),
            ("12345678", 8, "12345678"),
            ("ääääääää", 8, "ääääääää"),
            ("1234567890", 8, "1-62d44f"),
        ] {
            let cut = shortened(text, most);
            assert!(cut.chars().count() <= most, "{cut}");
            assert!(cut == expected || text.len() > most && cut.starts_with("1-"), "{cut}");
        }
        let (one, two) = ("x".repeat(300), "x".repeat(301));
        assert_ne!(shortened(&one, MOST_SHOWN), shortened(&two, MOST_SHOWN));
    }
}
