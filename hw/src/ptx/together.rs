//! What the threads of a warp do together: shuffles, votes, reductions, barriers of the warp.

use super::code::{Change, Instruction, Logic, Operation, Register, Shuffle, Vote, Warp as What};
use super::fault::Wrong;
use super::types::LANES;
use super::warp::{Machine, Outcome, Warp, lanes};

impl Warp {
    /// Whether all threads that the mask names are here.
    pub(super) fn meets_now(
        &self,
        machine: &Machine<'_>,
        instruction: &Instruction,
        active: u32,
        mask: Register,
    ) -> Outcome<bool> {
        let unknown = active & !self.defined[mask as usize];
        if unknown != 0 {
            let wrong = Wrong::Undefined { used: "its mask" };
            return Err(self.fault(machine, instruction, unknown, wrong));
        }
        for lane in lanes(active) {
            let mask = self.mask(mask, lane);
            if mask >> lane & 1 == 0 {
                let wrong = Wrong::OutsideMask { mask };
                return Err(self.fault(machine, instruction, 1 << lane, wrong));
            }
        }
        Ok(lanes(active).all(|lane| self.mask(mask, lane) & self.live == active))
    }

    fn mask(&self, register: Register, lane: usize) -> u32 {
        self.registers[register as usize][lane] as u32
    }

    /// Lets threads on that wait for each other, now that no other can move.
    pub(super) fn meet(&mut self, machine: &mut Machine<'_>) -> Outcome<()> {
        let kernel = machine.kernel;
        let mut missing = None;
        for lane in lanes(self.waiting) {
            let at = self.places[lane];
            let instruction = &kernel.code[at];
            let Operation::Warp { warp, mask } = &instruction.operation else { continue };
            let wanted = self.mask(*mask, lane);
            let here = lanes(self.those_at(self.waiting, at));
            let here = here.filter(|other| self.mask(*mask, *other) == wanted);
            let here = here.fold(0, |all, lane| all | 1 << lane);
            let awaited = wanted & self.live;
            if awaited & !here == 0 {
                self.together(machine, instruction, here, warp)?;
                self.waiting &= !here;
                self.go(here, at + 1);
                return Ok(());
            }
            missing.get_or_insert((instruction, here, awaited));
        }
        match missing {
            Some((instruction, came, awaited)) => {
                let wrong = Wrong::WarpDiverges { awaited, came };
                Err(self.fault(machine, instruction, came, wrong))
            }
            None => Ok(()),
        }
    }

    pub(super) fn together(
        &mut self,
        machine: &Machine<'_>,
        instruction: &Instruction,
        active: u32,
        what: &What,
    ) -> Outcome<()> {
        match *what {
            What::Barrier => {
                // What a part of a warp orders is not kept.
                self.epoch += u32::from(active == self.live);
                Ok(())
            }
            What::Shuffle { mode, to, came, from } => {
                let (mut result, mut defined, mut found) = ([0; LANES], 0, 0);
                for lane in lanes(active) {
                    let [b, c] = [from[1], from[2]].map(|from| self.mask(from, lane));
                    let (other, is_inside) = source(mode, lane as u32, b, c);
                    if active >> other & 1 == 0 {
                        let wrong = Wrong::AbsentLane { lane: other };
                        return Err(self.fault(machine, instruction, 1 << lane, wrong));
                    }
                    result[lane] = self.registers[from[0] as usize][other as usize];
                    let known = from.map(|from| self.defined[from as usize]);
                    defined |=
                        (known[0] >> other & known[1] >> lane & known[2] >> lane & 1) << lane;
                    found |= u32::from(is_inside) << lane;
                }
                self.set(to, &result, defined, active);
                self.set_predicate(came, Logic::Same, [found, 0], [defined, 0], active);
                Ok(())
            }
            What::Vote { vote, to, of } => {
                let unknown = active & !self.predicates_defined[of.predicate as usize];
                if unknown != 0 {
                    let wrong = Wrong::Undefined { used: "its vote" };
                    return Err(self.fault(machine, instruction, unknown, wrong));
                }
                let yes = self.truth(of) & active;
                let all = |holds: bool| if holds { u32::MAX } else { 0 };
                let result = match vote {
                    Vote::Ballot => {
                        self.set(to, &[u64::from(yes); LANES], u32::MAX, active);
                        return Ok(());
                    }
                    Vote::All => all(yes == active),
                    Vote::Any => all(yes != 0),
                    Vote::Same => all(yes == 0 || yes == active),
                };
                self.set_predicate(to, Logic::Same, [result, 0], [u32::MAX, 0], active);
                Ok(())
            }
            What::Reduce { change, is_signed, to, from } => {
                let values = self.registers[from as usize];
                let result = lanes(active)
                    .map(|lane| values[lane])
                    .reduce(|a, b| change.of(a, b, 32, is_signed))
                    .unwrap_or(0);
                let is_known = active & !self.defined[from as usize] == 0;
                let defined = if is_known { u32::MAX } else { 0 };
                self.set(to, &[result; LANES], defined, active);
                Ok(())
            }
        }
    }
}

impl Change {
    /// What becomes of an old value by a new one.
    pub fn of(self, old: u64, new: u64, bits: u32, is_signed: bool) -> u64 {
        let ones = u64::MAX >> (64 - bits);
        let sign = |value: u64| (value << (64 - bits)) as i64;
        let first_is_less = if is_signed { sign(old) < sign(new) } else { old < new };
        let result = match self {
            Change::Add => old.wrapping_add(new),
            Change::Min => {
                if first_is_less {
                    old
                } else {
                    new
                }
            }
            Change::Max => {
                if first_is_less {
                    new
                } else {
                    old
                }
            }
            Change::Increment => {
                if old >= new {
                    0
                } else {
                    old + 1
                }
            }
            Change::Decrement => {
                if old == 0 || old > new {
                    new
                } else {
                    old - 1
                }
            }
            Change::And => old & new,
            Change::Or => old | new,
            Change::Xor => old ^ new,
            Change::Exchange | Change::CompareAndSwap => new,
        };
        result & ones
    }
}

/// The lane that a lane takes its value from, and whether that is the one it asked for.
fn source(mode: Shuffle, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (asked, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let first = lane & segment;
    let last = first | clamp & !segment;
    let (other, is_inside) = match mode {
        Shuffle::Up => {
            let other = lane.wrapping_sub(asked);
            (other, other as i32 >= last as i32)
        }
        Shuffle::Down => (lane + asked, lane + asked <= last),
        Shuffle::Butterfly => (lane ^ asked, lane ^ asked <= last),
        Shuffle::Index => {
            let other = first | asked & !segment;
            (other, other <= last)
        }
    };
    if is_inside { (other, true) } else { (lane, false) }
}
