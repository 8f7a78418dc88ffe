//! Memory as threads see it. Every access is looked at: whether it lies within a variable or
//! buffer, is aligned, may be made, reads what was written, and is ordered against those of others.
//!
//! Two accesses of different threads to a byte are ordered by a barrier between them that both
//! threads' block passed, or both threads' whole warp. Order by atomic operations and fences is
//! not known: what relies on it is reported.

use super::code::{Layout, Span};
use super::fault::{Thread, Wrong};
use super::types::{CONST_WINDOW, GLOBAL_STEP, LOCAL_WINDOW, SHARED_WINDOW, Space, WINDOW_BYTES};

/// A buffer of global memory during a launch.
#[derive(Debug, Default)]
pub struct Region {
    pub name: String,
    /// The address of its first byte.
    pub base: u64,
    /// Bytes that the launch may use.
    pub len: usize,
    pub bytes: Vec<u8>,
    /// Which bytes were ever written.
    pub written: Vec<bool>,
    pub rights: Rights,
    trace: Vec<Trace>,
}

/// What a kernel may do with a buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rights {
    #[default]
    Read,
    /// Reads only what this launch wrote.
    Write,
    Both,
}

/// Who makes an access, and how many barriers it has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Who {
    /// Numbered over the whole launch, from 1 on; 0 is nobody.
    pub thread: u32,
    pub block_epoch: u32,
    pub warp_epoch: u32,
}

/// How an access is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    pub space: Space,
    pub address: u64,
    pub bytes: usize,
}

/// What was done to a byte by whom during this launch.
#[derive(Debug, Clone, Copy, Default)]
struct Trace {
    writer: Who,
    /// Two threads that read since, of different blocks where there are such.
    readers: [Who; 2],
    /// The write was atomic.
    is_atomic: bool,
    /// Somebody read it as never changing.
    is_constant: bool,
}

/// All memory of a launch. Shared and local memory are those of the block at hand.
pub struct Memory<'m> {
    /// Threads of a block.
    pub threads: u32,
    pub regions: Vec<Region>,
    pub params: &'m [u8],
    constant: &'m Layout,
    shared: Own,
    /// A copy for each thread, one behind the other.
    local: Own,
    local_bytes: usize,
}

/// Memory that begins with every block.
struct Own {
    spans: Vec<Span>,
    bytes: Vec<u8>,
    written: Vec<bool>,
    trace: Vec<Trace>,
}

impl Region {
    pub fn new(name: String, base: u64, len: usize, rights: Rights) -> Self {
        Self { name, base, len, rights, ..Self::default() }
    }

    /// Begins a launch with what the buffer holds.
    pub fn fill(&mut self, bytes: Vec<u8>, written: Vec<bool>) {
        self.len = self.len.min(bytes.len()).min(written.len());
        self.trace = match self.rights {
            Rights::Read => Vec::new(),
            _ => vec![Trace::default(); self.len],
        };
        (self.bytes, self.written) = (bytes, written);
    }
}

impl<'m> Memory<'m> {
    pub fn new(
        threads: u32,
        regions: Vec<Region>,
        params: &'m [u8],
        constant: &'m Layout,
        [shared, local]: [&Layout; 2],
    ) -> Self {
        let own = |layout: &Layout, copies: usize, is_traced: bool| Own {
            spans: layout.spans.clone(),
            bytes: vec![0; layout.bytes * copies],
            written: vec![false; layout.bytes * copies],
            trace: if is_traced { vec![Trace::default(); layout.bytes] } else { Vec::new() },
        };
        let local_bytes = local.bytes;
        let shared = own(shared, 1, true);
        let local = own(local, threads as usize, false);
        Self { threads, regions, params, constant, shared, local, local_bytes }
    }

    /// Forgets what the block before wrote.
    pub fn begin_block(&mut self) {
        self.shared.written.fill(false);
        self.shared.trace.fill(Trace::default());
        self.local.written.fill(false);
    }

    /// The value, and whether all of it was ever written.
    pub fn load(&mut self, reach: Reach, constant: bool, who: Who) -> Result<(u64, bool), Wrong> {
        let reach = aligned(placed(reach))?;
        match reach.space {
            Space::Param => {
                let at = within(reach, self.params.len(), "the parameters")?;
                Ok((number(&self.params[at..at + reach.bytes]), true))
            }
            Space::Const => {
                let at = in_spans(reach, &self.constant.spans)?;
                Ok((number(&self.constant.content[at..at + reach.bytes]), true))
            }
            Space::Shared => {
                let at = in_spans(reach, &self.shared.spans)?;
                for (i, trace) in self.shared.trace[at..at + reach.bytes].iter_mut().enumerate() {
                    let of = || named(&self.shared.spans, at + i);
                    trace.read(who, self.threads).map_err(|clash| clash.wrong(false, of()))?;
                }
                Ok(self.shared.value(at, reach.bytes))
            }
            Space::Local => {
                let at = self.in_local(reach, who)?;
                Ok(self.local.value(at, reach.bytes))
            }
            Space::Global | Space::Generic => {
                let (region, at) = region(&mut self.regions, reach)?;
                region.read(at, reach.bytes, constant, who, self.threads)?;
                let written = region.written[at..at + reach.bytes].iter().all(|is| *is);
                Ok((number(&region.bytes[at..at + reach.bytes]), written))
            }
        }
    }

    /// Stores the low bytes of a value that was itself written or not.
    pub fn store(
        &mut self,
        reach: Reach,
        value: u64,
        is_written: bool,
        who: Who,
    ) -> Result<(), Wrong> {
        let reach = aligned(placed(reach))?;
        let bytes = &value.to_le_bytes()[..reach.bytes];
        let (to, written, at) = match reach.space {
            Space::Shared => {
                let at = self.write_shared(reach, false, who)?;
                (&mut self.shared.bytes, &mut self.shared.written, at)
            }
            Space::Local => {
                let at = self.in_local(reach, who)?;
                (&mut self.local.bytes, &mut self.local.written, at)
            }
            Space::Global | Space::Generic => {
                if !is_written {
                    return Err(Wrong::Undefined { used: "what it stores" });
                }
                let (region, at) = region(&mut self.regions, reach)?;
                region.write(at, reach.bytes, false, who, self.threads)?;
                (&mut region.bytes, &mut region.written, at)
            }
            Space::Const | Space::Param => {
                let of = format!("{} memory", reach.space.name());
                return Err(Wrong::WritesInput { at: reach.address as usize, of });
            }
        };
        to[at..at + reach.bytes].copy_from_slice(bytes);
        written[at..at + reach.bytes].fill(is_written);
        Ok(())
    }

    /// Replaces a value by what `change` makes of it, and gives the one before.
    pub fn change(
        &mut self,
        reach: Reach,
        who: Who,
        change: impl FnOnce(u64) -> u64,
    ) -> Result<u64, Wrong> {
        let reach = aligned(placed(reach))?;
        let (bytes, written, at) = match reach.space {
            Space::Shared => {
                let at = self.write_shared(reach, true, who)?;
                (&mut self.shared.bytes, &self.shared.written, at)
            }
            Space::Global | Space::Generic => {
                let (region, at) = region(&mut self.regions, reach)?;
                region.write(at, reach.bytes, true, who, self.threads)?;
                (&mut region.bytes, &region.written, at)
            }
            other => {
                let of = format!("{} memory", other.name());
                return Err(Wrong::WritesInput { at: reach.address as usize, of });
            }
        };
        if !written[at..at + reach.bytes].iter().all(|is| *is) {
            return Err(Wrong::Undefined { used: "what it changes" });
        }
        let bytes = &mut bytes[at..at + reach.bytes];
        let before = number(bytes);
        bytes.copy_from_slice(&change(before).to_le_bytes()[..reach.bytes]);
        Ok(before)
    }

    fn write_shared(&mut self, reach: Reach, is_atomic: bool, who: Who) -> Result<usize, Wrong> {
        let at = in_spans(reach, &self.shared.spans)?;
        for (i, trace) in self.shared.trace[at..at + reach.bytes].iter_mut().enumerate() {
            let of = || named(&self.shared.spans, at + i);
            let clash = trace.write(who, is_atomic, self.threads);
            clash.map_err(|clash| clash.wrong(true, of()))?;
        }
        Ok(at)
    }

    fn in_local(&self, reach: Reach, who: Who) -> Result<usize, Wrong> {
        let at = in_spans(reach, &self.local.spans)?;
        Ok((who.thread as usize - 1) % self.threads as usize * self.local_bytes + at)
    }
}

impl Own {
    fn value(&self, at: usize, bytes: usize) -> (u64, bool) {
        let written = self.written[at..at + bytes].iter().all(|is| *is);
        (number(&self.bytes[at..at + bytes]), written)
    }
}

impl Region {
    fn read(
        &mut self,
        at: usize,
        bytes: usize,
        is_constant: bool,
        who: Who,
        threads: u32,
    ) -> Result<(), Wrong> {
        if self.rights == Rights::Read {
            return Ok(());
        }
        for (at, trace) in
            self.trace[at..at + bytes].iter_mut().enumerate().map(|(i, t)| (at + i, t))
        {
            let of = || (at, self.name.clone());
            let is_new = trace.writer.thread == 0;
            if is_constant && !is_new {
                return Err(Wrong::ReadAsConstant { at, of: self.name.clone() });
            }
            trace.is_constant |= is_constant;
            trace.read(who, threads).map_err(|clash| clash.wrong(false, of()))?;
            if is_new && self.rights == Rights::Write {
                return Err(Wrong::ReadsOutput { at, of: self.name.clone() });
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        at: usize,
        bytes: usize,
        is_atomic: bool,
        who: Who,
        threads: u32,
    ) -> Result<(), Wrong> {
        if self.rights == Rights::Read {
            return Err(Wrong::WritesInput { at, of: self.name.clone() });
        }
        for (at, trace) in
            self.trace[at..at + bytes].iter_mut().enumerate().map(|(i, t)| (at + i, t))
        {
            let of = || (at, self.name.clone());
            if trace.is_constant {
                return Err(Wrong::ReadAsConstant { at, of: self.name.clone() });
            }
            let clash = trace.write(who, is_atomic, threads);
            clash.map_err(|clash| clash.wrong(true, of()))?;
        }
        Ok(())
    }
}

/// Another thread's access that nothing orders against one.
struct Clash {
    other: Thread,
    did: &'static str,
}

impl Clash {
    fn wrong(self, is_write: bool, (at, of): (usize, String)) -> Wrong {
        let access = if is_write { "writes" } else { "reads" };
        Wrong::Race { access, at, of, other: self.other, did: self.did }
    }
}

impl Who {
    pub fn place(self, threads: u32) -> Thread {
        let number = self.thread.saturating_sub(1);
        Thread { block: number / threads, index: number % threads }
    }

    /// Whether all that this thread did then is before what `now` does.
    fn is_before(self, now: Who, threads: u32) -> bool {
        if self.thread == 0 || self.thread == now.thread {
            return true;
        }
        let (then, later) = (self.place(threads), now.place(threads));
        let is_same_warp = then.index / 32 == later.index / 32;
        then.block == later.block
            && (self.block_epoch < now.block_epoch
                || is_same_warp && self.warp_epoch < now.warp_epoch)
    }

    fn clash(self, did: &'static str, threads: u32) -> Clash {
        Clash { other: self.place(threads), did }
    }
}

impl Trace {
    fn read(&mut self, now: Who, threads: u32) -> Result<(), Clash> {
        if !self.writer.is_before(now, threads) {
            return Err(self.writer.clash("writes", threads));
        }
        let block = |who: Who| who.place(threads).block;
        let [first, second] = &mut self.readers;
        if first.is_before(now, threads) {
            *first = now;
        } else if second.is_before(now, threads)
            || block(*second) == block(*first) && block(now) != block(*first)
        {
            *second = now;
        }
        Ok(())
    }

    fn write(&mut self, now: Who, is_atomic: bool, threads: u32) -> Result<(), Clash> {
        let may_meet = is_atomic && self.is_atomic;
        if !may_meet && !self.writer.is_before(now, threads) {
            return Err(self.writer.clash("writes", threads));
        }
        if let Some(reader) = self.readers.iter().find(|who| !who.is_before(now, threads)) {
            return Err(reader.clash("reads", threads));
        }
        *self = Self { writer: now, is_atomic, ..Self::default() };
        Ok(())
    }
}

/// The access with its space, told by a generic address.
fn placed(reach: Reach) -> Reach {
    if reach.space != Space::Generic {
        return reach;
    }
    let (space, window) = match reach.address / WINDOW_BYTES {
        1 => (Space::Shared, SHARED_WINDOW),
        2 => (Space::Local, LOCAL_WINDOW),
        3 => (Space::Const, CONST_WINDOW),
        _ => (Space::Global, 0),
    };
    Reach { space, address: reach.address - window, ..reach }
}

fn aligned(reach: Reach) -> Result<Reach, Wrong> {
    let Reach { space, address, bytes } = reach;
    match address % bytes.max(1) as u64 {
        0 => Ok(reach),
        _ => Err(Wrong::Misaligned { space: space.name(), address, bytes }),
    }
}

fn outside<T>(reach: Reach, place: String) -> Result<T, Wrong> {
    let Reach { space, address, bytes } = reach;
    Err(Wrong::Outside { space: space.name(), address, bytes, place })
}

fn within(reach: Reach, len: usize, name: &str) -> Result<usize, Wrong> {
    let end = reach.address.checked_add(reach.bytes as u64);
    match end.is_some_and(|end| end <= len as u64) {
        true => Ok(reach.address as usize),
        false => outside(reach, format!("past the {len} bytes of {name}")),
    }
}

fn in_spans(reach: Reach, spans: &[Span]) -> Result<usize, Wrong> {
    let before = spans.iter().rfind(|span| span.start as u64 <= reach.address);
    let Some(span) = before else { return outside(reach, "in no variable".to_string()) };
    let from = Reach { address: reach.address - span.start as u64, ..reach };
    match within(from, span.bytes, &span.name) {
        Ok(at) => Ok(span.start + at),
        Err(_) => outside(reach, format!("past the {} bytes of {}", span.bytes, span.name)),
    }
}

/// The variable that a byte belongs to, and where in it.
fn named(spans: &[Span], at: usize) -> (usize, String) {
    let span = spans.iter().rfind(|span| span.start <= at);
    span.map_or((at, String::new()), |span| (at - span.start, span.name.clone()))
}

fn region(regions: &mut [Region], reach: Reach) -> Result<(&mut Region, usize), Wrong> {
    let address = reach.address;
    let is_own = |region: &Region| address / GLOBAL_STEP == region.base / GLOBAL_STEP;
    let Some(found) = regions.iter().position(is_own) else {
        let is_near = |region: &&Region| {
            region.base.checked_sub(address).is_some_and(|bytes| bytes < WINDOW_BYTES)
        };
        let place = match regions.iter().find(is_near) {
            Some(region) => format!("{} bytes before {}", region.base - address, region.name),
            None => "in no buffer of the launch".to_string(),
        };
        return outside(reach, place);
    };
    let region = &mut regions[found];
    let from = Reach { address: address - region.base, ..reach };
    match within(from, region.len, &region.name) {
        Ok(at) => Ok((region, at)),
        Err(_) => outside(reach, format!("past the {} bytes of {}", region.len, region.name)),
    }
}

fn number(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}
