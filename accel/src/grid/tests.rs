use super::*;

/// A grid in which `#` stands for a full block and `.` for an empty one.
fn grid(rows: &[&str]) -> Vec<u8> {
    let blocks = rows.iter().flat_map(|row| row.chars());
    blocks.flat_map(|c| if c == '#' { 256u32 } else { 0 }.to_le_bytes()).collect()
}

fn mask(width: u32, height: u32, halvings: u32) -> MaskShape {
    let (frame_width, frame_height) = (width << halvings, height << halvings);
    MaskShape { width, height, frame_width, frame_height }
}

fn check(rows: &[&str], mask: MaskShape, expected: &[(u32, u32, u32, u32)]) {
    let expected: Vec<Rect> =
        expected.iter().map(|&(x, y, width, height)| Rect { x, y, width, height }).collect();
    assert_eq!(boxes(&grid(rows), &mask, 1), expected, "{rows:?}");
}

#[test]
fn touching_blocks_make_one_box() {
    check(&["...", "...", "..."], mask(48, 48, 0), &[]);
    check(&["#..", "...", "..#"], mask(48, 48, 0), &[(0, 0, 16, 16), (32, 32, 16, 16)]);
    check(&["#..", ".#.", "..#"], mask(48, 48, 0), &[(0, 0, 48, 48)]);
    check(&["..#", ".#.", "#.."], mask(48, 48, 0), &[(0, 0, 48, 48)]);
    check(&["#.#", "#.#", "#.#"], mask(48, 48, 0), &[(0, 0, 16, 48), (32, 0, 16, 48)]);
    check(&["..#", "#..", "..."], mask(48, 48, 0), &[(32, 0, 16, 16), (0, 16, 16, 16)]);
    check(&["#.", "##"], mask(32, 32, 0), &[(0, 0, 32, 32)]);
}

#[test]
fn the_largest_comes_first() {
    check(&["#.##", "...."], mask(64, 32, 0), &[(32, 0, 32, 16), (0, 0, 16, 16)]);
}

#[test]
fn boxes_are_in_frame_samples_and_cut_at_the_edge() {
    check(&["##", ".#"], mask(20, 17, 1), &[(0, 0, 40, 34)]);
    let odd = MaskShape { width: 17, height: 9, frame_width: 33, frame_height: 17 };
    check(&[".#"], odd, &[(32, 0, 1, 17)]);
}

#[test]
fn counts_below_the_least_do_not_move() {
    let grid: Vec<u8> = [9u32, 10].iter().flat_map(|c| c.to_le_bytes()).collect();
    let found = boxes(&grid, &mask(32, 16, 0), 10);
    assert_eq!(found, [Rect { x: 16, y: 0, width: 16, height: 16 }]);
    assert_eq!(boxes(&[0; 8], &mask(32, 16, 0), 0), [], "an empty block never moves");
}

#[test]
fn there_is_a_limit_of_boxes() {
    let rows = vec!["#.".repeat(40); 40];
    let rows: Vec<&str> =
        rows.iter().enumerate().map(|(i, r)| if i % 2 == 0 { r.as_str() } else { "" }).collect();
    let spread: Vec<String> =
        rows.iter().map(|r| if r.is_empty() { ".".repeat(80) } else { (*r).to_string() }).collect();
    let spread: Vec<&str> = spread.iter().map(String::as_str).collect();
    assert_eq!(boxes(&grid(&spread), &mask(1280, 640, 0), 1).len(), RECTS_MAX);
}

#[test]
fn the_share_is_of_all_samples() {
    assert_eq!(share(&grid(&["#.", ".."]), [32 * 32, 0]), 0.25);
    assert_eq!(share(&[], [0, 0]), 0.0);
}
