//! Encoders of H.264 that are not ours: those FFmpeg has on this machine, each as a device of its
//! own, on which kernels run natively on the CPU and streams are coded in a child process. What
//! their code does, it does to the child.
//!
//! A stream stays with the encoder that began it until its next picture stands alone anyway, or
//! that encoder fails: an encoder that takes over begins with a picture that stands alone.

mod coding;
mod units;
mod wire;
mod worker;

use std::path::PathBuf;

use kernels::h264::ENCODERS;
use serde::{Deserialize, Serialize};

use crate::Shape;
pub use worker::serve;
pub(crate) use worker::{Coder, Worker};

/// Who made an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Make {
    X264,
    OpenH264,
    Nvenc,
}

impl Make {
    pub const ALL: [Self; 3] = [Self::X264, Self::OpenH264, Self::Nvenc];

    /// As pipelines call it; also the id of its device.
    pub fn name(self) -> &'static str {
        ENCODERS[2 + self as usize]
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|make| make.name() == name)
    }

    /// As FFmpeg calls it.
    fn codec(self) -> &'static str {
        match self {
            Make::X264 => "libx264",
            Make::OpenH264 => "libopenh264",
            Make::Nvenc => "h264_nvenc",
        }
    }

    /// The shortest and the longest sides of pictures that it takes.
    fn sides(self) -> [(u32, u32); 2] {
        match self {
            Make::X264 => [(16, 16), (Shape::SIDE_MAX, Shape::SIDE_MAX)],
            Make::OpenH264 => [(16, 16), (3840, 2160)],
            Make::Nvenc => [(160, 64), (4096, 4096)],
        }
    }

    /// What is wrong with pictures of this shape, if it does not take them.
    pub(crate) fn refuses(self, shape: Shape) -> Option<String> {
        let [least, most] = self.sides();
        let fits =
            (least.0..=most.0).contains(&shape.width) && (least.1..=most.1).contains(&shape.height);
        (!fits).then(|| {
            format!(
                "{} takes pictures of {} x {} to {} x {}, not {} x {}",
                self.name(),
                least.0,
                least.1,
                most.0,
                most.1,
                shape.width,
                shape.height
            )
        })
    }
}

/// Who is to code a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// Our encoder, whatever the device: the same bytes everywhere.
    Edgescale,
    /// Whoever is expected to be done first.
    Auto,
    /// This one, or nobody.
    Make(Make),
}

impl By {
    /// By its name in a pipeline.
    pub(crate) fn named(name: &str) -> Self {
        match Make::named(name) {
            Some(make) => By::Make(make),
            None if name == ENCODERS[1] => By::Auto,
            None => By::Edgescale,
        }
    }
}

/// The program that is the child, with arguments: it calls [`tell`], or [`serve`] where one more
/// argument names the encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

/// An encoder that is here, as the child tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Found {
    make: Make,
    /// Library and version.
    driver: String,
}

/// In the child: tries every encoder on a picture and writes those that code it to `out` as JSON,
/// one a line.
pub fn tell(mut out: impl std::io::Write) -> std::io::Result<()> {
    for make in Make::ALL {
        if let Err(reason) = coding::try_out(make) {
            tracing::debug!(encoder = make.name(), reason, "is not offered");
            continue;
        }
        serde_json::to_writer(&mut out, &Found { make, driver: coding::driver() })?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

impl Program {
    /// A device for each encoder that a child finds. A child that fails finds none, with a warning.
    pub(crate) fn look(&self, cpu_threads: usize) -> Vec<Worker> {
        let Program { program, arguments } = self.clone();
        let text = hw::Probe { program, arguments }.ask().unwrap_or_else(|reason| {
            tracing::warn!(%reason, "looking for encoders failed; only our own is used");
            String::new()
        });
        let read = |line: &str| match serde_json::from_str::<Found>(line) {
            Ok(found) => Some(Worker::new(found.make, &found.driver, cpu_threads, self.start())),
            Err(error) => {
                tracing::warn!(%error, "an encoder is described in words that make no sense");
                None
            }
        };
        text.lines().filter_map(read).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests;
