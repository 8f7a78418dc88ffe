//! The stack that a language's runtime writes when nobody catches an error, in a guest's words.

/// What begins a stack of Python.
const TRACEBACK: &str = "Traceback (most recent call last):";

/// The words before a stack, and the stack, from its first frame on; none where there is no frame.
pub(super) fn split(words: &str) -> Option<(&str, &str)> {
    let (mut at, mut before) = (0, None);
    for line in words.split_inclusive('\n') {
        let text = line.trim_end();
        if is_frame(text) {
            return Some(words.split_at(before.unwrap_or(at)));
        }
        before = (text == TRACEBACK).then_some(at);
        at += line.len();
    }
    None
}

/// What a stack says was wrong: in Python the line after it, though others may follow.
pub(super) fn error(stack: &str) -> Option<&str> {
    let last = stack.lines().filter(|line| is_frame(line)).next_back()?;
    if !is_python(last) {
        return None;
    }
    let after = stack.rsplit_once(last)?.1;
    after.lines().find(|line| !line.is_empty() && !line.starts_with(char::is_whitespace))
}

/// A line of Python, of engines that write as V8 and QuickJS do, or of SpiderMonkey.
fn is_frame(line: &str) -> bool {
    let text = line.trim_start();
    is_python(line) || (text.len() < line.len() && text.starts_with("at ")) || is_place(text)
}

fn is_python(line: &str) -> bool {
    line.trim_start().starts_with("File \"") && line.contains(", line ")
}

/// `answer@app.js:5:9`.
fn is_place(text: &str) -> bool {
    let Some((_, place)) = text.split_once('@') else { return false };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut parts = place.rsplitn(3, ':');
    let numbers = parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number);
    numbers && parts.next().is_some_and(|file| !file.is_empty() && !file.contains(' '))
}
