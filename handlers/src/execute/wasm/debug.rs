//! Where in its source a guest broke down. The engine tells each frame of a stack by its place in
//! the component; what a compiler wrote into that for debuggers (DWARF 5, in WebAssembly by its
//! tool conventions: addresses count from the beginning of a module's code) tells file and line. It
//! is read when a guest has broken down, never to run one, beside the guests and within limits:
//! whoever made the component made it. What cannot be read is left out.

use std::collections::HashMap;
use std::io::{BufReader, Error, ErrorKind, Read, Result, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use addr2line::gimli::{self, Dwarf, EndianSlice, LittleEndian};

use super::compile::Installer;
use super::model::{PREAMBLE_BYTES, bytes, length};
use crate::Digest;
use crate::execute::{InvokeError, Target};
use crate::manifest::CodeKind;

/// A component of more modules is an interpreter, whose modules are worth more joined.
const MODULES_MAX: usize = 8;
/// Components in components that are looked into, that deep.
const DEPTH_MAX: u32 = 3;
/// What is read of one module, and how much of that may be its lines: each takes 24 bytes.
const BYTES_MAX: u64 = 16 << 20;
const LINES_BYTES_MAX: u64 = 4 << 20;
/// How many units of a language there may be.
const UNITS_MAX: usize = 10_000;
/// A frame of the machine may be that many of the source, one inlined in another.
const INLINED_MAX: usize = 16;
/// How long somebody waits for lines, and how many stacks are looked at side by side.
const PATIENCE: Duration = Duration::from_millis(500);
pub(super) const AT_ONCE: usize = 2;

/// Sections of a component, and kinds of them (core and component model, binary formats).
const CUSTOM: u8 = 0;
const CODE: u8 = 10;
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;
/// What is read of a section's name: all that have lines in them are shorter.
const NAME_BYTES_MAX: u32 = 32;

type Sections = HashMap<&'static str, Range<u64>>;

/// A module with what is there for debuggers; all places are those in the component.
#[derive(Debug, Default, PartialEq)]
struct Module {
    whole: Range<u64>,
    code: u64,
    sections: Sections,
}

impl Installer {
    /// The error with files and lines in its stack, as far as a component and this node have them.
    pub(in crate::execute) async fn with_lines(
        &self,
        target: &Target,
        error: InvokeError,
    ) -> InvokeError {
        match error {
            InvokeError::GuestTrap { message, backtrace }
                if target.kind == CodeKind::Component && !backtrace.is_empty() =>
            {
                let backtrace = self.lined(&target.digest, backtrace).await;
                InvokeError::GuestTrap { message, backtrace }
            }
            error => error,
        }
    }

    async fn lined(&self, digest: &Digest, stack: String) -> String {
        let Some(source) = self.cache.source_file(digest) else { return stack };
        let (turns, bare) = (Arc::clone(&self.debugging), stack.clone());
        let work = async move {
            let turn = turns.acquire_owned().await.ok()?;
            let work = move || {
                let _turn = turn;
                with_lines(source, &bare)
            };
            tokio::task::spawn_blocking(work).await.ok()?
        };
        let lines = tokio::time::timeout(PATIENCE, work).await.ok().flatten();
        lines.unwrap_or(stack)
    }
}

/// Whether places in the component can be told as lines. It is compiled as it is then: places in
/// what is made of it would be others.
#[cfg(any(feature = "compiler", test))]
pub(super) fn has_lines(component: impl Read + Seek) -> bool {
    modules(component).is_ok_and(|modules| !modules.is_empty())
}

fn with_lines(mut component: impl Read + Seek, stack: &str) -> Option<String> {
    let modules = modules(&mut component).ok()?;
    let mut lines = HashMap::new();
    for module in modules {
        let is_in = |place: &u64| module.whole.contains(place) && *place >= module.code;
        let places: Vec<u64> = stack.lines().filter_map(place).filter(is_in).collect();
        if places.is_empty() {
            continue;
        }
        // What is damaged in one module says nothing of another.
        if let Ok(sections) = module.read(&mut component) {
            let _ = find(&sections, module.code, &places, &mut lines);
        }
    }
    let mut text = String::new();
    for line in stack.lines() {
        text += line;
        text.push('\n');
        let found = place(line).and_then(|place| lines.get(&place));
        text.extend(found.map(String::as_str));
    }
    Some(text)
}

/// The place that the engine's line names: `  0:   0x1f2e - guest.wasm!handle`.
fn place(line: &str) -> Option<u64> {
    let (number, rest) = line.trim_start().split_once(':')?;
    number.parse::<u32>().ok()?;
    let (place, _) = rest.trim_start().strip_prefix("0x")?.split_once(" - ")?;
    u64::from_str_radix(place, 16).ok()
}

/// Adds the lines of places, the innermost first.
fn find(
    sections: &HashMap<&str, Vec<u8>>,
    code: u64,
    places: &[u64],
    lines: &mut HashMap<u64, String>,
) -> std::result::Result<(), gimli::Error> {
    let dwarf = Dwarf::load(|section| {
        let bytes = sections.get(section.name()).map_or(&[][..], Vec::as_slice);
        Ok::<_, gimli::Error>(EndianSlice::new(bytes, LittleEndian))
    })?;
    let context = addr2line::Context::from_dwarf(dwarf)?;
    for place in places {
        let mut frames = context.find_frames(place - code).skip_all_loads()?;
        let mut text = String::new();
        for _ in 0..INLINED_MAX {
            let Some(frame) = frames.next()? else { break };
            let Some(location) = frame.location else { continue };
            let (Some(file), Some(line)) = (location.file, location.line) else { continue };
            text += &format!("         at {file}:{line}");
            text += &location.column.map(|column| format!(":{column}")).unwrap_or_default();
            text.push('\n');
        }
        lines.insert(*place, text);
    }
    Ok(())
}

impl Module {
    fn has_lines(&self) -> bool {
        let bytes = |section: &Range<u64>| section.end - section.start;
        let whole: u64 = self.sections.values().map(bytes).sum();
        let has = |name| self.sections.get(name).map(bytes).is_some_and(|bytes| bytes > 0);
        let lines = self.sections.get(".debug_line").map(bytes).unwrap_or_default();
        has(".debug_info") && lines > 0 && lines <= LINES_BYTES_MAX && whole <= BYTES_MAX
    }

    fn read(&self, component: &mut (impl Read + Seek)) -> Result<HashMap<&'static str, Vec<u8>>> {
        let mut read = HashMap::new();
        for (name, section) in &self.sections {
            component.seek(SeekFrom::Start(section.start))?;
            let mut bytes = Vec::new();
            component.by_ref().take(section.end - section.start).read_to_end(&mut bytes)?;
            read.insert(*name, bytes);
        }
        match units(read.get(".debug_info").map_or(&[][..], Vec::as_slice)) {
            ..=UNITS_MAX => Ok(read),
            _ => Err(Error::other("too many units")),
        }
    }
}

/// How many units there are, each of which begins with its length; or one more than may be.
fn units(mut info: &[u8]) -> usize {
    let mut count = 0;
    while let Some((length, rest)) = info.split_first_chunk()
        && count <= UNITS_MAX
    {
        info = rest.get(u32::from_le_bytes(*length) as usize..).unwrap_or_default();
        count += 1;
    }
    count
}

/// The modules that have lines; none where there are too many modules.
fn modules(component: impl Read + Seek) -> Result<Vec<Module>> {
    let (mut from, mut found) = (BufReader::new(component), vec![]);
    let end = from.seek(SeekFrom::End(0))?;
    from.seek(SeekFrom::Start(0))?;
    let mut count = 0;
    look_into(&mut from, 0..end, 0, &mut count, &mut found)?;
    found.retain(Module::has_lines);
    Ok(found)
}

fn look_into(
    from: &mut BufReader<impl Read + Seek>,
    component: Range<u64>,
    depth: u32,
    count: &mut usize,
    found: &mut Vec<Module>,
) -> Result<()> {
    each_section(from, component, |from, id, section| match id {
        CORE_MODULE => {
            *count += 1;
            if *count > MODULES_MAX {
                return Err(Error::new(ErrorKind::FileTooLarge, "too many modules"));
            }
            found.push(module(from, section)?);
            Ok(())
        }
        COMPONENT if depth < DEPTH_MAX => look_into(from, section, depth + 1, count, found),
        _ => Ok(()),
    })
}

fn module(from: &mut BufReader<impl Read + Seek>, whole: Range<u64>) -> Result<Module> {
    let mut module = Module { whole: whole.clone(), ..Module::default() };
    each_section(from, whole, |from, id, section| {
        match id {
            CODE => module.code = section.start,
            CUSTOM => {
                let length = length(from)?;
                if length <= NAME_BYTES_MAX {
                    let mut name = vec![0; length as usize];
                    from.read_exact(&mut name)?;
                    if let Some(name) = NAMES.into_iter().find(|known| known.as_bytes() == name) {
                        let start = from.stream_position()?.min(section.end);
                        module.sections.insert(name, start..section.end);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(module)
}

/// What is read to find lines.
const NAMES: [&str; 9] = [
    ".debug_abbrev",
    ".debug_addr",
    ".debug_info",
    ".debug_line",
    ".debug_line_str",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_str",
    ".debug_str_offsets",
];

/// Gives each section of a module or component, which may be read from where it begins.
fn each_section<R: Read + Seek>(
    from: &mut BufReader<R>,
    within: Range<u64>,
    mut each: impl FnMut(&mut BufReader<R>, u8, Range<u64>) -> Result<()>,
) -> Result<()> {
    let mut at = within.start + PREAMBLE_BYTES as u64;
    while at < within.end {
        // Within what it has read already, if it can.
        let now = from.stream_position()?;
        from.seek_relative(at as i64 - now as i64)?;
        let [id] = bytes(from)?;
        let length = length(from)?;
        let start = from.stream_position()?;
        at = start + u64::from(length);
        if at > within.end {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        each(from, id, start..at)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
