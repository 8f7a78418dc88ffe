//! A warp at work: 32 threads, each at a place of its own.
//!
//! Those furthest back go first, so that threads which parted meet again as soon as they can. An
//! instruction is carried out for all threads at one place together.

use super::code::{
    Access, Atomic, Change, Compare, Guard, Instruction, Kernel, Logic, Operation, Place,
    Predicate, Register, Special,
};
use super::fault::{Fault, Thread, Wrong};
use super::float;
use super::memory::{Memory, Reach, Who};
use super::types::{LANES, Lanes};

pub type Outcome<T> = std::result::Result<T, Box<Fault>>;

/// What all warps of a launch share.
pub struct Machine<'m> {
    pub kernel: &'m Kernel,
    pub memory: Memory<'m>,
    pub blocks: u32,
    pub block: u32,
    /// Barriers that the block has passed.
    pub epoch: u32,
    /// Instructions that warps of the block may still carry out.
    pub steps_left: u64,
    pub steps_max: u64,
}

pub struct Warp {
    pub index: u32,
    /// Threads that have not ended.
    pub live: u32,
    /// Threads that wait at a barrier of the block.
    pub parked: u32,
    /// Threads that wait for others of the warp.
    pub(super) waiting: u32,
    /// Barriers that the whole warp has passed by itself.
    pub(super) epoch: u32,
    /// Where each thread is: the instruction it carries out next.
    pub places: [usize; LANES],
    pub(super) registers: Vec<Lanes>,
    /// For each register, the threads in which it holds something.
    pub(super) defined: Vec<u32>,
    pub(super) predicates: Vec<u32>,
    pub(super) predicates_defined: Vec<u32>,
}

/// Where the threads of an instruction go.
pub(super) enum Next {
    On,
    To(usize),
    /// To different places, which are noted.
    Apart,
}

/// One value that a thread loads or stores.
struct Element {
    register: usize,
    lane: usize,
    reach: Reach,
    who: Who,
}

/// The lanes of a mask.
pub fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = (mask != 0).then_some(mask.trailing_zeros() as usize);
        mask &= mask.wrapping_sub(1);
        lane
    })
}

impl Warp {
    pub fn new(kernel: &Kernel, index: u32) -> Self {
        let mut registers = vec![[0; LANES]; kernel.registers];
        for (register, value) in &kernel.constants {
            registers[*register as usize] = [*value; LANES];
        }
        Self {
            index,
            live: 0,
            parked: 0,
            waiting: 0,
            epoch: 0,
            places: [0; LANES],
            registers,
            defined: vec![0; kernel.registers],
            predicates: vec![0; kernel.predicates],
            predicates_defined: vec![0; kernel.predicates],
        }
    }

    /// Begins the machine's block.
    pub fn begin(&mut self, machine: &Machine<'_>) {
        let kernel = machine.kernel;
        let threads = machine.memory.threads;
        let count = (threads - 32 * self.index).min(32);
        self.live = u32::MAX >> (32 - count);
        (self.parked, self.waiting, self.epoch) = (0, 0, 0);
        self.places = [0; LANES];
        self.defined.fill(0);
        self.predicates_defined.fill(0);
        for (register, _) in &kernel.constants {
            self.defined[*register as usize] = u32::MAX;
        }
        for (register, special) in &kernel.specials {
            let index = self.index;
            let value = |lane: usize| match special {
                Special::Thread => 32 * index + lane as u32,
                Special::Threads => threads,
                Special::Block => machine.block,
                Special::Blocks => machine.blocks,
                Special::Lane => lane as u32,
                Special::Warp => index,
                Special::Warps => threads.div_ceil(32),
                Special::LaneMask(mask) => mask.of(lane as u32),
                Special::Fixed(value) => *value,
            };
            self.registers[*register as usize] = std::array::from_fn(|lane| value(lane).into());
            self.defined[*register as usize] = u32::MAX;
        }
    }

    pub fn runnable(&self) -> u32 {
        self.live & !self.parked & !self.waiting
    }

    /// Carries out up to `slice` instructions; stops before when every thread has ended or waits
    /// at a barrier of the block.
    pub fn run(&mut self, machine: &mut Machine<'_>, slice: u64) -> Outcome<()> {
        let kernel = machine.kernel;
        let mut left = slice;
        loop {
            let Some((mut at, group, others_at)) = self.next_group() else {
                match self.waiting {
                    0 => return Ok(()),
                    _ => self.meet(machine)?,
                }
                continue;
            };
            loop {
                if left == 0 {
                    self.go(group, at);
                    return Ok(());
                }
                left -= 1;
                let instruction = &kernel.code[at];
                if machine.steps_left == 0 {
                    let wrong = Wrong::Endless { steps: machine.steps_max };
                    return Err(self.fault(machine, instruction, group, wrong));
                }
                machine.steps_left -= 1;
                match self.step(machine, instruction, at, group)? {
                    Next::On => at += 1,
                    Next::To(place) => at = place,
                    Next::Apart => break,
                }
                if at >= others_at {
                    self.go(group, at);
                    break;
                }
            }
        }
    }

    /// Where the threads are that are furthest back, which these are, and where the next ones are.
    fn next_group(&self) -> Option<(usize, u32, usize)> {
        let runnable = self.runnable();
        let at = lanes(runnable).map(|lane| self.places[lane]).min()?;
        let group = self.those_at(runnable, at);
        let others = lanes(runnable & !group).map(|lane| self.places[lane]).min();
        Some((at, group, others.unwrap_or(usize::MAX)))
    }

    pub(super) fn those_at(&self, of: u32, at: usize) -> u32 {
        lanes(of).filter(|lane| self.places[*lane] == at).fold(0, |mask, lane| mask | 1 << lane)
    }

    pub(super) fn go(&mut self, those: u32, to: usize) {
        lanes(those).for_each(|lane| self.places[lane] = to);
    }

    /// What a register holds in a thread.
    pub fn value(&self, register: Register, lane: usize) -> u64 {
        self.registers[register as usize][lane]
    }

    pub fn thread(&self, machine: &Machine<'_>, lane: usize) -> Thread {
        Thread { block: machine.block, index: 32 * self.index + lane as u32 }
    }

    fn who(&self, machine: &Machine<'_>, lane: usize) -> Who {
        let threads = machine.memory.threads;
        Who {
            thread: machine.block * threads + 32 * self.index + lane as u32 + 1,
            block_epoch: machine.epoch,
            warp_epoch: self.epoch,
        }
    }

    /// What the first thread of a mask did wrong.
    pub(super) fn fault(
        &self,
        machine: &Machine<'_>,
        instruction: &Instruction,
        those: u32,
        wrong: Wrong,
    ) -> Box<Fault> {
        Box::new(Fault {
            kernel: machine.kernel.name.clone(),
            line: instruction.line,
            opcode: instruction.opcode.to_string(),
            thread: self.thread(machine, those.trailing_zeros() as usize % LANES),
            wrong,
        })
    }

    fn step(
        &mut self,
        machine: &mut Machine<'_>,
        instruction: &Instruction,
        at: usize,
        group: u32,
    ) -> Outcome<Next> {
        let active = match instruction.guard {
            None => group,
            Some(guard) => {
                let unknown = group & !self.predicates_defined[guard.predicate as usize];
                if unknown != 0 {
                    let wrong = Wrong::Undefined { used: "its condition" };
                    return Err(self.fault(machine, instruction, unknown, wrong));
                }
                group & self.truth(guard)
            }
        };
        let rest = group & !active;
        if active == 0 {
            return Ok(Next::On);
        }
        match &instruction.operation {
            Operation::Branch { to } if rest == 0 => return Ok(Next::To(*to)),
            Operation::Branch { to } => self.go(active, *to),
            Operation::BranchTable { index, table } => {
                self.branch_by_table(machine, instruction, active, (*index, *table))?;
            }
            Operation::Barrier { .. } => {
                self.parked |= active;
                self.go(active, at);
            }
            Operation::Warp { warp, mask } => {
                if self.meets_now(machine, instruction, active, *mask)? {
                    self.together(machine, instruction, active, warp)?;
                    return Ok(Next::On);
                }
                self.waiting |= active;
                self.go(active, at);
            }
            Operation::Exit => self.live &= !active,
            Operation::Trap => return Err(self.fault(machine, instruction, active, Wrong::Trap)),
            Operation::Load(access) => {
                self.load(machine, instruction, active, access)?;
                return Ok(Next::On);
            }
            Operation::Store(access) => {
                self.store(machine, instruction, active, access)?;
                return Ok(Next::On);
            }
            Operation::Atomic(atomic) => {
                self.change(machine, instruction, active, atomic)?;
                return Ok(Next::On);
            }
            other => {
                if let Err((those, wrong)) = self.compute(other, active) {
                    return Err(self.fault(machine, instruction, those, wrong));
                }
                return Ok(Next::On);
            }
        }
        self.go(rest, at + 1);
        Ok(Next::Apart)
    }

    /// The threads for which a predicate is as wanted.
    pub(super) fn truth(&self, guard: Guard) -> u32 {
        let holds = self.predicates[guard.predicate as usize];
        if guard.is { holds } else { !holds }
    }

    /// What needs nothing but registers. The error names the threads that must not do it.
    fn compute(&mut self, operation: &Operation, active: u32) -> Result<(), (u32, Wrong)> {
        match operation {
            Operation::Integer { form, to, from, divides } => {
                use super::alu::Form;
                let [a, b, c, d] = from.map(|from| &self.registers[from as usize]);
                if *divides {
                    self.check_divisor(from[1], active)?;
                }
                let (result, count) = match form {
                    Form::One(f) => (f(a), 1),
                    Form::Two(f) => (f(a, b), 2),
                    Form::Three(f) => (f(a, b, c), 3),
                    Form::Four(f) => (f(a, b, c, d), 4),
                };
                let defined = self.all_defined(&from[..count]);
                self.set(*to, &result, defined, active);
            }
            Operation::Convert { convert, to, from, mask } => {
                let source = &self.registers[*from as usize];
                let result = source.map(|x| convert.to.extended(convert.from.extended(x)) & mask);
                self.set(*to, &result, self.defined[*from as usize], active);
            }
            Operation::Slow { slow, to, from, mask } => {
                let mut result = [0; LANES];
                for lane in lanes(active) {
                    let of = from.map(|from| self.registers[from as usize][lane]);
                    result[lane] = slow.result(of) & mask;
                }
                let defined = self.all_defined(from);
                self.set(*to, &result, defined, active);
            }
            Operation::Compare { compare, to, with } => self.compare(compare, *to, *with, active),
            Operation::Logic { logic, to, from } => {
                let known = from.map(|from| self.predicates_defined[from.predicate as usize]);
                let value = from.map(|from| self.truth(from));
                self.set_predicate(*to, *logic, value, known, active);
            }
            Operation::Select { to, from, by } => {
                let first = self.truth(*by);
                let [a, b] = from.map(|from| &self.registers[from as usize]);
                let result: Lanes =
                    std::array::from_fn(|i| if first >> i & 1 == 1 { a[i] } else { b[i] });
                let [known_a, known_b] = from.map(|from| self.defined[from as usize]);
                let chosen = first & known_a | !first & known_b;
                let defined = chosen & self.predicates_defined[by.predicate as usize];
                self.set(*to, &result, defined, active);
            }
            Operation::Unpack { to, from, bits } => {
                let (source, defined) =
                    (self.registers[*from as usize], self.defined[*from as usize]);
                for (i, to) in to.iter().enumerate() {
                    let part = |x: u64| x >> (i as u32 * bits) & ((1 << bits) - 1);
                    self.set(*to, &source.map(part), defined, active);
                }
            }
            Operation::Pack { to, from, bits } => {
                let mut result = [0; LANES];
                for (i, from) in from.iter().enumerate() {
                    let part = &self.registers[*from as usize];
                    result.iter_mut().zip(part).for_each(|(r, p)| *r |= p << (i as u32 * bits));
                }
                let defined = self.all_defined(from);
                self.set(*to, &result, defined, active);
            }
            Operation::Window { to, from, added } => {
                let result = self.registers[*from as usize].map(|x| x.wrapping_add(*added));
                self.set(*to, &result, self.defined[*from as usize], active);
            }
            Operation::ActiveMask { to } => {
                self.set(*to, &[u64::from(active); LANES], u32::MAX, active);
            }
            _ => {}
        }
        Ok(())
    }

    fn check_divisor(&self, divisor: Register, active: u32) -> Result<(), (u32, Wrong)> {
        let unknown = active & !self.defined[divisor as usize];
        if unknown != 0 {
            return Err((unknown, Wrong::Undefined { used: "its divisor" }));
        }
        let values = &self.registers[divisor as usize];
        let zeros = lanes(active).filter(|lane| values[*lane] == 0);
        match zeros.fold(0, |mask, lane| mask | 1 << lane) {
            0 => Ok(()),
            zeros => Err((zeros, Wrong::DivisionByZero)),
        }
    }

    fn all_defined(&self, from: &[Register]) -> u32 {
        from.iter().fold(u32::MAX, |all, from| all & self.defined[*from as usize])
    }

    pub(super) fn set(&mut self, to: Register, values: &Lanes, defined: u32, active: u32) {
        let known = &mut self.defined[to as usize];
        *known = *known & !active | defined & active;
        let to = &mut self.registers[to as usize];
        if active == u32::MAX {
            *to = *values;
            return;
        }
        for (lane, (to, value)) in to.iter_mut().zip(values).enumerate() {
            *to = if active >> lane & 1 == 1 { *value } else { *to };
        }
    }

    /// Sets a predicate to what two others are together. What the one alone decides is known.
    pub(super) fn set_predicate(
        &mut self,
        to: Predicate,
        logic: Logic,
        [a, b]: [u32; 2],
        [known_a, known_b]: [u32; 2],
        active: u32,
    ) {
        let known = match logic {
            Logic::And => known_a & known_b | known_a & !a | known_b & !b,
            Logic::Or => known_a & known_b | known_a & a | known_b & b,
            Logic::Xor => known_a & known_b,
            Logic::Same => known_a,
        };
        let (value, defined) =
            (&mut self.predicates[to as usize], &mut self.predicates_defined[to as usize]);
        *value = *value & !active | logic.of(a, b) & active;
        *defined = *defined & !active | known & active;
    }

    fn compare(
        &mut self,
        compare: &Compare,
        to: [Predicate; 2],
        with: Option<(Logic, Guard)>,
        active: u32,
    ) {
        let (holds, from) = match compare {
            Compare::Integer { holds, from } => {
                let [a, b] = from.map(|from| &self.registers[from as usize]);
                (holds(a, b), from)
            }
            Compare::Float { name, bits, flushes, from } => {
                let [a, b] = from.map(|from| &self.registers[from as usize]);
                let holds = float::compares(name, *bits, *flushes);
                (holds.map_or(0, |holds| float::compared(a, b, holds)), from)
            }
        };
        let known = self.all_defined(from);
        let (logic, b, known_b) = match with {
            Some((logic, guard)) => {
                let defined = self.predicates_defined[guard.predicate as usize];
                (logic, self.truth(guard), defined)
            }
            None => (Logic::Same, 0, 0),
        };
        self.set_predicate(to[0], logic, [holds, b], [known, known_b], active);
        self.set_predicate(to[1], logic, [!holds, b], [known, known_b], active);
    }

    fn branch_by_table(
        &mut self,
        machine: &Machine<'_>,
        instruction: &Instruction,
        active: u32,
        (index, table): (Register, usize),
    ) -> Outcome<()> {
        let unknown = active & !self.defined[index as usize];
        if unknown != 0 {
            let wrong = Wrong::Undefined { used: "its index" };
            return Err(self.fault(machine, instruction, unknown, wrong));
        }
        let table = &machine.kernel.tables[table];
        for lane in lanes(active) {
            let index = self.registers[index as usize][lane];
            let Some(place) = table.get(index as usize) else {
                let wrong = Wrong::NoSuchBranch { index, len: table.len() };
                return Err(self.fault(machine, instruction, 1 << lane, wrong));
            };
            self.places[lane] = *place;
        }
        Ok(())
    }

    /// The address that each thread means.
    fn reach(&self, place: Place, lane: usize, bytes: usize) -> Result<Reach, Wrong> {
        if self.defined[place.base as usize] >> lane & 1 == 0 {
            return Err(Wrong::Undefined { used: "its address" });
        }
        let address = self.registers[place.base as usize][lane].wrapping_add(place.added as u64);
        let address = if place.is_narrow { address & u64::from(u32::MAX) } else { address };
        Ok(Reach { space: place.space, address, bytes })
    }

    /// The address of the first element, which all of them together must be aligned to.
    fn first_reach(&self, access: &Access, lane: usize) -> Result<Reach, Wrong> {
        let all = access.bytes * access.registers.len();
        let reach = self.reach(access.place, lane, access.bytes)?;
        match reach.address % all as u64 {
            0 => Ok(reach),
            _ => Err(Wrong::Misaligned {
                space: reach.space.name(),
                address: reach.address,
                bytes: all,
            }),
        }
    }

    /// Does `f` for every element of every thread's access.
    fn for_elements(
        &mut self,
        machine: &mut Machine<'_>,
        instruction: &Instruction,
        active: u32,
        access: &Access,
        f: impl Fn(&mut Self, &mut Machine<'_>, Element) -> Result<(), Wrong>,
    ) -> Outcome<()> {
        for lane in lanes(active) {
            let who = self.who(machine, lane);
            let mut reach = self
                .first_reach(access, lane)
                .map_err(|wrong| self.fault(machine, instruction, 1 << lane, wrong))?;
            for register in &access.registers {
                let element = Element { register: *register as usize, lane, reach, who };
                f(self, machine, element)
                    .map_err(|wrong| self.fault(machine, instruction, 1 << lane, wrong))?;
                reach.address = reach.address.wrapping_add(access.bytes as u64);
            }
        }
        Ok(())
    }

    fn load(
        &mut self,
        machine: &mut Machine<'_>,
        instruction: &Instruction,
        active: u32,
        access: &Access,
    ) -> Outcome<()> {
        let unused = 64 - 8 * access.bytes as u32;
        let load = |warp: &mut Self, machine: &mut Machine<'_>, of: Element| {
            let (value, is_written) = machine.memory.load(of.reach, access.is_constant, of.who)?;
            let value = match access.is_signed {
                true => ((value << unused) as i64 >> unused) as u64 & access.mask,
                false => value,
            };
            warp.registers[of.register][of.lane] = value;
            let known = &mut warp.defined[of.register];
            *known = *known & !(1 << of.lane) | u32::from(is_written) << of.lane;
            Ok(())
        };
        self.for_elements(machine, instruction, active, access, load)
    }

    fn store(
        &mut self,
        machine: &mut Machine<'_>,
        instruction: &Instruction,
        active: u32,
        access: &Access,
    ) -> Outcome<()> {
        let store = |warp: &mut Self, machine: &mut Machine<'_>, of: Element| {
            let value = warp.registers[of.register][of.lane];
            let is_written = warp.defined[of.register] >> of.lane & 1 == 1;
            machine.memory.store(of.reach, value, is_written, of.who)
        };
        self.for_elements(machine, instruction, active, access, store)
    }

    fn change(
        &mut self,
        machine: &mut Machine<'_>,
        instruction: &Instruction,
        active: u32,
        atomic: &Atomic,
    ) -> Outcome<()> {
        for lane in lanes(active) {
            let who = self.who(machine, lane);
            let [a, b] = atomic.from.map(|from| self.registers[from as usize][lane]);
            let result = match self.all_defined(&atomic.from) >> lane & 1 {
                0 => Err(Wrong::Undefined { used: "its value" }),
                _ => self.reach(atomic.place, lane, atomic.bytes).and_then(|reach| {
                    let bits = 8 * atomic.bytes as u32;
                    machine.memory.change(reach, who, |old| match atomic.change {
                        Change::CompareAndSwap => {
                            if old == a {
                                b
                            } else {
                                old
                            }
                        }
                        change => change.of(old, a, bits, atomic.is_signed),
                    })
                }),
            };
            let before =
                result.map_err(|wrong| self.fault(machine, instruction, 1 << lane, wrong))?;
            if let Some(to) = atomic.to {
                self.registers[to as usize][lane] = before;
                self.defined[to as usize] |= 1 << lane;
            }
        }
        Ok(())
    }
}
