//! The circuits of a card: what their files say, and one put in place of another.

use std::path::{Path, PathBuf};

use super::wire::Request;
use super::xclbin::metadata::Kernel as Built;
use super::xclbin::{FILE_BYTES_MAX, Mode, Xclbin};
use super::{State, XrtDevice, locked};
use crate::device::{Circuit, Device, Error, Result, no_circuit};

/// What is known of a circuit without a card.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub path: PathBuf,
    pub mode: Mode,
    pub platform: String,
    pub kernels: Vec<Built>,
    pub bank: u32,
    pub memory_bytes: u64,
}

impl Image {
    fn read(path: &Path) -> std::result::Result<Self, String> {
        let length = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
        if length > FILE_BYTES_MAX as u64 {
            return Err(format!("{length} bytes, at most {FILE_BYTES_MAX}"));
        }
        let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
        let file = Xclbin::read(&bytes).map_err(|bad| bad.to_string())?;
        Ok(Self {
            path: path.to_owned(),
            mode: file.mode,
            platform: file.platform.clone(),
            kernels: file.kernels().map_err(|bad| bad.to_string())?,
            bank: file.bank().map_err(|bad| bad.to_string())?,
            memory_bytes: file.memory_bytes(),
        })
    }

    /// Compute units in all.
    pub fn units(&self) -> u32 {
        self.kernels.iter().map(|kernel| kernel.units.len()).sum::<usize>().max(1) as u32
    }

    /// Its name is that of the file.
    pub fn described(&self) -> Circuit {
        let stem = self.path.file_stem().unwrap_or_default();
        Circuit {
            name: stem.to_string_lossy().into_owned(),
            kernels: self.kernels.iter().map(|kernel| kernel.name.clone()).collect(),
        }
    }

    /// Why a card that has one of them cannot be given the other.
    fn conflict(&self, other: &Self) -> Option<String> {
        let (own, others) = (&self.platform, &other.platform);
        if own != others || self.mode != other.mode {
            let path = other.path.display();
            return Some(format!("it is for {own:?}, {path} for {others:?}"));
        }
        (self.described().name == other.described().name)
            .then(|| format!("{} has the same name", other.path.display()))
    }
}

/// The circuits in these files; those that are of no use with the ones before are left out, with a
/// warning.
pub(super) fn images(paths: &[PathBuf]) -> Vec<Image> {
    let mut images: Vec<Image> = Vec::new();
    for path in paths {
        let read = Image::read(path).and_then(|image| {
            match images.iter().find_map(|other| image.conflict(other)) {
                Some(reason) => Err(reason),
                None => Ok(image),
            }
        });
        match read {
            Ok(image) => images.push(image),
            Err(reason) => {
                tracing::warn!(%reason, xclbin = %path.display(), "a circuit is not used");
            }
        }
    }
    images
}

/// A buffer on its way from one circuit to the next.
struct Kept {
    slot: u64,
    capacity: usize,
    data: Vec<u8>,
}

impl XrtDevice {
    /// Ends the worker with its circuit and starts one with the other: nothing of a driver's state
    /// is carried over but what buffers hold.
    pub(super) fn change(&self, state: &mut State, circuit: usize) -> Result<()> {
        let Some(image) = self.images.get(circuit) else {
            return Err(no_circuit(self.info(), circuit));
        };
        if circuit == state.circuit {
            return Ok(());
        }
        let device = self.info().id.clone();
        if !state.times_ns.is_empty() {
            let detail = "work is pending, finish first".to_string();
            return Err(Error::Failed { device, detail });
        }
        let kept = self.kept(state)?;
        state.link = None;
        state.buffers.give_back();
        locked(&state.dropped).clear();
        let before = std::mem::replace(&mut state.circuit, circuit);
        self.refill(state, kept).map_err(|error| {
            state.lose();
            state.circuit = before;
            let detail = format!("circuit {}: {error}", image.path.display());
            Error::Lost { device, detail }
        })
    }

    fn kept(&self, state: &mut State) -> Result<Vec<Kept>> {
        let held = state.buffers.all();
        let held: Vec<_> = held.map(|h| (h.memory.number, h.capacity, h.bytes)).collect();
        let read = |(slot, capacity, bytes)| {
            let mut data = vec![0; bytes];
            self.get(state, slot, 0, &mut data)?;
            Ok(Kept { slot, capacity, data })
        };
        held.into_iter().map(read).collect()
    }

    fn refill(&self, state: &mut State, kept: Vec<Kept>) -> Result<()> {
        // Where there is nothing to fill, the circuit is loaded all the same.
        self.ask(state, &mut |link| link.ask_soon(&Request::Free { slots: Vec::new() }))?;
        for Kept { slot, capacity, data } in kept {
            let request = Request::Alloc { slot, bytes: capacity };
            self.ask(state, &mut |link| link.ask_soon(&request))?;
            self.put(state, slot, 0, &data)?;
        }
        Ok(())
    }
}
