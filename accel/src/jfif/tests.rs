use kernels::jpeg::steps;

use super::*;

#[test]
fn magnitudes_are_those_of_the_standard() {
    for (value, size, bits) in [
        (0, 0, 0),
        (1, 1, 1),
        (-1, 1, 0),
        (2, 2, 2),
        (-3, 2, 0),
        (-2, 2, 1),
        (255, 8, 255),
        (-2046, 11, 1),
    ] {
        assert_eq!(magnitude(value), (size, bits), "{value}");
    }
}

#[test]
fn codes_are_prefix_free_and_complete() {
    for spec in [&DC_LUMA, &DC_CHROMA, &AC_LUMA, &AC_CHROMA] {
        let total: usize = spec.lengths.iter().map(|n| usize::from(*n)).sum();
        assert_eq!(total, spec.symbols.len());
        let table = codes(spec);
        let used: Vec<Code> = spec.symbols.iter().map(|s| table[usize::from(*s)]).collect();
        for (i, a) in used.iter().enumerate() {
            assert!((1..=16).contains(&a.len));
            for b in &used[i + 1..] {
                assert_ne!(b.bits >> (b.len - a.len), a.bits, "one code begins another");
            }
        }
    }
}

#[test]
fn known_codes() {
    let bits = |code: Code| (code.bits, code.len);
    assert_eq!(bits(TABLES.luma.dc[0]), (0b00, 2));
    assert_eq!(bits(TABLES.luma.dc[11]), (0b1_1111_1110, 9));
    assert_eq!(bits(TABLES.luma.ac[END_OF_BLOCK]), (0b1010, 4));
    assert_eq!(bits(TABLES.luma.ac[RUN_OF_16]), (0b111_1111_1001, 11));
    assert_eq!(bits(TABLES.chroma.ac[END_OF_BLOCK]), (0b00, 2));
}

#[test]
fn bits_are_written_highest_first_and_ones_are_escaped() {
    let mut bits = BitWriter::new(Vec::new());
    bits.put_with(Code { bits: 0b1, len: 1 }, 0b01, 2);
    assert_eq!(bits.finish(), [0b1011_1111]);
    let mut bits = BitWriter::new(Vec::new());
    for _ in 0..5 {
        bits.put_with(Code { bits: 0xFF, len: 8 }, 0x12, 8);
    }
    assert_eq!(bits.finish(), [0xFF, 0, 0x12].repeat(5));
    let mut bits = BitWriter::new(Vec::new());
    bits.put_with(Code { bits: 0xFFFF, len: 16 }, 0, 0);
    assert_eq!(bits.finish(), [0xFF, 0, 0xFF, 0]);
    assert!(BitWriter::new(Vec::new()).finish().is_empty());
}

/// A stream of one MCU whose levels are all zero: DC size 0 and end of block, six times.
#[test]
fn the_shortest_picture() {
    let file = encode(&[0; MCU_BYTES], 16, 16, &steps(50));
    assert_eq!(file[..2], START_OF_IMAGE);
    let scan = file.len() - 2 - 4;
    // 4 x (00 1010), 2 x (00 00), filled up with ones.
    assert_eq!(file[scan..], [0b0010_1000, 0b1010_0010, 0b1000_1010, 0b0000_0000, 0xFF, 0xD9]);
}

/// Threads do not show: the same file as from one, with a marker after each row but the last.
#[test]
fn rows_are_coded_alike_on_any_number_of_threads() {
    let (columns, rows) = (3, 11);
    let levels: Vec<u8> = (0..rows * columns * MCU_BYTES)
        .map(|i| if i % 14 == 0 { (i / 7 % 5) as u8 } else { 0 })
        .collect();
    let alone = code_parts(&levels, columns * MCU_BYTES, 1);
    assert_eq!(alone.len(), rows);
    for threads in [2, 3, 8, 64] {
        assert_eq!(code_parts(&levels, columns * MCU_BYTES, threads), alone, "{threads} threads");
    }
    let file = encode(&levels, 48, 176, &steps(75));
    let markers: Vec<u8> = file
        .windows(2)
        .filter(|pair| pair[0] == 0xFF && (RESTART..RESTART + 8).contains(&pair[1]))
        .map(|pair| pair[1] - RESTART)
        .collect();
    assert_eq!(markers, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
}
