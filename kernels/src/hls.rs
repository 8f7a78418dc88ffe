//! The forms of kernels for FPGA cards: HLS sources that the vendor's compiler makes a circuit of,
//! and a compiler of this machine the library that stands for one in emulation.
//!
//! `foo.cpp` beside `foo.cl` has the same kernels, with the same bits; what they share is in
//! headers, `rows.hpp` above all. A circuit may have some of them: a card says which.

use std::path::{Path, PathBuf};

use hw::Kernel;
use hw::xrt::Setup;
use hw::xrt::emulation::{Uncompiled, compile};
use hw::xrt::rehearsal::{self, Names};
use hw::xrt::xclbin::Xclbin;
use hw::xrt::xclbin::metadata::{Described, image};

/// Sources, by their paths in `src`, and the kernels in each.
pub static SOURCES: &[(&str, &[&str])] = &[
    ("absdiff.cpp", &["absdiff"]),
    ("bilateral.cpp", &["bilateral"]),
    ("blur.cpp", &["blur_across", "blur_down"]),
    ("boxes.cpp", &["boxes"]),
    ("component_table.cpp", &["component_sums", "component_table"]),
    (
        "components.cpp",
        &[
            "component_runs",
            "component_join",
            "component_roots",
            "component_count",
            "component_number",
            "component_labels",
        ],
    ),
    ("convert.cpp", &["yuv_rgb", "rgb_gray", "rgb_yuv"]),
    ("corners.cpp", &["corners"]),
    ("edges.cpp", &["sobel", "filter2d"]),
    ("gray.cpp", &["gray"]),
    ("h264/eight.cpp", &["h264_eight"]),
    ("h264/four.cpp", &["h264_four"]),
    ("h264/wide.cpp", &["h264_search", "h264_code", "h264_diagonal", "h264_pad"]),
    ("half.cpp", &["half_size"]),
    ("integral.cpp", &["integral_rows", "integral_columns"]),
    ("jpeg.cpp", &["jpeg"]),
    ("jpeg/inverse.cpp", &["jpeg_inverse"]),
    ("levels.cpp", &["histogram", "equaliser", "lookup"]),
    ("median.cpp", &["median"]),
    ("mix.cpp", &["mix_bytes"]),
    ("mog2.cpp", &["mog2"]),
    ("morph.cpp", &["morph_across", "morph_down"]),
    ("motion.cpp", &["motion"]),
    ("motion/diamond.cpp", &["motion_diamond"]),
    ("quality.cpp", &["square_sums", "ssim_blocks"]),
    ("rearrange.cpp", &["rearrange"]),
    ("regions.cpp", &["mosaic", "cover"]),
    ("resize.cpp", &["resize_down", "resize_across"]),
    ("scene.cpp", &["scene", "scene_shift"]),
    ("score.cpp", &["score"]),
    ("stamp.cpp", &["stamp", "overlay", "overlay_alpha"]),
    ("temporal.cpp", &["temporal"]),
    ("threshold.cpp", &["threshold"]),
    ("warp.cpp", &["warp"]),
];

/// Memory of the software FPGA.
const MEMORY_BYTES: u64 = 4 << 30;

/// The kernels that have such a form: all.
pub fn kernels() -> impl Iterator<Item = &'static Kernel> {
    let stems = || SOURCES.iter().flat_map(|(_, stems)| *stems);
    crate::entries().map(|entry| entry.kernel).filter(move |k| stems().any(|s| *s == k.stem))
}

/// Compiles all of them with the compiler of this machine, to an image for the software FPGA; those
/// that `lacks` names, by their stems, are left out of what it says it has. `library` is where the
/// circuit's code goes in between. Needs the sources of this checkout.
pub fn emulated(library: &Path, lacks: &[&str]) -> Result<Xclbin, Uncompiled> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources: Vec<PathBuf> = SOURCES.iter().map(|(name, _)| folder.join(name)).collect();
    compile(&sources, library)?;
    let code = std::fs::read(library).map_err(|e| Uncompiled::Refused(e.to_string()))?;
    let kernels: Vec<Described<'_>> = kernels()
        .filter(|kernel| !lacks.contains(&kernel.stem))
        .map(|kernel| Described { name: kernel.stem, params: kernel.params })
        .collect();
    Ok(image(&kernels, MEMORY_BYTES, code))
}

/// For tests: how to reach an emulated card with all of them but those that it `lacks`; `None`,
/// said aloud, where there is no XRT or no compiler.
pub fn rehearsed(names: Names, lacks: &[&str]) -> Option<Setup> {
    let folder = rehearsal::folder().unwrap_or_else(|error| panic!("no folder: {error}"));
    match emulated(&folder.with_extension("so"), lacks) {
        Ok(image) => rehearsal::setup(&image, names),
        Err(Uncompiled::NoCompiler) => {
            aloud::skipped!("no g++; install it with ./tools.sh test");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
