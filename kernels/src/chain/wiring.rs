//! Which value of a chain comes from which: the launches as assignments to values that are each
//! made once, with what must be read from buffers and what must be written to them.

use hw::{BufferId, Command, Launch};

use super::{Around, BUFFERS_MAX, Range, SCALARS_MAX};
use crate::pointwise::{Area, Assign, Operand, Track, Work};

/// A launch of a pointwise kernel.
#[derive(Clone)]
pub(super) struct Member<'a> {
    /// Of its command.
    pub index: usize,
    pub launch: &'a Launch,
    buffers: Vec<BufferId>,
    assigns: Vec<Assign>,
}

/// Bytes of a buffer, one for each place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub buffer: BufferId,
    pub track: Track,
}

/// A value at a place, by number.
pub(super) type Value = usize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Made {
    Load(Spot),
    Call { function: Option<&'static str>, source: &'static str, operands: Vec<Input> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    Value(Value),
    Table(BufferId),
    /// An integer of a launch, known by the launch's number and its own.
    Scalar {
        of: (usize, usize),
        number: u32,
    },
    Number(u32),
}

/// The values of a chain that are wanted, each after those it is made of.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    pub values: Vec<Made>,
    pub stores: Vec<(Spot, Value)>,
}

impl<'a> Member<'a> {
    /// The launch of a command, where it is of a pointwise kernel, and its area.
    pub fn new(index: usize, command: &'a Command) -> Option<(Area, Self)> {
        let Command::Launch(launch) = command else { return None };
        let Work { area, assigns } = super::work(launch)?;
        let buffers = super::buffers(launch);
        Some((area, Self { index, launch, buffers, assigns }))
    }

    /// The same over another area, if it can be.
    pub fn over(&self, own: Area, area: Area) -> Option<Self> {
        let work = Work { area: own, assigns: self.assigns.clone() }.over(area)?;
        Some(Self { assigns: work.assigns, buffers: self.buffers.clone(), ..*self })
    }

    pub fn ranges(&self, area: Area, to: &mut Vec<Range>) {
        let range = |(buffer, track): (usize, Track), is_written: bool| {
            let (first, last) = track.range(area).into_inner();
            Range { buffer: self.buffers[buffer], first, last, is_written }
        };
        for assign in &self.assigns {
            to.push(range(assign.to, true));
            to.extend(assign.operands.iter().filter_map(|operand| match *operand {
                Operand::Sample(buffer, track) => Some(range((buffer, track), false)),
                Operand::Table(buffer) => {
                    let (first, last) = (0, i64::MAX);
                    Some(Range { buffer: self.buffers[buffer], first, last, is_written: false })
                }
                Operand::Scalar(_) | Operand::Number(_) => None,
            }));
        }
    }
}

impl Wiring {
    /// Whether a kernel may take what it needs, and so many more buffers and integers.
    pub fn fits(&self, more_buffers: usize, more_scalars: usize) -> bool {
        let mut scalars: Vec<(usize, usize)> = Vec::new();
        let (mut buffers, mut spots): (Vec<BufferId>, Vec<Spot>) = (Vec::new(), Vec::new());
        spots.extend(self.stores.iter().map(|(spot, _)| *spot));
        for made in &self.values {
            match made {
                Made::Load(spot) => spots.push(*spot),
                Made::Call { operands, .. } => {
                    for operand in operands {
                        match operand {
                            Input::Table(buffer) => buffers.push(*buffer),
                            Input::Scalar { of, .. } => scalars.push(*of),
                            Input::Value(_) | Input::Number(_) => {}
                        }
                    }
                }
            }
        }
        buffers.extend(spots.iter().map(|spot| spot.buffer));
        buffers.sort();
        buffers.dedup();
        scalars.sort();
        scalars.dedup();
        let pointers = super::text::pointers(&spots).len();
        let numbers = super::text::AREA_SCALARS + 2 * pointers + scalars.len();
        buffers.len() + more_buffers <= BUFFERS_MAX && numbers + more_scalars <= SCALARS_MAX
    }

    /// Whether there is anything to do at all.
    pub fn writes(&self) -> bool {
        !self.stores.is_empty()
    }
}

/// The values of launches one after the other; `None` where a place would read what another place
/// writes. What is not stored is nowhere.
pub(super) fn wire(
    members: &[Member<'_>],
    area: Area,
    around: &Around<'_>,
    is_stored: impl Fn(BufferId) -> bool,
) -> Option<Wiring> {
    let mut draft =
        Draft { area, around, values: vec![], loads: vec![], written: vec![], tables: vec![] };
    for (number, member) in members.iter().enumerate() {
        let made: Vec<Value> =
            member.assigns.iter().map(|a| draft.value(number, member, a)).collect::<Option<_>>()?;
        for (assign, value) in member.assigns.iter().zip(made) {
            let spot = Spot { buffer: member.buffers[assign.to.0], track: assign.to.1 };
            draft.write(spot, value)?;
        }
    }
    draft.written.retain(|(spot, _)| is_stored(spot.buffer));
    Some(wanted(draft.values, draft.written))
}

/// All that is made and touched so far.
struct Draft<'a> {
    area: Area,
    around: &'a Around<'a>,
    values: Vec<Made>,
    loads: Vec<(Spot, Value)>,
    /// The latest value of each spot.
    written: Vec<(Spot, Value)>,
    tables: Vec<BufferId>,
}

impl Draft<'_> {
    fn value(&mut self, number: usize, member: &Member<'_>, assign: &Assign) -> Option<Value> {
        let input = |operand: &Operand| match *operand {
            Operand::Sample(buffer, track) => {
                self.sample(Spot { buffer: member.buffers[buffer], track }).map(Input::Value)
            }
            Operand::Table(buffer) => self.table(member.buffers[buffer]),
            Operand::Scalar(scalar) => {
                let number_given = *member.launch.scalars().get(scalar)?;
                Some(Input::Scalar { of: (number, scalar), number: number_given })
            }
            Operand::Number(number) => Some(Input::Number(number)),
        };
        let operands: Vec<Input> = assign.operands.iter().map(input).collect::<Option<Vec<_>>>()?;
        match (assign.function, &operands[..]) {
            (None, [Input::Value(value)]) => Some(*value),
            (function, _) => {
                let source = member.launch.kernel.opencl;
                Some(self.make(Made::Call { function, source, operands }))
            }
        }
    }

    fn make(&mut self, made: Made) -> Value {
        self.values.push(made);
        self.values.len() - 1
    }

    fn is_same(&self, a: BufferId, b: BufferId) -> bool {
        (self.around.name)(a) == (self.around.name)(b)
    }

    fn sample(&mut self, spot: Spot) -> Option<Value> {
        for (written, value) in &self.written {
            if *written == spot {
                return Some(*value);
            }
            if self.is_same(written.buffer, spot.buffer) && !self.is_apart(written, &spot) {
                return None;
            }
        }
        let known = self.loads.iter().find(|(loaded, _)| *loaded == spot);
        if let Some((_, value)) = known {
            return Some(*value);
        }
        let value = self.make(Made::Load(spot));
        self.loads.push((spot, value));
        Some(value)
    }

    fn table(&mut self, buffer: BufferId) -> Option<Input> {
        let is_written = self.written.iter().any(|(spot, _)| self.is_same(spot.buffer, buffer));
        self.tables.push(buffer);
        (!is_written).then_some(Input::Table(buffer))
    }

    fn write(&mut self, spot: Spot, value: Value) -> Option<()> {
        let fits = |other: &Spot| {
            *other == spot
                || !self.is_same(other.buffer, spot.buffer)
                || self.is_apart(other, &spot)
        };
        let spots = self.loads.iter().chain(&self.written);
        let is_table = self.tables.iter().any(|table| self.is_same(*table, spot.buffer));
        if is_table || !spots.map(|(other, _)| other).all(fits) {
            return None;
        }
        match self.written.iter_mut().find(|(written, _)| *written == spot) {
            Some((_, latest)) => *latest = value,
            None => self.written.push((spot, value)),
        }
        Some(())
    }

    /// Whether two spots of what may be one buffer share no byte; of two names nobody knows.
    fn is_apart(&self, a: &Spot, b: &Spot) -> bool {
        a.buffer == b.buffer && a.track.is_apart(&b.track, self.area)
    }
}

/// Without the values that nothing stored is made of.
fn wanted(values: Vec<Made>, stores: Vec<(Spot, Value)>) -> Wiring {
    let mut is_wanted = vec![false; values.len()];
    stores.iter().for_each(|(_, value)| is_wanted[*value] = true);
    for (number, made) in values.iter().enumerate().rev() {
        if let (true, Made::Call { operands, .. }) = (is_wanted[number], made) {
            for operand in operands {
                if let Input::Value(value) = operand {
                    is_wanted[*value] = true;
                }
            }
        }
    }
    let mut numbers = vec![0; values.len()];
    let mut wiring = Wiring::default();
    for (number, mut made) in values.into_iter().enumerate().filter(|(n, _)| is_wanted[*n]) {
        if let Made::Call { operands, .. } = &mut made {
            for operand in operands {
                if let Input::Value(value) = operand {
                    *value = numbers[*value];
                }
            }
        }
        numbers[number] = wiring.values.len();
        wiring.values.push(made);
    }
    wiring.stores = stores.into_iter().map(|(spot, value)| (spot, numbers[value])).collect();
    wiring
}
