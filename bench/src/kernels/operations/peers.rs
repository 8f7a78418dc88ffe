//! Others, each in a process of its own: OpenCV, FFmpeg's libraries and libjpeg-turbo through
//! Python; the crates `yuv` and `fast_image_resize` in a program that only `./tools.sh bench`
//! builds, so that ours does not grow by them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Pictures;
use super::pairs::Pair;

const OPENCV: &str = include_str!("opencv.py");
const FFMPEG: &str = include_str!("ffmpeg.py");
const TURBO: &str = include_str!("turbo.py");

/// Who does the same operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    OpenCv,
    Ffmpeg,
    Yuv,
    FastImageResize,
    LibjpegTurbo,
}

impl Peer {
    pub const ALL: [Self; 5] =
        [Self::OpenCv, Self::Ffmpeg, Self::Yuv, Self::FastImageResize, Self::LibjpegTurbo];

    pub fn name(self) -> &'static str {
        match self {
            Self::OpenCv => "OpenCV",
            Self::Ffmpeg => "FFmpeg",
            Self::Yuv => "yuv",
            Self::FastImageResize => "fast_image_resize",
            Self::LibjpegTurbo => "libjpeg-turbo",
        }
    }

    fn program(self, tools: &Path) -> Command {
        let script = match self {
            Self::OpenCv => OPENCV,
            Self::Ffmpeg => FFMPEG,
            Self::LibjpegTurbo => TURBO,
            Self::Yuv | Self::FastImageResize => {
                let mut program = Command::new(tools.join("bin/edgescale-bench-pictures"));
                program.arg(self.name());
                return program;
            }
        };
        let mut python = Command::new(tools.join("bin/python3"));
        python.env("PYTHONPATH", tools.join("opencv")).args(["-c", script]);
        python
    }

    /// The microseconds that it takes for each operation that it has, at best on one thread; why
    /// there are none.
    pub fn ask(
        self,
        pairs: &[Pair],
        pictures: &Pictures,
        budget: Duration,
        tools: &Path,
    ) -> Result<Vec<Option<f64>>, String> {
        let cases: Vec<&str> = pairs.iter().map(|pair| pair.cases[self as usize]).collect();
        let asked = serde_json::json!({
            "width": pictures.width, "height": pictures.height, "seconds": budget.as_secs_f64(),
            "pictures": pictures.file.path(), "cases": cases,
        });
        let mut program = self.program(tools);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let name = program.get_program().to_string_lossy().into_owned();
        let mut child = program.spawn().map_err(|error| format!("{name}: {error}"))?;
        if let Some(mut input) = child.stdin.take() {
            // A child that ends early has its reason on standard error.
            let _ = input.write_all(asked.to_string().as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(said.lines().last().unwrap_or("it failed").to_string());
        }
        // What one version of it lacks.
        eprint!("{said}");
        let times: Vec<Option<f64>> =
            serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
        match times.len() == pairs.len() {
            true => Ok(times),
            false => Err(format!("{} times for {} operations", times.len(), pairs.len())),
        }
    }
}
