use super::*;

const BYTES_MAX: u64 = 1 << 20;

#[test]
fn small_segments_are_merged_and_large_ones_left() {
    let huge = BYTES_MAX;
    let cases: [(&[u64], usize); 7] = [
        (&[], 0),
        (&[9, 9], 0),
        (&[9, 9, 9], 3),
        (&[100, 9, 9], 2),
        (&[30, 9, 9], 3),
        (&[9, 9, 100], 3),
        (&[9, 9, huge + 1], 0),
    ];
    for (bytes, wanted) in cases {
        assert_eq!(merged_with(bytes, 3, BYTES_MAX), wanted, "{bytes:?}");
    }
}

#[test]
fn where_room_is_short_all_that_fit_are_merged() {
    let cases: [(&[u64], usize); 4] =
        [(&[], 0), (&[9, 100, 9], 3), (&[1, BYTES_MAX, 9], 1), (&[9, BYTES_MAX + 1], 0)];
    for (bytes, wanted) in cases {
        assert_eq!(that_fit(bytes, BYTES_MAX), wanted, "{bytes:?}");
    }
}

/// Flushes of one size for a long time: few segments, and each byte is written few times.
#[test]
fn a_byte_is_written_few_times_however_much_there_is() {
    let (segments_max, flushes) = (8, 4_000u64);
    let (mut segments, mut written): (Vec<u64>, u64) = (Vec::new(), 0);
    for _ in 0..flushes {
        let kept = segments.len() - merged_with(&segments, segments_max, u64::MAX);
        let merged = segments.split_off(kept).iter().sum::<u64>() + 1_000;
        segments.push(merged);
        written += merged;
        assert!(segments.len() <= segments_max, "{segments:?}");
    }
    let times = written / (flushes * 1_000);
    assert!(times <= 8, "each byte was written {times} times");
}
