//! What the sections of an xclbin say: kernels with their registers, units, memories and who
//! reaches which. Readers leave out what makes no sense; nothing here panics on any bytes.

use super::{Bad, Kind, Mode, Result, Xclbin, bad, text, u32_at, u64_at};
use crate::command::Param;

/// Longer descriptions are refused.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// More kernels, arguments of one kernel, units, memories or connections are not read.
pub const ENTRIES_MAX: usize = 4096;

const BANK_BYTES: usize = 40;
const CONNECTION_BYTES: usize = 12;
const UNIT_BYTES: usize = 80;
const UNIT_NAME_BYTES: usize = 64;
/// A unit that runs a kernel, in the layout of units.
const IP_KERNEL: u32 = 1;
const MEM_DDR4: u8 = 1;

/// Where the registers of the first unit lie, and the room of each.
const UNITS_BASE: u64 = 0x180_0000;
const UNIT_RANGE: u64 = 0x1_0000;
/// Registers before the arguments: control and interrupts.
const ARGUMENTS_AT: u64 = 0x10;

/// A kernel of a circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    pub name: String,
    pub arguments: Vec<Argument>,
    /// Its units, by name, with the address of their registers.
    pub units: Vec<(String, u64)>,
}

/// An argument of a kernel, in a register of its units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    pub name: String,
    /// An address in the card's memory, not a number.
    pub is_buffer: bool,
    /// Bytes from the start of the unit's registers.
    pub offset: u64,
    pub bytes: u64,
}

impl Kernel {
    /// Whether it takes these parameters, in this order.
    pub fn takes(&self, params: &[Param]) -> bool {
        let is_buffer = |param: &Param| !matches!(param, Param::U32(_));
        let given = params.iter().map(is_buffer);
        given.eq(self.arguments.iter().map(|argument| argument.is_buffer))
    }
}

/// A memory of the card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bank {
    pub is_used: bool,
    pub bytes: u64,
}

/// A unit in the layout of the circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
}

/// An argument of a unit that reaches a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    pub argument: u32,
    pub unit: u32,
    pub bank: u32,
}

/// The memories of a topology section.
pub fn banks(section: &[u8]) -> Vec<Bank> {
    let bank = |entry: &[u8]| Bank {
        is_used: entry[1] != 0,
        bytes: u64_at(entry, 8).unwrap_or(0).saturating_mul(1024),
    };
    entries(section, 8, BANK_BYTES).map(bank).collect()
}

/// The units of a layout section, in order.
pub fn units(section: &[u8]) -> Vec<Unit> {
    let unit = |entry: &[u8]| Unit { name: text(&entry[16..16 + UNIT_NAME_BYTES]) };
    entries(section, 8, UNIT_BYTES).map(unit).collect()
}

/// The connections of a connectivity section.
pub fn connections(section: &[u8]) -> Vec<Connection> {
    let connection = |entry: &[u8]| {
        let [argument, unit, bank] = [0, 4, 8].map(|at| u32_at(entry, at).unwrap_or(u32::MAX));
        Connection { argument, unit, bank }
    };
    entries(section, 4, CONNECTION_BYTES).map(connection).collect()
}

/// The whole entries after a count.
fn entries(section: &[u8], header: usize, size: usize) -> impl Iterator<Item = &[u8]> {
    let count = u32_at(section, 0).unwrap_or(0) as usize;
    let body = section.get(header..).unwrap_or_default();
    body.chunks_exact(size).take(count.min(ENTRIES_MAX))
}

/// The kernels of a description in XML.
pub fn kernels(xml: &[u8]) -> Result<Vec<Kernel>> {
    if xml.len() > TEXT_BYTES_MAX {
        return bad(format!("a description of {} bytes, at most {TEXT_BYTES_MAX}", xml.len()));
    }
    let xml = String::from_utf8_lossy(xml);
    let mut found: Vec<Kernel> = Vec::new();
    let mut is_inside = false;
    for tag in tags(&xml) {
        match (tag.name, found.last_mut()) {
            ("kernel", _) => {
                let name = tag.attribute("name").ok_or(Bad("a kernel has no name".into()))?;
                found.push(Kernel { name, arguments: Vec::new(), units: Vec::new() });
                is_inside = true;
            }
            ("/kernel", _) => is_inside = false,
            ("arg", Some(kernel)) if is_inside => kernel.arguments.push(argument(&tag)?),
            ("instance", Some(kernel)) if is_inside => {
                kernel.units.push((tag.attribute("name").unwrap_or_default(), 0));
            }
            ("addrRemap", Some(kernel)) if is_inside => {
                let base = tag.number("base").unwrap_or(0);
                if let Some(unit) = kernel.units.last_mut() {
                    unit.1 = base;
                }
            }
            _ => {}
        }
        let last = found.last().map_or(0, |k| k.arguments.len().max(k.units.len()));
        if found.len().max(last) > ENTRIES_MAX {
            return bad(format!("more than {ENTRIES_MAX} kernels, arguments or units"));
        }
    }
    Ok(found)
}

fn argument(tag: &Tag<'_>) -> Result<Argument> {
    let name = tag.attribute("name").unwrap_or_default();
    let (offset, bytes) = (tag.number("offset"), tag.number("size"));
    let (Some(offset), Some(bytes)) = (offset, bytes) else {
        return bad(format!("argument {name:?} has no offset or size"));
    };
    // 0 a number, 1 memory, 3 constant memory; 4 is a stream, which nobody here feeds.
    let is_buffer = match tag.attribute("addressQualifier").as_deref() {
        Some("0") => false,
        Some("1" | "3") => true,
        other => return bad(format!("argument {name:?} is of kind {other:?}")),
    };
    Ok(Argument { name, is_buffer, offset, bytes })
}

struct Tag<'a> {
    name: &'a str,
    rest: &'a str,
}

impl Tag<'_> {
    fn attribute(&self, name: &str) -> Option<String> {
        let mut rest = self.rest;
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = after.trim_start().strip_prefix('"')?.split_once('"')?;
            if key.trim() == name {
                return Some(value.to_string());
            }
            rest = after;
        }
        None
    }

    /// A number in hexadecimal with `0x`, or decimal.
    fn number(&self, name: &str) -> Option<u64> {
        let value = self.attribute(name)?;
        match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        }
    }
}

fn tags(xml: &str) -> impl Iterator<Item = Tag<'_>> {
    let inside = xml.split('<').skip(1).filter_map(|part| part.split('>').next());
    inside.map(|tag| {
        let end = tag.find(|c: char| c.is_whitespace()).unwrap_or(tag.len());
        let (name, rest) = tag.split_at(end);
        Tag { name: name.trim_end_matches('/'), rest: rest.trim_end_matches('/') }
    })
}

/// A kernel that an image for software emulation has.
#[derive(Debug, Clone)]
pub struct Described<'a> {
    pub name: &'a str,
    pub params: &'a [Param],
}

/// An image for the software FPGA: one unit for each kernel, one memory of this size, and a library
/// of this machine in place of the circuit.
pub fn image(kernels: &[Described<'_>], memory_bytes: u64, library: Vec<u8>) -> Xclbin {
    use sha2::{Digest, Sha256};
    let description = describe(kernels);
    let hash = Sha256::new().chain_update(&description).chain_update(&library).finalize();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash[..16]);
    let memory = memory(memory_bytes);
    let connections = connect(kernels);
    let sections = vec![
        (Kind::Metadata, description.into_bytes()),
        (Kind::Bitstream, library),
        (Kind::MemoryTopology, memory.clone()),
        (Kind::GroupTopology, memory),
        (Kind::Connectivity, connections.clone()),
        (Kind::GroupConnectivity, connections),
        (Kind::IpLayout, layout(kernels)),
    ];
    let platform = "edgescale_software_fpga_1".to_string();
    Xclbin { mode: Mode::SoftwareEmulation, platform, uuid, sections }
}

/// Registers as HLS lays them out: an address takes 12 bytes, a number 8.
fn registers(params: &[Param]) -> impl Iterator<Item = (&Param, bool, u64)> {
    let mut next = ARGUMENTS_AT;
    params.iter().map(move |param| {
        let (is_buffer, at) = (!matches!(param, Param::U32(_)), next);
        next += if is_buffer { 12 } else { 8 };
        (param, is_buffer, at)
    })
}

fn describe(kernels: &[Described<'_>]) -> String {
    let mut inside = String::new();
    for (index, kernel) in kernels.iter().enumerate() {
        let name = kernel.name;
        inside += &format!(
            "<kernel name=\"{name}\" language=\"c\" hwControlProtocol=\"ap_ctrl_hs\">\n\
             <port name=\"M_AXI_GMEM\" mode=\"master\" range=\"0xFFFFFFFFFFFFFFFF\" \
             dataWidth=\"64\" portType=\"addressable\" base=\"0x0\"/>\n\
             <port name=\"S_AXI_CONTROL\" mode=\"slave\" range=\"{UNIT_RANGE:#x}\" \
             dataWidth=\"32\" portType=\"addressable\" base=\"0x0\"/>\n"
        );
        for (id, (param, is_buffer, offset)) in registers(kernel.params).enumerate() {
            let (qualifier, port, size, kind) = match is_buffer {
                true => (1, "M_AXI_GMEM", 8, "void*"),
                false => (0, "S_AXI_CONTROL", 4, "unsigned int"),
            };
            inside += &format!(
                "<arg name=\"{}\" addressQualifier=\"{qualifier}\" id=\"{id}\" port=\"{port}\" \
                 size=\"{size:#x}\" offset=\"{offset:#x}\" hostOffset=\"0x0\" \
                 hostSize=\"{size:#x}\" type=\"{kind}\"/>\n",
                param.name()
            );
        }
        inside += &format!(
            "<instance name=\"{name}_1\"><addrRemap base=\"{:#x}\" range=\"{UNIT_RANGE:#x}\" \
             port=\"S_AXI_CONTROL\"/></instance>\n</kernel>\n",
            unit_base(index)
        );
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<project name=\"edgescale\">\n\
         <platform vendor=\"edgescale\" boardid=\"software\" name=\"fpga\" featureRomTime=\"0\">\n\
         <version major=\"1\" minor=\"0\"/>\n<device name=\"fpga0\" fpgaDevice=\"software\">\n\
         <core name=\"OCL_REGION_0\" target=\"csim\" type=\"clc_region\" clockFreq=\"300MHz\">\n\
         {inside}</core>\n</device>\n</platform>\n</project>\n"
    )
}

fn unit_base(index: usize) -> u64 {
    UNITS_BASE + UNIT_RANGE * index as u64
}

fn memory(bytes: u64) -> Vec<u8> {
    let mut section = counted(1, 8);
    let mut bank = [0; BANK_BYTES];
    (bank[0], bank[1]) = (MEM_DDR4, 1);
    bank[8..16].copy_from_slice(&(bytes / 1024).to_le_bytes());
    bank[24..31].copy_from_slice(b"DDR[0]\0");
    section.extend_from_slice(&bank);
    section
}

fn connect(kernels: &[Described<'_>]) -> Vec<u8> {
    let mut all = Vec::new();
    for (unit, kernel) in kernels.iter().enumerate() {
        let buffers =
            registers(kernel.params).enumerate().filter(|(_, (_, is_buffer, _))| *is_buffer);
        all.extend(buffers.map(|(argument, _)| [argument as u32, unit as u32, 0]));
    }
    let mut section = counted(all.len(), 4);
    section.extend(all.iter().flatten().flat_map(|number| number.to_le_bytes()));
    section
}

fn layout(kernels: &[Described<'_>]) -> Vec<u8> {
    let mut section = counted(kernels.len(), 8);
    for (index, kernel) in kernels.iter().enumerate() {
        let mut unit = [0; UNIT_BYTES];
        unit[..4].copy_from_slice(&IP_KERNEL.to_le_bytes());
        unit[8..16].copy_from_slice(&unit_base(index).to_le_bytes());
        let name = format!("{0}:{0}_1", kernel.name);
        let kept = name.len().min(UNIT_NAME_BYTES - 1);
        unit[16..16 + kept].copy_from_slice(&name.as_bytes()[..kept]);
        section.extend_from_slice(&unit);
    }
    section
}

/// The count of a section, padded to where its entries begin.
fn counted(count: usize, header: usize) -> Vec<u8> {
    let mut section = (count as u32).to_le_bytes().to_vec();
    section.resize(header, 0);
    section
}
