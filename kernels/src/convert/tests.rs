use hw::{Command, CpuArgs};

use super::*;
use crate::testing::each_unit;

const SIDE: u32 = 4096;

/// Every form of this machine against the reference, over pictures of every colour: too large for
/// devices that are emulated.
fn check_natively(
    kernel: &Kernel,
    reference: fn(&mut CpuArgs<'_>),
    command: Command,
    source: &[u8],
) {
    let Command::Launch(launch) = command else { panic!("a launch") };
    let scalars = launch.scalars();
    let bytes = (kernel.bytes_needed)(&scalars).expect("possible sizes")[1];
    let run = |form: fn(&mut CpuArgs<'_>)| {
        let mut made = vec![0; bytes];
        let (inputs, outputs) = (vec![source], vec![&mut made[..]]);
        form(&mut CpuArgs { inputs, outputs, scalars: scalars.clone(), threads: 1 });
        made
    };
    let expected = run(reference);
    each_unit(|| {
        let made = run(kernel.cpu);
        let wrong = made.iter().zip(&expected).position(|(made, expected)| made != expected);
        assert_eq!(wrong, None, "{} with {:?}: {scalars:?}", kernel.stem, unit());
    });
}

#[test]
fn every_colour_of_rgb_gives_the_same_bits() {
    let source: Vec<u8> = (0..SIDE * SIDE).flat_map(u32::to_le_bytes).collect();
    for (is_709, range) in [(false, Range::Limited), (true, Range::Full)] {
        let shape = Shape { range, ..Shape::full(SIDE, SIDE, PixelFormat::I420) };
        let planes = yuv(shape).unwrap();
        let buffers = [BufferId(0), BufferId(1)];
        let command = from_rgb::yuv_command(buffers, shape, planes, (4, 0), is_709, 0);
        check_natively(&RGB_YUV, from_rgb::yuv_reference, command, &source);
    }
    let command = from_rgb::gray_command([0, 1].map(BufferId), [SIDE, SIDE], (4, 0), [0, 0]);
    check_natively(&RGB_GRAY, from_rgb::gray_reference, command, &source);
}

/// Each pair of chroma stands 64 times, for all luma.
#[test]
fn every_colour_of_yuv_gives_the_same_bits() {
    let half = SIDE / 2;
    let luma = (0..SIDE * SIDE).map(|i| {
        let (x, y) = (i % SIDE, i / SIDE);
        ((y / 2 * half + x / 2) % 64 * 4 + y % 2 * 2 + x % 2) as u8
    });
    let chroma = (0..half * half).flat_map(|i| [(i / 64) as u8, (i >> 14) as u8]);
    let source: Vec<u8> = luma.chain(chroma).collect();
    for (is_709, range) in [(false, Range::Limited), (true, Range::Full)] {
        let shape = Shape { range, ..Shape::full(SIDE, SIDE, PixelFormat::Nv12) };
        let (buffers, factors) = ([0, 1].map(BufferId), to_rgb(is_709, range));
        let command = yuv_rgb_command(buffers, shape, PixelFormat::Rgb24, factors, 0).unwrap();
        check_natively(&YUV_RGB, yuv_rgb_reference, command, &source);
    }
}
