//! Compresses page after page, where most of a page is as it was on the last one.
//!
//! It is compressed in sections, which are kept: a deflate stream may be put together from parts
//! that end on a byte and refer to nothing before them (RFC 1951, as pigz does it).

use flate2::{Compress, Compression, Crc, FlushCompress};
use hyper::body::Bytes;

/// Magic, deflate, no flags, no time, fastest, unknown system (RFC 1952, section 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// A last block with nothing in it.
const END: [u8; 2] = [3, 0];

/// The window of deflate: nothing further away helps to compress.
const LONG: usize = 32 << 10;

/// Compresses the pages of one exporter.
#[derive(Debug, Default)]
pub struct Gzip {
    /// The sections of the last page.
    known: Vec<Section>,
}

/// One long text, or several short ones.
#[derive(Debug)]
struct Section {
    texts: Vec<Bytes>,
    deflated: Vec<u8>,
}

impl Gzip {
    /// Compresses a page, a gzip file of one member.
    pub fn compress(&mut self, page: &[Bytes]) -> Bytes {
        // Not kept: it is larger than all that is.
        let mut deflate = Compress::new(Compression::fast(), false);
        let mut known = std::mem::take(&mut self.known).into_iter();
        let mut crc = Crc::new();
        for texts in sections(page) {
            let same = known.next().filter(|known| known.texts == texts);
            let anew = || deflated(&mut deflate, &texts.concat());
            let deflated = same.map_or_else(anew, |same| same.deflated);
            for text in &texts {
                crc.update(text);
            }
            self.known.push(Section { texts, deflated });
        }
        let mut file = HEADER.to_vec();
        self.known.iter().for_each(|section| file.extend(&section.deflated));
        file.extend(END);
        file.extend(crc.sum().to_le_bytes());
        file.extend(crc.amount().to_le_bytes());
        file.into()
    }
}

/// Short texts go together until they are long enough: much of one stands in the others too.
fn sections(page: &[Bytes]) -> Vec<Vec<Bytes>> {
    let mut sections: Vec<Vec<Bytes>> = Vec::new();
    let mut room = 0;
    for text in page {
        if let Some(section) = sections.last_mut().filter(|_| text.len() <= room) {
            section.push(text.clone());
        } else {
            sections.push(vec![text.clone()]);
            room = LONG;
        }
        room = room.saturating_sub(text.len());
    }
    sections
}

/// Whole blocks that end on a byte.
fn deflated(deflate: &mut Compress, section: &[u8]) -> Vec<u8> {
    deflate.reset();
    let mut deflated = Vec::with_capacity(section.len() / 4 + 64);
    let mut was_full = false;
    loop {
        let read = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = section.get(read..).unwrap_or_default();
        deflate
            .compress_vec(rest, &mut deflated, FlushCompress::Sync)
            .expect("the compressor takes all input");
        // With room left, all has been written; but what is called after it ran out of room may
        // only bring the rest of before, and has yet to flush.
        let is_full = deflated.len() == deflated.capacity();
        if !is_full && !was_full {
            deflated.shrink_to_fit();
            return deflated;
        }
        was_full = is_full;
        if is_full {
            deflated.reserve(section.len() / 4 + 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn unpacked(file: &[u8]) -> String {
        let mut text = String::new();
        let mut decoder = flate2::read::GzDecoder::new(file);
        decoder.read_to_string(&mut text).unwrap();
        assert_eq!(decoder.into_inner().len(), 0, "one member, and nothing after it");
        text
    }

    fn page(sections: &[String]) -> Vec<Bytes> {
        sections.iter().cloned().map(Bytes::from).collect()
    }

    #[test]
    fn every_page_comes_out_as_it_went_in() {
        let long = |value: u32| {
            let lines = (0..20_000).map(|n| format!("a{{n=\"{n}\"}} {value}\n"));
            lines.collect::<Vec<_>>().concat()
        };
        let noise: String =
            (0..5000u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
        let pages: [Vec<String>; 8] = [
            vec![],
            vec!["a 1\n".to_owned(), "b 1\n".to_owned()],
            vec!["a 1\n".to_owned(), "b 2\n".to_owned()],
            vec![long(1), "b 2\n".to_owned(), noise],
            vec![long(1), "b 2\n".to_owned()],
            vec!["a 1\n".to_owned(), long(1), String::new()],
            vec!["a 1\n".to_owned(), long(2), "c 1\n".to_owned()],
            vec!["a 1\n".to_owned()],
        ];
        let mut gzip = Gzip::default();
        for sections in pages {
            assert_eq!(unpacked(&gzip.compress(&page(&sections))), sections.concat());
        }
    }

    /// What hardly shrinks needs room more than once, in the middle of a block or at its end.
    #[test]
    fn random_text_of_any_length_comes_out() {
        let mut state = 1_u64;
        let mut digit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b' ' + u8::try_from((state >> 33) % 95).unwrap())
        };
        let text: String = (0..200_000).map(|_| digit()).collect();
        for length in (40_000..200_000).step_by(997) {
            let section = text[..length].to_owned();
            let file = Gzip::default().compress(&page(std::slice::from_ref(&section)));
            assert!(unpacked(&file) == section, "{length}");
        }
    }

    #[test]
    fn what_has_not_changed_is_not_compressed_again() {
        let mut gzip = Gzip::default();
        let long = "a 1\n".repeat(LONG);
        gzip.compress(&page(&[long.clone(), "b 1\n".to_owned()]));
        let kept = gzip.known[0].deflated.as_ptr();
        gzip.compress(&page(&[long, "b 20\n".to_owned()]));
        assert_eq!(gzip.known[0].deflated.as_ptr(), kept);
    }
}
