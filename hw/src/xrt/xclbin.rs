//! The container that carries a card's circuit and its description (`axlf`, magic `xclbin2`): read
//! without trust, and written for the software FPGA.
//!
//! A file is a header of 456 bytes (8 magic, 40 signature and reserved, 256 keys, 152 header), a
//! table of 40 bytes for each section, and the sections, each at a multiple of 8. All integers are
//! little-endian. What is inside a section is read in [`metadata`].

pub mod metadata;

use metadata::Unit;

/// Larger files are refused: the largest circuits of present cards stay below 150 MB.
pub const FILE_BYTES_MAX: usize = 1 << 30;
/// Files with more sections are refused.
pub const SECTIONS_MAX: usize = 256;

const MAGIC: &[u8; 8] = b"xclbin2\0";
const HEADER_BYTES: usize = 456;
const ENTRY_BYTES: usize = 40;
/// Places of fields, from the start of the file.
const LENGTH_AT: usize = 304;
const VERSION_AT: usize = 328;
const MODE_AT: usize = 332;
const PLATFORM_AT: usize = 352;
const UUID_AT: usize = 416;
const COUNT_AT: usize = 448;
const PLATFORM_BYTES: usize = 64;

/// What is in a section; only those that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bitstream,
    Metadata,
    MemoryTopology,
    Connectivity,
    IpLayout,
    GroupTopology,
    GroupConnectivity,
    Other(u32),
}

impl Kind {
    const NUMBERED: [(Kind, u32); 7] = [
        (Kind::Bitstream, 0),
        (Kind::Metadata, 2),
        (Kind::MemoryTopology, 6),
        (Kind::Connectivity, 7),
        (Kind::IpLayout, 8),
        (Kind::GroupTopology, 26),
        (Kind::GroupConnectivity, 27),
    ];

    fn number(self) -> u32 {
        match self {
            Kind::Other(number) => number,
            kind => Self::NUMBERED.iter().find(|(k, _)| *k == kind).map_or(u32::MAX, |(_, n)| *n),
        }
    }

    fn of(number: u32) -> Self {
        let known = Self::NUMBERED.iter().find(|(_, n)| *n == number);
        known.map_or(Kind::Other(number), |(kind, _)| *kind)
    }
}

/// For what a file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A real card.
    Hardware,
    /// The vendor's simulator of circuits.
    HardwareEmulation,
    /// Code of this machine in place of a circuit.
    SoftwareEmulation,
}

impl Mode {
    const SW_EMU: u16 = 5;

    fn of(number: u16) -> Option<Self> {
        match number {
            0..=3 => Some(Mode::Hardware),
            4 | 6 => Some(Mode::HardwareEmulation),
            Self::SW_EMU => Some(Mode::SoftwareEmulation),
            _ => None,
        }
    }
}

/// A file that was read, or is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xclbin {
    pub mode: Mode,
    /// The platform it was linked for, such as `xilinx_u250_gen3x16_xdma_4_1`.
    pub platform: String,
    pub uuid: [u8; 16],
    pub sections: Vec<(Kind, Vec<u8>)>,
}

/// Why a file is not used. Says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Bad(pub String);

pub type Result<T> = std::result::Result<T, Bad>;

pub(crate) fn bad<T>(what: impl Into<String>) -> Result<T> {
    Err(Bad(what.into()))
}

impl Xclbin {
    /// Reads a file. Whatever the bytes are, it neither panics nor takes more memory than they do.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > FILE_BYTES_MAX {
            return bad(format!("{} bytes, at most {FILE_BYTES_MAX}", bytes.len()));
        }
        if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
            return bad("not an xclbin: it does not begin with \"xclbin2\"");
        }
        let length = u64_at(bytes, LENGTH_AT);
        if length != Some(bytes.len() as u64) {
            return bad(format!("{} bytes where its header says {length:?}", bytes.len()));
        }
        let number = u16_at(bytes, MODE_AT).unwrap_or(u16::MAX);
        let Some(mode) = Mode::of(number) else { return bad(format!("mode {number} is unknown")) };
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[UUID_AT..UUID_AT + 16]);
        let platform = text(&bytes[PLATFORM_AT..PLATFORM_AT + PLATFORM_BYTES]);
        Ok(Self { mode, platform, uuid, sections: sections(bytes)? })
    }

    pub fn section(&self, kind: Kind) -> Option<&[u8]> {
        let found = self.sections.iter().find(|(k, _)| *k == kind);
        found.map(|(_, data)| data.as_slice())
    }

    /// The kernels with their arguments and units, by the description inside.
    pub fn kernels(&self) -> Result<Vec<metadata::Kernel>> {
        let Some(text) = self.section(Kind::Metadata) else {
            return bad("it has no description of its kernels (EMBEDDED_METADATA)");
        };
        metadata::kernels(text)
    }

    /// Bytes of memory that the card has for buffers.
    pub fn memory_bytes(&self) -> u64 {
        let banks = self.section(Kind::MemoryTopology).map(metadata::banks).unwrap_or_default();
        banks.iter().filter(|bank| bank.is_used).map(|bank| bank.bytes).fold(0, u64::saturating_add)
    }

    /// The one group of memory that all buffers of all kernels may lie in. A file that spreads
    /// them is refused: a buffer is made before it is known which kernels will use it.
    pub fn bank(&self) -> Result<u32> {
        let grouped = self.section(Kind::GroupConnectivity);
        let Some(section) = grouped.or(self.section(Kind::Connectivity)) else {
            return bad("it does not say which memory its kernels reach (CONNECTIVITY)");
        };
        let units: Vec<Unit> =
            self.section(Kind::IpLayout).map(metadata::units).unwrap_or_default();
        let connections = metadata::connections(section);
        let Some(first) = connections.first() else { return bad("its kernels reach no memory") };
        let common = |bank: &u32| {
            let per_argument = connections.iter().map(|c| (c.unit, c.argument));
            per_argument
                .into_iter()
                .all(|of| connections.iter().any(|c| (c.unit, c.argument) == of && c.bank == *bank))
        };
        let banks =
            connections.iter().filter(|c| (c.unit, c.argument) == (first.unit, first.argument));
        if let Some(bank) = banks.map(|c| c.bank).find(common) {
            return Ok(bank);
        }
        let other = connections.iter().find(|c| c.bank != first.bank).unwrap_or(first);
        let name = units.get(other.unit as usize).map_or("a unit", |unit| unit.name.as_str());
        bad(format!(
            "argument {} of {name} reaches memory {}, others {}: link all to one (connectivity.sp)",
            other.argument, other.bank, first.bank
        ))
    }

    /// The bytes of the file.
    pub fn write(&self) -> Vec<u8> {
        let table = HEADER_BYTES + ENTRY_BYTES * self.sections.len();
        let mut file = vec![0; table];
        file[..8].copy_from_slice(MAGIC);
        // No signature.
        file[8..40].fill(0xFF);
        file[VERSION_AT + 2] = 2;
        let mode = match self.mode {
            Mode::Hardware => 0,
            Mode::HardwareEmulation => 4,
            Mode::SoftwareEmulation => Mode::SW_EMU,
        };
        file[MODE_AT..MODE_AT + 2].copy_from_slice(&mode.to_le_bytes());
        let name = self.platform.as_bytes();
        let kept = name.len().min(PLATFORM_BYTES - 1);
        file[PLATFORM_AT..PLATFORM_AT + kept].copy_from_slice(&name[..kept]);
        file[UUID_AT..UUID_AT + 16].copy_from_slice(&self.uuid);
        file[COUNT_AT..COUNT_AT + 4].copy_from_slice(&(self.sections.len() as u32).to_le_bytes());
        for (index, (kind, data)) in self.sections.iter().enumerate() {
            file.resize(file.len().next_multiple_of(8), 0);
            let at = HEADER_BYTES + ENTRY_BYTES * index;
            let (offset, size) = (file.len() as u64, data.len() as u64);
            file[at..at + 4].copy_from_slice(&kind.number().to_le_bytes());
            file[at + 24..at + 32].copy_from_slice(&offset.to_le_bytes());
            file[at + 32..at + 40].copy_from_slice(&size.to_le_bytes());
            file.extend_from_slice(data);
        }
        let length = file.len() as u64;
        file[LENGTH_AT..LENGTH_AT + 8].copy_from_slice(&length.to_le_bytes());
        file
    }
}

fn sections(bytes: &[u8]) -> Result<Vec<(Kind, Vec<u8>)>> {
    let count = u32_at(bytes, COUNT_AT).unwrap_or(0) as usize;
    if count > SECTIONS_MAX || HEADER_BYTES + ENTRY_BYTES * count > bytes.len() {
        return bad(format!("{count} sections do not fit"));
    }
    let (mut sections, mut total) = (Vec::new(), 0);
    for index in 0..count {
        let entry = &bytes[HEADER_BYTES + ENTRY_BYTES * index..][..ENTRY_BYTES];
        let (offset, size) = (u64_at(entry, 24), u64_at(entry, 32));
        let range = offset.zip(size).and_then(|(offset, size)| {
            Some(usize::try_from(offset).ok()?..usize::try_from(offset.checked_add(size)?).ok()?)
        });
        let Some(data) = range.and_then(|range| bytes.get(range)) else {
            return bad(format!("section {index} passes the end of the file"));
        };
        // Sections that lie over each other would make a small file a large one.
        total += data.len();
        if total > bytes.len() {
            return bad(format!("section {index} lies over another one"));
        }
        sections.push((Kind::of(u32_at(entry, 0).unwrap_or(u32::MAX)), data.to_vec()));
    }
    Ok(sections)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(part.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(part.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let part = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(part.try_into().ok()?))
}

/// Text up to the first zero.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests;
