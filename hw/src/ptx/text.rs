//! The words of a PTX text, each with its line.

use super::fault::Refusal;

/// The longest text that is read.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// A piece of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// A name, directive, opcode or register, dots included.
    Word(&'a str),
    /// Digits and letters that begin with a digit.
    Number(&'a str),
    /// What stands between quotes.
    Quoted,
    /// Any other character.
    Mark(char),
}

/// A piece of the text, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<'a> {
    pub token: Token<'a>,
    /// From 1 on.
    pub line: u32,
}

/// Reads the whole text, which may end in NULs.
pub fn tokens(text: &[u8]) -> Result<Vec<Placed<'_>>, Refusal> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Refusal::new(1, format!("more than {TEXT_BYTES_MAX} bytes of text")));
    }
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = std::str::from_utf8(&text[..end])
        .map_err(|error| Refusal::new(1, format!("not UTF-8: {error}")))?;
    let (mut found, mut rest, mut line) = (Vec::new(), text, 1);
    while let Some(first) = rest.chars().next() {
        let len = if let Some(len) = skipped(rest, line)? {
            len
        } else {
            let (token, len) = token(rest, first, line)?;
            found.push(Placed { token, line });
            len
        };
        line += rest[..len].bytes().filter(|byte| *byte == b'\n').count() as u32;
        rest = &rest[len..];
    }
    Ok(found)
}

/// Bytes of white space or of a comment, where one begins.
fn skipped(rest: &str, line: u32) -> Result<Option<usize>, Refusal> {
    if rest.starts_with("//") {
        return Ok(Some(rest.find('\n').unwrap_or(rest.len())));
    }
    if rest.starts_with("/*") {
        let end = rest.find("*/").map(|at| at + 2);
        return end.map(Some).ok_or_else(|| Refusal::new(line, "a comment does not end"));
    }
    let spaces = rest.len() - rest.trim_start().len();
    Ok((spaces > 0).then_some(spaces))
}

fn token(rest: &str, first: char, line: u32) -> Result<(Token<'_>, usize), Refusal> {
    if first == '"' {
        let end = rest[1..].find('"').map(|at| at + 2);
        let end = end.ok_or_else(|| Refusal::new(line, "a quotation does not end"))?;
        return Ok((Token::Quoted, end));
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.' | '%');
    if !is_part(first) {
        return Ok((Token::Mark(first), first.len_utf8()));
    }
    let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let word = &rest[..end];
    match first.is_ascii_digit() {
        true => Ok((Token::Number(word), end)),
        false => Ok((Token::Word(word), end)),
    }
}
