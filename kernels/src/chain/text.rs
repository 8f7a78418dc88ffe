//! The kernel of a chain as text, in what OpenCL C and CUDA C++ share (see the preludes in `hw`).
//!
//! One group per row; every integer of the launches is an argument, so that chains which differ in
//! sizes or levels are one kernel. Steps between bytes and which row is halved stand in the text.

use std::sync::Arc;

use hw::{Arg, BufferId, Chain, Grid, Kernel, Launch, Param, Written};

use super::wiring::{Input, Made, Spot, Value, Wiring};
use super::{BUFFERS_MAX, End, SCALARS_MAX};
use crate::pointwise::{Area, Track, function_text};

/// Bytes of a row that is cut from a flat area.
const PIECE: u32 = 4096;
/// Integers that say how large an area is.
pub(super) const AREA_SCALARS: usize = 3;
/// Bytes of a pixel lie less than this apart, and share a pointer.
const APART_MAX: u32 = 8;

/// Names of buffers in texts and in messages.
const NAMES: [&str; BUFFERS_MAX] = ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"];

/// A row of a buffer that several spots lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pointer {
    buffer: BufferId,
    track: Track,
}

impl Pointer {
    fn holds(&self, spot: &Spot) -> bool {
        let same = Track { offset: spot.track.offset, ..self.track } == spot.track;
        let after = spot.track.offset.checked_sub(self.track.offset);
        let near =
            after.is_some_and(|after| after == 0 || after < APART_MAX && self.track.step > 0);
        self.buffer == spot.buffer && same && near
    }
}

/// The rows that spots lie in.
pub(super) fn pointers(spots: &[Spot]) -> Vec<Pointer> {
    let mut order: Vec<&Spot> = spots.iter().collect();
    order.sort_by_key(|spot| spot.track.offset);
    let mut pointers: Vec<Pointer> = Vec::new();
    for spot in order {
        if !pointers.iter().any(|pointer| pointer.holds(spot)) {
            pointers.push(Pointer { buffer: spot.buffer, track: spot.track });
        }
    }
    // By the spots, not by where they lie: two pictures may lie in either order.
    let first = |pointer: &Pointer| spots.iter().position(|spot| pointer.holds(spot));
    pointers.sort_by_key(first);
    pointers
}

/// The chain of launches over an area. The wiring fits and writes something.
pub(super) fn chain(wiring: &Wiring, area: Area, launches: Vec<Launch>) -> Chain {
    let (rows, count) = rows(area);
    let mut page = Page::new(&wiring.values, &wiring.stores, area);
    page.numbers.extend(rows);
    page.rows();
    page.values();
    page.stores();
    let (params, args) = page.params();
    let (list, head, body) = (page.list(), &page.head, &page.body);
    // The first three numbers: width, height, width of the last row.
    let text = format!(
        "{}KERNEL void @({list})\n{{\n    uint y = ROW;\n    if (y >= n1)\n        return;\n\
         {head}    uint count = y + 1 == n1 ? n2 : n0;\n    COLUMNS(x, count) {{\n{body}    \
         }}\n}}\n",
        page.functions()
    );
    let kernel = Arc::new(Written::new(params, &text));
    let grid = Grid::Rows(count as usize);
    Chain { launches, kernel, args, grid, repeats: false }
}

/// The same where the last launch has its plane made by the others.
pub(super) fn ending(wiring: &Wiring, area: Area, end: &End<'_>, launches: Vec<Launch>) -> Chain {
    let mut page = Page::new(&wiring.values, &[], area);
    page.rows();
    page.values();
    let (given, given_args) = page.params();
    let (list, names, head, body) = (page.list(), page.names(), &page.head, &page.body);
    let value = wiring.stores.first().map_or(0, |(_, value)| *value);
    let Kernel { stem, opencl, .. } = end.launch.kernel;
    let own = function_text(opencl, stem).unwrap_or_default();
    let own = own.replacen(&format!(" {stem}("), " @(", 1);
    let text = format!(
        "{}FN uchar @_at({list}, uint x, uint y)\n{{\n{head}{body}    return v{value};\n}}\n\
         #undef PLANE\n#undef AT\n#define PLANE {list}\n#define AT(x, y) @_at({names}, x, y)\n\
         {own}",
        page.functions()
    );
    let (mut params, mut args, mut buffers) = (Vec::new(), Vec::new(), 0);
    for (param, arg) in end.launch.kernel.params.iter().zip(&end.launch.args) {
        if arg.buffer().is_some() && buffers == end.number {
            params.extend(&given);
            args.extend(&given_args);
        } else {
            params.push(*param);
            args.push(*arg);
        }
        buffers += usize::from(arg.buffer().is_some());
    }
    let kernel = Arc::new(Written::new(params, &text));
    Chain { launches, kernel, args, grid: end.launch.grid, repeats: end.times > 1 }
}

/// Width, height and the width of the last row; and how many rows there are.
fn rows(area: Area) -> ([u32; AREA_SCALARS], u32) {
    let Area { width, height, is_flat } = area;
    if !is_flat {
        return ([width, height, width], height);
    }
    let count = width.div_ceil(PIECE);
    ([PIECE, count, width - (count - 1) * PIECE], count)
}

/// A kernel that is being written.
struct Page<'a> {
    made: &'a [Made],
    stores: &'a [(Spot, Value)],
    is_flat: bool,
    buffers: Vec<BufferId>,
    pointers: Vec<Pointer>,
    /// Arguments of the pointers and the area, then of launches, with which launch's they are.
    numbers: Vec<u32>,
    scalars: Vec<((usize, usize), u32)>,
    functions: Vec<(&'static str, &'static str)>,
    /// Before the loop, and in it.
    head: String,
    body: String,
}

impl<'a> Page<'a> {
    fn new(made: &'a [Made], stores: &'a [(Spot, Value)], area: Area) -> Self {
        let (mut spots, mut tables) = (Vec::new(), Vec::new());
        for made in made {
            match made {
                Made::Load(spot) => spots.push(*spot),
                Made::Call { operands, .. } => {
                    tables.extend(operands.iter().filter_map(|operand| match operand {
                        Input::Table(buffer) => Some(*buffer),
                        _ => None,
                    }));
                }
            }
        }
        spots.extend(stores.iter().map(|(spot, _)| *spot));
        let mut buffers: Vec<BufferId> = Vec::new();
        for buffer in spots.iter().map(|spot| spot.buffer).chain(tables) {
            if !buffers.contains(&buffer) {
                buffers.push(buffer);
            }
        }
        Self {
            made,
            stores,
            is_flat: area.is_flat,
            buffers,
            pointers: pointers(&spots),
            numbers: Vec::new(),
            scalars: Vec::new(),
            functions: Vec::new(),
            head: String::new(),
            body: String::new(),
        }
    }

    fn buffer(&self, buffer: BufferId) -> &'static str {
        self.buffers.iter().position(|own| *own == buffer).map_or("", |at| NAMES[at])
    }

    fn is_written(&self, buffer: BufferId) -> bool {
        self.stores.iter().any(|(spot, _)| spot.buffer == buffer)
    }

    fn is_read(&self, buffer: BufferId) -> bool {
        self.made.iter().any(|made| match made {
            Made::Load(spot) => spot.buffer == buffer,
            Made::Call { operands, .. } => operands.contains(&Input::Table(buffer)),
        })
    }

    /// A pointer to the present row of each buffer's part.
    fn rows(&mut self) {
        for (number, Pointer { buffer, track }) in self.pointers.clone().into_iter().enumerate() {
            let constant = if self.is_written(buffer) { "" } else { "const " };
            let name = self.buffer(buffer);
            let (offset, stride) = (self.numbers.len(), self.numbers.len() + 1);
            let y = if track.halved[1] { "(y >> 1)" } else { "y" };
            let sign = if track.stride < 0 { '-' } else { '+' };
            let line = format!(
                "    GLOBAL {constant}uchar *p{number} = \
                 {name} + n{offset} {sign} (size_t){y} * n{stride};\n"
            );
            self.head.push_str(&line);
            // A row of what is flat follows the one before.
            let across = track.step.unsigned_abs() * PIECE;
            let stride = if self.is_flat { across } else { track.stride.unsigned_abs() };
            self.numbers.extend([track.offset, stride]);
        }
    }

    fn values(&mut self) {
        for (number, made) in self.made.iter().enumerate() {
            let value = match made {
                Made::Load(spot) => self.place(spot),
                Made::Call { function, source, operands } => {
                    let operands: Vec<String> = operands.iter().map(|o| self.input(o)).collect();
                    let operands = operands.join(", ");
                    match function {
                        Some(function) => {
                            if !self.functions.iter().any(|(known, _)| known == function) {
                                self.functions.push((function, source));
                            }
                            format!("{function}({operands})")
                        }
                        None => format!("(uchar){operands}"),
                    }
                }
            };
            let line = format!("        uchar v{number} = {value};\n");
            self.body.push_str(&line);
        }
    }

    fn stores(&mut self) {
        for (spot, value) in self.stores {
            let line = format!("        {} = v{value};\n", self.place(spot));
            self.body.push_str(&line);
        }
    }

    fn input(&mut self, input: &Input) -> String {
        match *input {
            Input::Value(value) => format!("v{value}"),
            Input::Table(buffer) => self.buffer(buffer).to_string(),
            Input::Number(number) => format!("{number}u"),
            Input::Scalar { of, number } => {
                let known = self.scalars.iter().position(|(known, _)| *known == of);
                let at = known.unwrap_or_else(|| {
                    self.scalars.push((of, number));
                    self.scalars.len() - 1
                });
                format!("s{at}")
            }
        }
    }

    /// The byte of a spot at the present place.
    fn place(&self, spot: &Spot) -> String {
        let number = self.pointers.iter().position(|pointer| pointer.holds(spot)).unwrap_or(0);
        let Pointer { track, .. } = self.pointers[number];
        let mut x = if track.halved[0] { "x / 2".to_string() } else { "x".to_string() };
        if track.step.unsigned_abs() != 1 {
            x = format!("{x} * {}", track.step.unsigned_abs());
        }
        match spot.track.offset - track.offset {
            _ if track.step < 0 => format!("*(p{number} - {x})"),
            0 => format!("p{number}[{x}]"),
            after => format!("p{number}[{x} + {after}]"),
        }
    }

    fn params(&self) -> (Vec<Param>, Vec<Arg>) {
        let kind = |buffer: BufferId| match (self.is_read(buffer), self.is_written(buffer)) {
            (_, false) => Param::In(self.buffer(buffer)),
            (false, true) => Param::Out(self.buffer(buffer)),
            (true, true) => Param::InOut(self.buffer(buffer)),
        };
        let scalars = self.scalars.iter().map(|(_, number)| *number);
        let numbers: Vec<u32> = self.numbers.iter().copied().chain(scalars).collect();
        let mut params: Vec<Param> = self.buffers.iter().copied().map(kind).collect();
        params.extend(numbers.iter().map(|_| Param::U32("number")));
        let buffers = self.buffers.iter().copied().map(Arg::Buffer);
        (params, buffers.chain(numbers.into_iter().map(Arg::U32)).collect())
    }

    /// The functions that are called.
    fn functions(&self) -> String {
        let texts = self.functions.iter();
        texts.map(|(name, source)| function_text(source, name).unwrap_or_default()).collect()
    }

    /// The parameters as text.
    fn list(&self) -> String {
        let buffer = |buffer: &BufferId| {
            let constant = if self.is_written(*buffer) { "" } else { "const " };
            format!("GLOBAL {constant}uchar *restrict {}", self.buffer(*buffer))
        };
        let numbers = self.number_names().map(|name| format!("uint {name}"));
        self.buffers.iter().map(buffer).chain(numbers).collect::<Vec<_>>().join(", ")
    }

    /// Their names.
    fn names(&self) -> String {
        let buffers = self.buffers.iter().map(|buffer| self.buffer(*buffer).to_string());
        buffers.chain(self.number_names()).collect::<Vec<_>>().join(", ")
    }

    fn number_names(&self) -> impl Iterator<Item = String> {
        let numbers = (0..self.numbers.len()).map(|number| format!("n{number}"));
        numbers.chain((0..self.scalars.len()).map(|number| format!("s{number}")))
    }
}

const _: () = assert!(8 * BUFFERS_MAX + 4 * SCALARS_MAX <= 256);
