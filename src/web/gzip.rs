//! Compresses page after page, where most of a page is as it was on the last one.
//!
//! Each section is compressed by itself and kept: a deflate stream may be put together from parts
//! that end on a byte and refer to nothing before them (RFC 1951, as pigz does it).

use flate2::{Compress, Compression, Crc, FlushCompress};
use hyper::body::Bytes;

/// Magic, deflate, no flags, no time, fastest, unknown system (RFC 1952, section 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// A last block with nothing in it.
const END: [u8; 2] = [3, 0];

/// Compresses the pages of one exporter.
#[derive(Debug, Default)]
pub struct Gzip {
    /// The sections of the last page.
    known: Vec<Section>,
}

#[derive(Debug)]
struct Section {
    text: Bytes,
    deflated: Vec<u8>,
}

impl Gzip {
    /// Compresses a page, a gzip file of one member.
    pub fn compress(&mut self, sections: &[Bytes]) -> Bytes {
        // Not kept: it is larger than all that is.
        let mut deflate = Compress::new(Compression::fast(), false);
        let mut known = std::mem::take(&mut self.known).into_iter();
        let mut crc = Crc::new();
        for text in sections {
            let same = known.next().filter(|known| known.text == text);
            let deflated = same.map_or_else(|| deflated(&mut deflate, text), |same| same.deflated);
            self.known.push(Section { text: text.clone(), deflated });
            crc.update(text);
        }
        let mut file = HEADER.to_vec();
        self.known.iter().for_each(|section| file.extend(&section.deflated));
        file.extend(END);
        file.extend(crc.sum().to_le_bytes());
        file.extend(crc.amount().to_le_bytes());
        file.into()
    }
}

/// Whole blocks that end on a byte.
fn deflated(deflate: &mut Compress, section: &[u8]) -> Vec<u8> {
    deflate.reset();
    let mut deflated = Vec::with_capacity(section.len() / 4 + 64);
    loop {
        let read = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = section.get(read..).unwrap_or_default();
        deflate
            .compress_vec(rest, &mut deflated, FlushCompress::Sync)
            .expect("the compressor takes all input");
        // With room left in it, all has been written.
        if deflated.len() < deflated.capacity() {
            deflated.shrink_to_fit();
            return deflated;
        }
        deflated.reserve(section.len() / 4 + 64);
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

    #[test]
    fn what_has_not_changed_is_not_compressed_again() {
        let mut gzip = Gzip::default();
        gzip.compress(&page(&["a 1\n".to_owned(), "b 1\n".to_owned()]));
        let kept = gzip.known[0].deflated.as_ptr();
        gzip.compress(&page(&["a 1\n".to_owned(), "b 20\n".to_owned()]));
        assert_eq!(gzip.known[0].deflated.as_ptr(), kept);
    }
}
