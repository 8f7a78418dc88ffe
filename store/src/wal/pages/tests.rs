use bytes::Bytes;

use super::super::format::{self, End, Tip};
use super::*;
use crate::tests::Dice;

/// A file as the log writes it, and what is in it.
struct File {
    bytes: Vec<u8>,
    tip: Tip,
    run: Run,
    entries: Vec<Vec<u8>>,
    written: usize,
}

impl File {
    fn begin(dice: &mut Dice) -> File {
        let (mut bytes, mut tip) = format::file_header(3, 9, crate::entropy());
        let entries = vec![some(dice, 5_000)];
        bytes.extend(format::group(&mut tip, entries.iter().map(Vec::as_slice)));
        let run = Run::behind(bytes.len() as u64);
        let mut bytes = padded(bytes);
        // As a file that is made of another.
        bytes.extend((0..dice.below(40_000)).map(|i| i as u8 | 1));
        File { bytes, tip, run, entries, written: 0 }
    }

    fn parsed(&self, bytes: &[u8]) -> format::Parsed {
        format::parse(3, &Bytes::copy_from_slice(bytes))
    }

    /// Adds a group. Whatever becomes of the pages that are written, those before are there.
    fn add(&mut self, entries: &[Vec<u8>], dice: &mut Dice) {
        let before = self.bytes.clone();
        let group = format::group(&mut self.tip, entries.iter().map(Vec::as_slice));
        let addition = self.run.add(group);
        let (from, to) = (addition.at as usize, addition.at as usize + addition.bytes.len());
        assert!(from % PAGE_BYTES == 0 && to % PAGE_BYTES == 0);
        self.bytes.resize(to.max(self.bytes.len()), 0);
        self.bytes[from..to].copy_from_slice(&addition.bytes);
        let all = [&self.entries[..], entries].concat();
        for all_of_it in [true, false, false, false] {
            let mut left = self.bytes.clone();
            for sector in (from..to).step_by(512) {
                match if all_of_it { 0 } else { dice.below(3) } {
                    0 => left[sector..sector + 512].fill(0x77),
                    1 => {}
                    _ => {
                        let lost = before.get(sector..sector + 512).unwrap_or(&[0; 512]);
                        left[sector..sector + 512].copy_from_slice(lost);
                    }
                }
            }
            let parsed = self.parsed(&left);
            assert!(parsed.entries == self.entries || parsed.entries == all, "what was there");
            assert_ne!(parsed.end, End::Rotten, "an unfinished write is none");
            let sound = &left[..parsed.sound_bytes];
            let again = self.parsed(sound);
            assert_eq!((again.entries, again.end), (parsed.entries, End::Whole), "cut off");
        }
        (self.entries, self.run) = (all, addition.run);
        self.written += to - from;
        let parsed = self.parsed(&self.bytes);
        assert!(parsed.entries == self.entries && parsed.end != End::Rotten);
        assert!(parsed.sound_bytes as u64 <= self.run.end());
    }
}

fn some(dice: &mut Dice, bytes_max: u64) -> Vec<u8> {
    (0..dice.below(bytes_max)).map(|_| dice.below(256) as u8).collect()
}

#[test]
fn no_write_touches_what_only_its_page_has() {
    let mut dice = Dice(crate::entropy() | 1);
    println!("seed {}", dice.0);
    for _ in 0..60 {
        let mut file = File::begin(&mut dice);
        let bytes_max = dice.of(&[30, 300, 3_000, 10_000]);
        for _ in 0..40 {
            let bytes_max = if dice.below(8) == 0 { 12_000 } else { bytes_max };
            let entries = vec![some(&mut dice, bytes_max); dice.below(3) as usize];
            file.add(&entries, &mut dice);
        }
        let end = file.run.end() as usize;
        assert_eq!(file.parsed(&file.bytes[..end]).end, End::Whole, "as it is when it ends");
        assert_eq!(format::salvage(&file.bytes.into()), file.entries, "each once");
    }
}

/// What it costs: a group that fits a page is one page to write, as ever, and the file does not
/// grow by a page with each.
#[test]
fn small_groups_share_pages() {
    let mut dice = Dice(5);
    for (bytes, pages_max) in [(40, 1_000 / 30), (150, 1_000 / 10), (2_000, 1_000)] {
        let mut file = File::begin(&mut dice);
        let begun = file.run.end();
        for _ in 0..1_000 {
            let group = format::group(&mut file.tip, [&vec![1; bytes][..]].into_iter());
            let addition = file.run.add(group);
            (file.run, file.written) = (addition.run, file.written + addition.bytes.len());
        }
        assert_eq!(file.written, 1_000 * PAGE_BYTES);
        let pages = (file.run.end() - begun) / PAGE;
        assert!(pages <= pages_max, "{pages} pages of groups of {bytes} bytes");
    }
}
