//! How a component's functions are called: one after the other, as in WASI 0.2, or concurrently, as
//! WASI 0.3 wants it. Its own imports and exports say which; nothing else of it is read.

use std::io::{self, BufRead, BufReader, Read, Seek};

use wasmparser::{BinaryReader, ComponentExportSectionReader, ComponentImportSectionReader};

/// What an engine has to be able to do for a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Model {
    /// One call at a time.
    Serial,
    /// Calls that wait for each other, streams and futures. Each event costs more.
    Concurrent,
}

/// Bytes before the first section.
pub(super) const PREAMBLE_BYTES: i64 = 8;
/// Sections that hold names (component model, binary format).
const IMPORTS: u8 = 10;
const EXPORTS: u8 = 11;

impl Model {
    /// The model of a component. What cannot be read is for the compiler to refuse.
    pub(super) fn of(component: impl Read + Seek) -> Self {
        match speaks_03(BufReader::new(component)) {
            Ok(true) => Self::Concurrent,
            Ok(false) | Err(_) => Self::Serial,
        }
    }
}

/// Whether an import or export is one of WASI 0.3.
fn speaks_03(mut component: BufReader<impl Read + Seek>) -> io::Result<bool> {
    component.seek_relative(PREAMBLE_BYTES)?;
    let mut section = Vec::new();
    while !component.fill_buf()?.is_empty() {
        let [id] = bytes(&mut component)?;
        let len = length(&mut component)?;
        if id != IMPORTS && id != EXPORTS {
            // Code, mostly: it is not read.
            component.seek_relative(len.into())?;
            continue;
        }
        section.clear();
        component.by_ref().take(len.into()).read_to_end(&mut section)?;
        if names_03(id, &section).map_err(io::Error::other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn names_03(id: u8, section: &[u8]) -> wasmparser::Result<bool> {
    let from = BinaryReader::new(section, 0);
    if id == IMPORTS {
        for import in ComponentImportSectionReader::new(from)? {
            if is_03(import?.name.name) {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    for export in ComponentExportSectionReader::new(from)? {
        if is_03(export?.name.name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `wasi:http/handler@0.3.0` is one.
fn is_03(name: &str) -> bool {
    let version = name.strip_prefix("wasi:").and_then(|name| name.split_once('@'));
    version.is_some_and(|(_, version)| version.starts_with("0.3."))
}

pub(super) fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A number of 32 bits in LEB128.
pub(super) fn length(from: &mut impl Read) -> io::Result<u32> {
    let mut length = 0u64;
    for shift in (0..35).step_by(7) {
        let [byte] = bytes(from)?;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(length).map_err(io::Error::other);
        }
    }
    Err(io::Error::other("a length of more than 32 bits"))
}

#[cfg(test)]
mod tests;
