//! The units of the software FPGA: registers by which the host starts kernels and sees them end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::Behaviour;
use super::memory::{Memory, pointer, room};
use crate::xrt::xclbin::metadata::{Kernel, kernels};

/// Bits of the control register, as `ap_ctrl_hs` has them.
const START: u32 = 1;
const DONE: u32 = 2;
const IDLE: u32 = 4;

/// Registers that a unit has, in bytes, and that it may have at most.
const REGISTERS_BYTES: usize = 4096;
const UNIT_RANGE: u64 = 0x1_0000;
/// Longer descriptions are not read.
const DESCRIPTION_BYTES_MAX: u64 = 16 << 20;
/// Kernels keep on the stack what is block memory of a circuit.
const STACK_BYTES: usize = 64 << 20;
/// Bytes that a circuit reads in a clock, in the model of time.
const BYTES_PER_CLOCK: u64 = 8;

pub(super) struct Units {
    behaviour: Behaviour,
    units: Vec<Unit>,
}

struct Unit {
    base: u64,
    kernel: Arc<Kernel>,
    function: Option<Function>,
    registers: Vec<u8>,
    control: Arc<AtomicU32>,
}

/// A function of a library that stays open for good.
#[derive(Clone, Copy)]
struct Function(*const ());

// SAFETY: the address of code, which all threads may run.
unsafe impl Send for Function {}

impl Units {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, units: Vec::new() }
    }

    /// Takes the circuit: a description and the library that has its kernels.
    pub(super) fn load(&mut self, description: &Path, library: &Path) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        if std::fs::metadata(description).map_err(text)?.len() > DESCRIPTION_BYTES_MAX {
            return Err("its description is too long".to_string());
        }
        let kernels = kernels(&std::fs::read(description).map_err(text)?);
        let kernels = kernels.map_err(|bad| bad.to_string())?;
        // SAFETY: opening the library runs its initialisers, which is what it is for.
        let opened = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) };
        let opened = opened.map_err(|error| error.to_string())?;
        self.units.clear();
        for kernel in kernels {
            let name = format!("{}\0", kernel.name);
            // SAFETY: only the address is taken here.
            let function = unsafe { opened.get::<*const ()>(name.as_bytes()) };
            let function = function.ok().map(|symbol| Function(symbol.as_raw_ptr() as *const ()));
            let (kernel, units) = (Arc::new(kernel.clone()), kernel.units);
            self.units.extend(units.iter().map(|(_, base)| Unit {
                base: *base,
                kernel: kernel.clone(),
                function,
                registers: vec![0; REGISTERS_BYTES],
                control: Arc::new(AtomicU32::new(IDLE)),
            }));
        }
        // Kernels may run until the process ends.
        std::mem::forget(opened);
        Ok(())
    }

    fn at(&mut self, address: u64) -> Option<(&mut Unit, usize)> {
        let inside = |unit: &&mut Unit| (unit.base..unit.base + UNIT_RANGE).contains(&address);
        let unit = self.units.iter_mut().find(inside)?;
        let offset = (address - unit.base) as usize;
        Some((unit, offset))
    }

    /// Writes registers, and starts the unit if the host says so.
    pub(super) fn write(&mut self, address: u64, data: &[u8], memory: &Memory) {
        let behaviour = self.behaviour.clone();
        let Some((unit, offset)) = self.at(address) else { return };
        let Some(registers) = unit.registers.get_mut(offset..) else { return };
        let bytes = data.len().min(registers.len());
        registers[..bytes].copy_from_slice(&data[..bytes]);
        let starts = offset == 0 && data.first().is_some_and(|byte| u32::from(*byte) & START != 0);
        if starts && unit.control.load(Ordering::SeqCst) & START == 0 {
            unit.start(memory, &behaviour);
        }
    }

    /// The register at an address. Unlike real ones, `ap_done` stays until the next start.
    pub(super) fn read(&mut self, address: u64) -> [u8; 4] {
        match self.at(address) {
            Some((unit, 0)) => unit.control.load(Ordering::SeqCst).to_le_bytes(),
            Some((unit, offset)) => {
                let register = unit.registers.get(offset..offset + 4);
                register.and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; 4])
            }
            None => [0; 4],
        }
    }
}

impl Unit {
    fn start(&mut self, memory: &Memory, behaviour: &Behaviour) {
        self.control.store(START, Ordering::SeqCst);
        let name = &self.kernel.name;
        if behaviour.die.as_deref() == Some(name) {
            // SAFETY: ends this process, as it was asked to.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        let Some(function) = self.function else {
            eprintln!("software FPGA: the library has no kernel {name}");
            return;
        };
        if behaviour.hang.as_deref() == Some(name) {
            return;
        }
        let (mut words, mut blocks, mut longest) = (Vec::new(), Vec::new(), 0);
        for argument in &self.kernel.arguments {
            let at = argument.offset as usize;
            let bytes = if argument.is_buffer { 8 } else { 4 };
            let mut value = [0; 8];
            let Some(register) = self.registers.get(at..at + bytes) else { return };
            value[..bytes].copy_from_slice(register);
            let value = u64::from_le_bytes(value);
            if !argument.is_buffer {
                words.push(value);
                continue;
            }
            let Some(found) = memory.find(value) else {
                eprintln!("software FPGA: {name} is given {value:#x}, where no memory is");
                return;
            };
            longest = longest.max(room(&found));
            words.push(pointer(&found));
            blocks.push(found);
        }
        let least = behaviour
            .mhz
            .map(|mhz| Duration::from_nanos(longest.div_ceil(BYTES_PER_CLOCK) * 1000 / mhz));
        let control = self.control.clone();
        let kernel = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            let begun = Instant::now();
            call(function, &words);
            if let Some(least) = least {
                std::thread::sleep(least.saturating_sub(begun.elapsed()));
            }
            // The kernel has used them until now.
            drop(blocks);
            control.store(DONE | IDLE, Ordering::SeqCst);
        });
        if let Err(error) = kernel {
            eprintln!("software FPGA: no thread for {}: {error}", self.kernel.name);
        }
    }
}

/// Calls a function that takes as many integers or addresses. On the machines that this runs on,
/// each has a register or eight bytes of the stack to itself, whatever its width.
fn call(function: Function, words: &[u64]) {
    macro_rules! by_count {
        ($($count:literal: $($word:ident)*;)*) => {
            match *words {
                $([$($word),*] => {
                    type Called = unsafe extern "C" fn($(by_count!(@ $word)),*);
                    // SAFETY: the description that came with the library says that the function
                    // takes so many arguments.
                    let called = unsafe { std::mem::transmute::<*const (), Called>(function.0) };
                    // SAFETY: buffers are as long as the host has checked that the kernel needs.
                    unsafe { called($($word),*) }
                })*
                _ => eprintln!("software FPGA: a kernel with {} arguments", words.len()),
            }
        };
        (@ $word:ident) => { u64 };
    }
    by_count! {
        1: a; 2: a b; 3: a b c; 4: a b c d; 5: a b c d e; 6: a b c d e f; 7: a b c d e f g;
        8: a b c d e f g h; 9: a b c d e f g h i; 10: a b c d e f g h i j;
        11: a b c d e f g h i j k; 12: a b c d e f g h i j k l; 13: a b c d e f g h i j k l m;
        14: a b c d e f g h i j k l m n; 15: a b c d e f g h i j k l m n o;
        16: a b c d e f g h i j k l m n o p; 17: a b c d e f g h i j k l m n o p q;
        18: a b c d e f g h i j k l m n o p q r; 19: a b c d e f g h i j k l m n o p q r s;
        20: a b c d e f g h i j k l m n o p q r s t;
        21: a b c d e f g h i j k l m n o p q r s t u;
        22: a b c d e f g h i j k l m n o p q r s t u v;
        23: a b c d e f g h i j k l m n o p q r s t u v w;
        24: a b c d e f g h i j k l m n o p q r s t u v w x;
    }
}
