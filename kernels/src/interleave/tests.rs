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
