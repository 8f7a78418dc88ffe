//! Letters of 5 x 7 dots, capitals only: enough for names, times and counts on a picture.

const WIDE: usize = 5;
const HIGH: usize = 7;

/// Opacities of a line of text, its width and its height. Small letters are written as capitals;
/// what has no letter here is refused.
pub(super) fn mask(text: &str, scale: u32) -> Result<(Vec<u8>, u32, u32), String> {
    let letters: Vec<[u8; HIGH]> = text.chars().map(letter).collect::<Result<_, _>>()?;
    if letters.is_empty() {
        return Err("text \"\": give at least one letter".to_string());
    }
    let scale = scale as usize;
    let width = (letters.len() * (WIDE + 1) - 1) * scale;
    let mut mask = vec![0; width * HIGH * scale];
    for (y, row) in mask.chunks_exact_mut(width).enumerate() {
        for (x, opacity) in row.iter_mut().enumerate() {
            let (dot_x, dot_y) = (x / scale, y / scale);
            let letter = letters[dot_x / (WIDE + 1)][dot_y];
            // The dot after the fifth is the gap between two letters.
            let is_set = u32::from(letter) << 1 & 1 << (WIDE - dot_x % (WIDE + 1)) != 0;
            *opacity = if is_set { 255 } else { 0 };
        }
    }
    Ok((mask, width as u32, (HIGH * scale) as u32))
}

fn letter(c: char) -> Result<[u8; HIGH], String> {
    let c = c.to_ascii_uppercase();
    let at = LETTERS.iter().position(|(known, _)| *known == c);
    at.map(|at| LETTERS[at].1).ok_or_else(|| {
        let known: String = LETTERS.iter().map(|(known, _)| *known).collect();
        format!("text: no letter for {c:?}, there are {known}")
    })
}

/// Rows from the top, the highest of five bits on the left.
const LETTERS: [(char, [u8; HIGH]); 51] = [
    ('A', [14, 17, 17, 31, 17, 17, 17]),
    ('B', [30, 17, 17, 30, 17, 17, 30]),
    ('C', [14, 17, 16, 16, 16, 17, 14]),
    ('D', [30, 17, 17, 17, 17, 17, 30]),
    ('E', [31, 16, 16, 30, 16, 16, 31]),
    ('F', [31, 16, 16, 30, 16, 16, 16]),
    ('G', [14, 17, 16, 19, 17, 17, 14]),
    ('H', [17, 17, 17, 31, 17, 17, 17]),
    ('I', [14, 4, 4, 4, 4, 4, 14]),
    ('J', [7, 2, 2, 2, 2, 18, 12]),
    ('K', [17, 18, 20, 24, 20, 18, 17]),
    ('L', [16, 16, 16, 16, 16, 16, 31]),
    ('M', [17, 27, 21, 21, 17, 17, 17]),
    ('N', [17, 25, 25, 21, 19, 19, 17]),
    ('O', [14, 17, 17, 17, 17, 17, 14]),
    ('P', [30, 17, 17, 30, 16, 16, 16]),
    ('Q', [14, 17, 17, 17, 21, 18, 13]),
    ('R', [30, 17, 17, 30, 20, 18, 17]),
    ('S', [15, 16, 16, 14, 1, 1, 30]),
    ('T', [31, 4, 4, 4, 4, 4, 4]),
    ('U', [17, 17, 17, 17, 17, 17, 14]),
    ('V', [17, 17, 17, 17, 10, 10, 4]),
    ('W', [17, 17, 17, 21, 21, 27, 17]),
    ('X', [17, 17, 10, 4, 10, 17, 17]),
    ('Y', [17, 17, 10, 4, 4, 4, 4]),
    ('Z', [31, 1, 2, 4, 8, 16, 31]),
    ('0', [14, 17, 19, 21, 25, 17, 14]),
    ('1', [4, 12, 4, 4, 4, 4, 14]),
    ('2', [14, 17, 1, 6, 8, 16, 31]),
    ('3', [30, 1, 1, 14, 1, 1, 30]),
    ('4', [2, 6, 10, 18, 31, 2, 2]),
    ('5', [31, 16, 30, 1, 1, 17, 14]),
    ('6', [6, 8, 16, 30, 17, 17, 14]),
    ('7', [31, 1, 2, 4, 8, 8, 8]),
    ('8', [14, 17, 17, 14, 17, 17, 14]),
    ('9', [14, 17, 17, 15, 1, 2, 12]),
    (' ', [0, 0, 0, 0, 0, 0, 0]),
    ('.', [0, 0, 0, 0, 0, 12, 12]),
    (',', [0, 0, 0, 0, 12, 4, 8]),
    (':', [0, 12, 12, 0, 12, 12, 0]),
    ('-', [0, 0, 0, 31, 0, 0, 0]),
    ('+', [0, 4, 4, 31, 4, 4, 0]),
    ('/', [1, 1, 2, 4, 8, 16, 16]),
    ('%', [24, 25, 2, 4, 8, 19, 3]),
    ('_', [0, 0, 0, 0, 0, 0, 31]),
    ('=', [0, 0, 31, 0, 31, 0, 0]),
    ('(', [2, 4, 8, 8, 8, 4, 2]),
    (')', [8, 4, 2, 2, 2, 4, 8]),
    ('#', [10, 10, 31, 10, 31, 10, 10]),
    ('!', [4, 4, 4, 4, 4, 0, 4]),
    ('?', [14, 17, 1, 2, 4, 0, 4]),
];
