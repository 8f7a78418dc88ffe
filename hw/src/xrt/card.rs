//! A card through XRT, in the worker process.

use std::collections::HashMap;
use std::time::Instant;

use super::api::{Api, COMPLETED, FROM_DEVICE, Handle, TO_DEVICE, UNDERWAY, failed, text};
use super::wire::{Failure, Fault, Word};
use super::worker::{Card, Outcome};
use crate::shared::Part;

/// Plain memory of the card with a shadow on the host.
const NORMAL: u64 = 0;
/// Emulation copies through its stack, so copies are made of parts.
const COPY_BYTES_MAX: usize = 256 << 10;

/// Cards are written and read by whole lines of this many bytes: not all engines take others.
const LINE_BYTES: usize = 64;

pub(crate) struct XrtCard {
    api: Api,
    device: Handle,
    uuid: [u8; 16],
    bank: u32,
    kernels: HashMap<String, Loaded>,
    buffers: HashMap<u64, Buffer>,
}

struct Loaded {
    run: Handle,
}

struct Buffer {
    handle: Handle,
    bytes: usize,
}

/// Opens a card, loads the file, and says the driver's version.
pub(crate) fn open(card: u32, xclbin: &str, bank: u32) -> Outcome<(Box<dyn Card>, String)> {
    let (api, version) = Api::open()?;
    // SAFETY: takes any number; null means that there is no such card.
    let device = unsafe { (api.device_open)(card) };
    if device.is_null() {
        return Err(Failure::new(Fault::Absent, format!("no card {card}")));
    }
    let path = text(xclbin)?;
    // SAFETY: the device is open and the path is a string that ends in zero.
    if unsafe { (api.load)(device, path.as_ptr()) } != 0 {
        let failure = failed(&format!("load {xclbin}"));
        return Err(Failure { fault: Fault::Failed, ..failure });
    }
    let mut uuid = [0; 16];
    // SAFETY: the device is open, and an identity has 16 bytes.
    if unsafe { (api.uuid)(device, uuid.as_mut_ptr()) } != 0 {
        return Err(failed("ask for what is loaded"));
    }
    let (kernels, buffers) = (HashMap::new(), HashMap::new());
    Ok((Box::new(XrtCard { api, device, uuid, bank, kernels, buffers }), version))
}

impl XrtCard {
    fn buffer(&self, slot: u64) -> Outcome<&Buffer> {
        let unknown = || Failure::new(Fault::Failed, format!("no buffer {slot}"));
        self.buffers.get(&slot).ok_or_else(unknown)
    }

    /// A buffer, of which the range is a part.
    fn range(&self, slot: u64, offset: usize, bytes: usize) -> Outcome<&Buffer> {
        let buffer = self.buffer(slot)?;
        match offset.checked_add(bytes).is_some_and(|end| end <= buffer.bytes) {
            true => Ok(buffer),
            false => Err(Failure::new(Fault::Failed, format!("{bytes} bytes pass buffer {slot}"))),
        }
    }

    /// Brings lines of a buffer to the card or from it.
    fn sync(&self, handle: Handle, way: i32, offset: usize, bytes: usize) -> Outcome<()> {
        // SAFETY: buffers are whole pages, so lines that a range inside touches are inside too.
        match unsafe { (self.api.bo_sync)(handle, way, bytes, offset) } {
            0 => Ok(()),
            _ if way == TO_DEVICE => Err(failed("bring a buffer to the card")),
            _ => Err(failed("bring a buffer from the card")),
        }
    }

    fn loaded(&mut self, name: &str) -> Outcome<Handle> {
        if let Some(loaded) = self.kernels.get(name) {
            return Ok(loaded.run);
        }
        let text = text(name)?;
        // SAFETY: the device is open, the identity is that of what it has loaded, and the name
        // ends in zero.
        let kernel =
            unsafe { (self.api.kernel_open)(self.device, self.uuid.as_ptr(), text.as_ptr()) };
        if kernel.is_null() {
            return Err(failed(&format!("open kernel {name}")));
        }
        // SAFETY: the kernel was just opened; argument 0 is a buffer in every kernel.
        let group = unsafe { (self.api.group)(kernel, 0) };
        if group >= 0 && group as u32 & 0xFF != self.bank {
            tracing::debug!(name, group, bank = self.bank, "a kernel names another memory");
        }
        // SAFETY: the kernel is open and stays so as long as the process lives.
        let run = unsafe { (self.api.run_open)(kernel) };
        if run.is_null() {
            return Err(failed(&format!("open a run of kernel {name}")));
        }
        self.kernels.insert(name.to_string(), Loaded { run });
        Ok(run)
    }

    fn set_arg(&self, run: Handle, index: usize, word: Word) -> Outcome<()> {
        let set = match word {
            // SAFETY: the argument of this index is a 32-bit integer, as the host has checked.
            Word::Number(number) => unsafe { (self.api.set_arg)(run, index as i32, number) },
            Word::Buffer(slot) => {
                let handle = self.buffer(slot)?.handle;
                // SAFETY: the argument of this index is a buffer, as the host has checked.
                unsafe { (self.api.set_arg)(run, index as i32, handle) }
            }
        };
        if set == 0 { Ok(()) } else { Err(failed(&format!("set argument {index}"))) }
    }

    fn wait(&self, run: Handle, kernel: &str, timeout_ms: u32) -> Outcome<()> {
        loop {
            // SAFETY: the run was started.
            match unsafe { (self.api.wait_for)(run, timeout_ms) } {
                COMPLETED => return Ok(()),
                // It may come back early, or never: the worker keeps the time.
                state if UNDERWAY.contains(&state) => {}
                state => {
                    let detail = format!("kernel {kernel} ended in state {state}");
                    return Err(Failure::new(Fault::Lost, detail));
                }
            }
        }
    }
}

/// The lines that a range touches: where the first begins and the last ends.
fn lines(offset: usize, bytes: usize) -> (usize, usize) {
    let first = offset - offset % LINE_BYTES;
    (first, (offset + bytes).next_multiple_of(LINE_BYTES).max(first + LINE_BYTES))
}

impl Card for XrtCard {
    fn alloc(&mut self, slot: u64, bytes: usize) -> Outcome<()> {
        // SAFETY: the device is open; null means that there is no memory.
        let handle = unsafe { (self.api.bo_alloc)(self.device, bytes, NORMAL, self.bank) };
        if handle.is_null() {
            let failure = failed(&format!("allocate {bytes} bytes"));
            // Emulation does not say why; a card that is gone will say so at the next call.
            return Err(Failure { fault: Fault::NoMemory, ..failure });
        }
        self.buffers.insert(slot, Buffer { handle, bytes });
        Ok(())
    }

    fn free(&mut self, slot: u64) {
        if let Some(buffer) = self.buffers.remove(&slot) {
            // SAFETY: the buffer was allocated and is forgotten now; nothing runs that uses it.
            unsafe { (self.api.bo_free)(buffer.handle) };
        }
    }

    fn write(&mut self, slot: u64, offset: usize, from: Part<'_>) -> Outcome<()> {
        let bytes = from.bytes();
        let handle = self.range(slot, offset, bytes)?.handle;
        let (first, end) = lines(offset, bytes);
        // What lies around the range in its first and last line may have been changed by a kernel.
        for (is_cut, line) in [(first != offset, first), (end != offset + bytes, end - LINE_BYTES)]
        {
            if is_cut {
                self.sync(handle, FROM_DEVICE, line, LINE_BYTES)?;
            }
        }
        // SAFETY: the range is inside the buffer, and the window has as many bytes there.
        if unsafe { (self.api.bo_write)(handle, from.start().cast(), bytes, offset) } != 0 {
            return Err(failed("write"));
        }
        self.sync(handle, TO_DEVICE, first, end - first)
    }

    fn read(&mut self, slot: u64, offset: usize, to: Part<'_>) -> Outcome<()> {
        let bytes = to.bytes();
        let handle = self.range(slot, offset, bytes)?.handle;
        let (first, end) = lines(offset, bytes);
        self.sync(handle, FROM_DEVICE, first, end - first)?;
        // SAFETY: the range is inside the buffer, and the window has room for as many there.
        match unsafe { (self.api.bo_read)(handle, to.start().cast(), bytes, offset) } {
            0 => Ok(()),
            _ => Err(failed("read")),
        }
    }

    fn prepare(&mut self, kernel: &str) -> Outcome<()> {
        self.loaded(kernel).map(drop)
    }

    fn launch(&mut self, kernel: &str, args: &[Word], timeout_ms: u32) -> Outcome<u64> {
        let run = self.loaded(kernel)?;
        for (index, word) in args.iter().enumerate() {
            self.set_arg(run, index, *word)?;
        }
        let begun = Instant::now();
        // SAFETY: the run is open, all its arguments are set, and it is not under way.
        if unsafe { (self.api.start)(run) } != 0 {
            return Err(failed(&format!("start kernel {kernel}")));
        }
        self.wait(run, kernel, timeout_ms)?;
        Ok(begun.elapsed().as_nanos() as u64)
    }

    fn copy(&mut self, from: u64, to: u64, bytes: usize) -> Outcome<u64> {
        let source = self.range(from, 0, bytes)?.handle;
        let target = self.range(to, 0, bytes)?.handle;
        let begun = Instant::now();
        for at in (0..bytes).step_by(COPY_BYTES_MAX) {
            let part = (bytes - at).min(COPY_BYTES_MAX);
            // SAFETY: both ranges are inside their buffers, which are not the same.
            if unsafe { (self.api.bo_copy)(target, source, part, at, at) } != 0 {
                return Err(failed("copy"));
            }
        }
        Ok(begun.elapsed().as_nanos() as u64)
    }
}
