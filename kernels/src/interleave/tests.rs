use super::*;

#[test]
fn joining_and_splitting_are_each_others_reverse() {
    for len in [0, 1, 15, 16, 17, 47, 48, 100] {
        let plane = |start: usize| (0..len).map(|i| (start + 7 * i) as u8).collect::<Vec<u8>>();
        let [a, b, c] = [plane(1), plane(90), plane(180)];
        let mut joined = vec![0; 3 * len];
        join3(&a, &b, &c, &mut joined);
        let expected: Vec<u8> = (0..len).flat_map(|i| [a[i], b[i], c[i]]).collect();
        assert_eq!(joined, expected, "{len} pixels");
        let mut parts = [vec![0; len], vec![0; len], vec![0; len]];
        let [x, y, z] = &mut parts;
        split3(&joined, x, y, z);
        assert_eq!(parts, [a, b, c], "{len} pixels");
    }
}

#[test]
fn every_other_pixel_is_taken() {
    for pixels in (1..60).step_by(2).chain([101, 202]) {
        let from: Vec<u8> = (0..3 * pixels).map(|i| (i * 7) as u8).collect();
        let expected: Vec<u8> = from.chunks(6).flat_map(|two| two[..3].to_vec()).collect();
        let mut to = vec![0; expected.len()];
        every_other3(&from, &mut to);
        assert_eq!(to, expected, "{pixels} pixels");
    }
}
