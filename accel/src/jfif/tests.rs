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
        let without_room = |symbol: &u8| {
            let (Code { bits, len }, room) = (table[usize::from(*symbol)], symbol & 15);
            assert!(bits.trailing_zeros() >= u32::from(room));
            Code { bits: bits >> room, len: len - u32::from(room) }
        };
        let used: Vec<Code> = spec.symbols.iter().map(without_room).collect();
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
    assert_eq!(bits(TABLES.luma.dc[11]), (0b1_1111_1110 << 11, 9 + 11));
    assert_eq!(bits(TABLES.luma.ac[END_OF_BLOCK]), (0b1010, 4));
    assert_eq!(bits(TABLES.luma.ac[RUN_OF_16]), (0b111_1111_1001, 11));
    assert_eq!(bits(TABLES.chroma.ac[END_OF_BLOCK]), (0b00, 2));
}

fn written(codes: &[(Code, u32, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut bits = BitWriter::new(&mut bytes);
    bits.reserve(64);
    for (code, value, len) in codes {
        let Code { bits: code, len: code_len } = *code;
        bits.put_with(Code { bits: code << len, len: code_len + len }, *value);
    }
    bits.close();
    bits.finish();
    bytes
}

#[test]
fn bits_are_written_highest_first_and_ones_are_escaped() {
    let code = |bits: u32, len: u32| Code { bits, len };
    assert_eq!(written(&[(code(0b1, 1), 0b01, 2)]), [0b1011_1111]);
    assert_eq!(written(&[(code(0xFF, 8), 0x12, 8); 5]), [0xFF, 0, 0x12].repeat(5));
    assert_eq!(written(&[(code(0xFFFF, 16), 0, 0)]), [0xFF, 0, 0xFF, 0]);
    assert!(written(&[]).is_empty());
}

/// Whatever a device gives is coded without a fault, and in the room that was made.
#[test]
fn levels_beyond_all_bounds_are_coded() {
    for level in [i16::MIN, -2048, -1024, -1, 0, 1023, 1024, i16::MAX] {
        let levels: Vec<u8> = level.to_le_bytes().repeat(3 * MCU_BYTES / 2);
        let mut file = Vec::new();
        code_scan(&mut file, &levels, MCU_BYTES, 1);
        assert!(file.len() <= 3 * MCU_BYTES_MAX, "{level}: {} bytes", file.len());
    }
}

#[test]
fn levels_that_are_not_zero_have_a_bit() {
    for at in 0..64 {
        for value in [1i16, -1, 256, i16::MIN] {
            let mut levels = [0; 128];
            levels[2 * at..][..2].copy_from_slice(&value.to_le_bytes());
            assert_eq!(levels_set(&levels), 1 << at, "{value} at {at}");
        }
    }
    assert_eq!(levels_set(&[1; 128]), u64::MAX);
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
    let code = |threads: usize| {
        let mut scan = Vec::new();
        code_scan(&mut scan, &levels, columns * MCU_BYTES, threads);
        scan
    };
    let alone = code(1);
    for threads in [2, 3, 8, 64] {
        assert_eq!(code(threads), alone, "{threads} threads");
    }
    let file = encode(&levels, 48, 176, &steps(75));
    let markers: Vec<u8> = file
        .windows(2)
        .filter(|pair| pair[0] == 0xFF && (RESTART..RESTART + 8).contains(&pair[1]))
        .map(|pair| pair[1] - RESTART)
        .collect();
    assert_eq!(markers, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
}
