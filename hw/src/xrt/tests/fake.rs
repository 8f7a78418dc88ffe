//! A card that is only a table of buffers, and misbehaves when it is told to by what it is asked.

use std::collections::HashMap;
use std::time::Duration;

use super::super::wire::{Failure, Fault, Word};
use super::super::worker::{Card, Outcome};
use crate::shared::Part;

/// Buffers of this many bytes and more are refused.
pub const MEMORY_BYTES: usize = 64 << 20;
/// Factors of the suite's kernel that make the card hang, die, or fail.
pub const HANG: u32 = 0xFFFF_0001;
pub const DIE: u32 = 0xFFFF_0002;
pub const FAIL: u32 = 0xFFFF_0003;
pub const LOST: u32 = 0xFFFF_0004;

#[derive(Default)]
struct Fake {
    sleeps: bool,
    buffers: HashMap<u64, Vec<u8>>,
}

pub fn open(card: u32, xclbin: &str, _bank: u32) -> Outcome<(Box<dyn Card>, String)> {
    let fault = std::env::var("EDGESCALE_XRT_FAKE").unwrap_or_default();
    println!("a driver that prints, for card {card} and {xclbin}");
    match (card, fault.as_str()) {
        _ if xclbin.ends_with("broken.xclbin") => {
            Err(Failure::new(Fault::Failed, "it does not take the circuit"))
        }
        (_, "old") => Err(Failure::new(Fault::Driver, "XRT 2.1.0 is here, 2.8 is needed")),
        (_, "refuses") => Err(Failure::new(Fault::Failed, "it does not take the circuit")),
        (_, "dies") => std::process::abort(),
        (0..2, _) => {
            let sleeps = fault == "sleeps";
            Ok((Box::new(Fake { sleeps, ..Fake::default() }), "fake".to_string()))
        }
        _ => Err(Failure::new(Fault::Absent, "no card")),
    }
}

impl Fake {
    fn part(&mut self, slot: u64, at: usize, bytes: usize) -> &mut [u8] {
        &mut self.buffers.get_mut(&slot).expect("the host has checked")[at..at + bytes]
    }
}

impl Card for Fake {
    fn alloc(&mut self, slot: u64, bytes: usize) -> Outcome<()> {
        let held: usize = self.buffers.values().map(Vec::len).sum();
        if held + bytes > MEMORY_BYTES {
            return Err(Failure::new(Fault::NoMemory, "full"));
        }
        assert!(self.buffers.insert(slot, vec![0xEE; bytes]).is_none(), "slots are used once");
        Ok(())
    }

    fn free(&mut self, slot: u64) {
        self.buffers.remove(&slot).expect("freed once");
    }

    fn write(&mut self, slot: u64, offset: usize, from: Part<'_>) -> Outcome<()> {
        from.take(self.part(slot, offset, from.bytes()));
        Ok(())
    }

    fn read(&mut self, slot: u64, offset: usize, to: Part<'_>) -> Outcome<()> {
        to.put(self.part(slot, offset, to.bytes()));
        Ok(())
    }

    fn prepare(&mut self, _kernel: &str) -> Outcome<()> {
        if self.sleeps {
            std::thread::sleep(Duration::from_secs(3600));
        }
        Ok(())
    }

    fn launch(&mut self, kernel: &str, args: &[Word], _timeout_ms: u32) -> Outcome<u64> {
        assert_eq!(kernel, "scale_add");
        let [Word::Buffer(src), Word::Buffer(dst), Word::Number(count), Word::Number(factor)] =
            *args
        else {
            panic!("{args:?}")
        };
        match factor {
            HANG => std::thread::sleep(Duration::from_secs(3600)),
            DIE => std::process::abort(),
            FAIL => return Err(Failure::new(Fault::Failed, "as the test wants")),
            LOST => return Err(Failure::new(Fault::Lost, "as the test wants")),
            _ => {}
        }
        for i in 0..count as usize {
            let from = u32::from(self.buffers[&src][i]);
            self.part(dst, i, 1)[0] = from.wrapping_mul(factor).wrapping_add(i as u32) as u8;
        }
        Ok(1)
    }

    fn copy(&mut self, from: u64, to: u64, bytes: usize) -> Outcome<u64> {
        let data = self.part(from, 0, bytes).to_vec();
        self.part(to, 0, bytes).copy_from_slice(&data);
        Ok(1)
    }
}
