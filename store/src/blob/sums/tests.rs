use super::*;

fn sums_of(bytes: &[u8], step: usize) -> (String, Sums) {
    let mut summing = Summing::default();
    bytes.chunks(step).for_each(|part| summing.add(part));
    assert_eq!(summing.len(), bytes.len() as u64);
    summing.finish()
}

#[test]
fn sums_do_not_depend_on_how_the_bytes_come() {
    let part = PART_BYTES as usize;
    for len in [0, 1, part - 1, part, part + 1, 3 * part, 3 * part + 7] {
        let bytes: Vec<u8> = (0..len).map(|i| (i * 31 / 7) as u8).collect();
        let (digest, whole) = sums_of(&bytes, len.max(1));
        assert_eq!(digest, hex(&Sha256::digest(&bytes)));
        for step in [1_000, part, part + 1] {
            let (other, sums) = sums_of(&bytes, step);
            assert_eq!((&other, &sums.parts), (&digest, &whole.parts), "{len} by {step}");
        }
        assert!(whole.are_of(0, &bytes), "{len}");
    }
}

#[test]
fn each_flipped_bit_and_each_wrong_place_shows() {
    let part = PART_BYTES as usize;
    let bytes: Vec<u8> = (0..2 * part + 100).map(|i| (i * 31 / 7) as u8).collect();
    let (_, sums) = sums_of(&bytes, 5_000);
    let len = bytes.len() as u64;
    assert_eq!(sums.around(&(0..1)), 0..PART_BYTES);
    assert_eq!(sums.around(&(PART_BYTES - 1..PART_BYTES + 1)), 0..2 * PART_BYTES);
    assert_eq!(sums.around(&(2 * PART_BYTES..len)), 2 * PART_BYTES..len);
    assert!(sums.are_of(PART_BYTES, &bytes[part..]));
    assert!(!sums.are_of(0, &bytes[part..]), "another part");
    assert!(!sums.are_of(2 * PART_BYTES, &bytes[part..]), "more than there are");
    assert!(!sums.are_of(2 * PART_BYTES, &bytes[2 * part..2 * part + 99]), "cut off");
    for at in [part, part + 1, 2 * part - 1, 2 * part, 2 * part + 99] {
        let mut damaged = bytes[part..].to_vec();
        damaged[at - part] ^= 0x10;
        assert!(!sums.are_of(PART_BYTES, &damaged), "byte {at}");
    }
}

#[test]
fn no_more_is_kept_than_its_limit() {
    let proved = Proved::default();
    let of = |parts| Sums { len: 0, parts: vec![0; parts] };
    let half = PARTS_MAX / 2 - PARTS_BESIDE;
    proved.keep("a", of(half));
    proved.keep("a", of(half));
    proved.keep("b", of(half));
    assert!(proved.get("a").is_some() && proved.get("b").is_some());
    proved.keep("c", of(1));
    assert!(proved.get("a").is_none() && proved.get("b").is_some() && proved.get("c").is_some());
}
