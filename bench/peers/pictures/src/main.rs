//! The crates `yuv` and `fast_image_resize` on the pictures of the kernels' bench: prints the
//! microseconds of each operation at best, as JSON.
//!
//! `edgescale-bench-pictures NAME` reads `{"width", "height", "seconds", "pictures",
//! "cases"}` from standard input; `pictures` is a file of two gray pictures. One thread.

use std::error::Error;
use std::time::{Duration, Instant};

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde_json::Value;
use yuv::{
    BufferStoreMut, YuvBiPlanarImage, YuvBiPlanarImageMut, YuvConversionMode, YuvError,
    YuvGrayImageMut, YuvPackedImage, YuvPlanarImage, YuvPlanarImageMut, YuvRange,
    YuvStandardMatrix,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Of the chroma of every picture.
const CHROMA: u8 = 120;

struct Pictures {
    width: u32,
    height: u32,
    first: Vec<u8>,
    rgb: Vec<u8>,
    chroma: Vec<u8>,
    budget: Duration,
}

fn main() -> Result<()> {
    let peer = std::env::args().nth(1).unwrap_or_default();
    println!("{}", answer(&peer)?);
    Ok(())
}

/// Of what is asked on standard input.
fn answer(peer: &str) -> Result<Value> {
    let asked: Value = serde_json::from_reader(std::io::stdin())?;
    let number = |name: &str| asked[name].as_u64().ok_or(format!("no {name}"));
    let (width, height) = (number("width")? as u32, number("height")? as u32);
    let gray = std::fs::read(asked["pictures"].as_str().ok_or("no pictures")?)?;
    let (first, second) = gray.split_at((width * height) as usize);
    let pictures = Pictures {
        width,
        height,
        first: first.to_vec(),
        rgb: first.iter().zip(second).flat_map(|(a, b)| [*a, *b, *a]).collect(),
        chroma: vec![CHROMA; 2 * (width.div_ceil(2) * height.div_ceil(2)) as usize],
        budget: Duration::from_secs_f64(asked["seconds"].as_f64().ok_or("no seconds")?),
    };
    let cases = asked["cases"].as_array().ok_or("no cases")?;
    let times = cases.iter().map(|case| match (case.as_str().unwrap_or_default(), peer) {
        ("", _) => Ok(Value::Null),
        (case, "yuv") => pictures.converted(case).map(Value::from),
        (case, _) => pictures.resized(case).map(Value::from),
    });
    Ok(Value::from(times.collect::<Result<Vec<_>>>()?))
}

impl Pictures {
    fn best_us<E: std::error::Error + 'static>(
        &self,
        mut once: impl FnMut() -> std::result::Result<(), E>,
    ) -> Result<f64> {
        once()?;
        let (mut best, end) = (f64::MAX, Instant::now() + self.budget);
        while best == f64::MAX || Instant::now() < end {
            let start = Instant::now();
            once()?;
            best = best.min(start.elapsed().as_nanos() as f64 / 1000.0);
        }
        Ok(best)
    }

    /// By `yuv`, such as `nv12 rgb24`.
    fn converted(&self, case: &str) -> Result<f64> {
        let (width, height) = (self.width, self.height);
        let half = width.div_ceil(2);
        let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt601);
        let mode = YuvConversionMode::Balanced;
        let (cb, cr) = self.chroma.split_at(self.chroma.len() / 2);
        let pairs = YuvBiPlanarImage {
            y_plane: &self.first,
            y_stride: width,
            uv_plane: &self.chroma,
            uv_stride: 2 * half,
            width,
            height,
        };
        let planes = YuvPlanarImage {
            y_plane: &self.first,
            y_stride: width,
            u_plane: cb,
            u_stride: half,
            v_plane: cr,
            v_stride: half,
            width,
            height,
        };
        let yuy: Vec<u8> = match case.starts_with("uyvy") {
            true => self.first.iter().flat_map(|luma| [CHROMA, *luma]).collect(),
            false => self.first.iter().flat_map(|luma| [*luma, CHROMA]).collect(),
        };
        let packed = YuvPackedImage { yuy: &yuy, yuy_stride: 2 * width, width, height };
        let bytes = if case.ends_with("rgba") { 4 } else { 3 };
        let (mut to, stride) = (vec![0; (bytes * width * height) as usize], bytes * width);
        let to = &mut to[..];
        type Done = std::result::Result<(), YuvError>;
        match case {
            "nv12 rgb24" => self.best_us(|| -> Done {
                yuv::yuv_nv12_to_rgb(&pairs, to, stride, range, matrix, mode)
            }),
            "nv12 bgr24" => self.best_us(|| -> Done {
                yuv::yuv_nv12_to_bgr(&pairs, to, stride, range, matrix, mode)
            }),
            "nv12 rgba" => self.best_us(|| -> Done {
                yuv::yuv_nv12_to_rgba(&pairs, to, stride, range, matrix, mode)
            }),
            "nv21 rgb24" => self.best_us(|| -> Done {
                yuv::yuv_nv21_to_rgb(&pairs, to, stride, range, matrix, mode)
            }),
            "i420 rgb24" => self.best_us(|| -> Done {
                yuv::yuv420_to_rgb(&planes, to, stride, range, matrix)
            }),
            "yuyv rgb24" => self.best_us(|| -> Done {
                yuv::yuyv422_to_rgb(&packed, to, stride, range, matrix)
            }),
            "uyvy rgb24" => self.best_us(|| -> Done {
                yuv::uyvy422_to_rgb(&packed, to, stride, range, matrix)
            }),
            "rgb24 i420" => {
                let (luma, chroma) = to.split_at_mut((width * height) as usize);
                let (cb, cr) = chroma[..self.chroma.len()].split_at_mut(self.chroma.len() / 2);
                let mut made = YuvPlanarImageMut {
                    y_plane: BufferStoreMut::Borrowed(luma),
                    y_stride: width,
                    u_plane: BufferStoreMut::Borrowed(cb),
                    u_stride: half,
                    v_plane: BufferStoreMut::Borrowed(cr),
                    v_stride: half,
                    width,
                    height,
                };
                self.best_us(|| -> Done {
                    yuv::rgb_to_yuv420(&mut made, &self.rgb, 3 * width, range, matrix, mode)
                })
            }
            "rgb24 nv12" => {
                let (luma, chroma) = to.split_at_mut((width * height) as usize);
                let mut made = YuvBiPlanarImageMut {
                    y_plane: BufferStoreMut::Borrowed(luma),
                    y_stride: width,
                    uv_plane: BufferStoreMut::Borrowed(&mut chroma[..self.chroma.len()]),
                    uv_stride: 2 * half,
                    width,
                    height,
                };
                self.best_us(|| -> Done {
                    yuv::rgb_to_yuv_nv12(&mut made, &self.rgb, 3 * width, range, matrix, mode)
                })
            }
            "rgb24 gray" => {
                let luma = &mut to[..(width * height) as usize];
                let y_plane = BufferStoreMut::Borrowed(luma);
                let mut made = YuvGrayImageMut { y_plane, y_stride: width, width, height };
                let range = YuvRange::Full;
                self.best_us(|| -> Done {
                    yuv::rgb_to_yuv400(&mut made, &self.rgb, 3 * width, range, matrix)
                })
            }
            other => Err(format!("yuv does no {other}").into()),
        }
    }

    /// By `fast_image_resize`, such as `rgb24 2/3 bilinear`.
    fn resized(&self, case: &str) -> Result<f64> {
        let words: Vec<&str> = case.split(' ').collect();
        let [pixels, size, filter] = words[..] else { return Err(format!("no {case}").into()) };
        let side = |side: u32| if size == "1/2" { side / 2 } else { side * 2 / 3 };
        let (kind, data) = match pixels {
            "gray" => (PixelType::U8, &self.first),
            _ => (PixelType::U8x3, &self.rgb),
        };
        // With kernels of a fixed size, as OpenCV and we have them.
        let algorithm = match filter {
            "nearest" => ResizeAlg::Nearest,
            "bilinear" => ResizeAlg::Interpolation(FilterType::Bilinear),
            "bicubic" => ResizeAlg::Interpolation(FilterType::CatmullRom),
            "lanczos" => ResizeAlg::Interpolation(FilterType::Lanczos3),
            "box" => ResizeAlg::Convolution(FilterType::Box),
            other => return Err(format!("no filter {other}").into()),
        };
        let from = ImageRef::new(self.width, self.height, data, kind)?;
        let mut to = Image::new(side(self.width), side(self.height), kind);
        let (mut resizer, options) = (Resizer::new(), ResizeOptions::new().resize_alg(algorithm));
        self.best_us(|| resizer.resize(&from, &mut to, &options))
    }
}
