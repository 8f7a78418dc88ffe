use super::*;
use crate::testing::check;

/// Modes whose squared distance from the sample is nine variances and one to either side: at nine a
/// mode does not take the sample, and with a limit of nine it is no background.
#[test]
fn limits_are_met_alike() {
    let mut before = Vec::new();
    let mut src = Vec::new();
    for third in 2..=8_u8 {
        for (variance, is_above) in
            (0..6).map(|i| (u16::from(third).pow(2) * 16 + i / 2 - 1, i & 1))
        {
            let sample = 100 + third;
            let mean = if is_above == 1 { sample + 3 * third } else { sample - 3 * third };
            let mode = [20_000, u16::from(mean) * 128, variance];
            let state = [mode, [12_768, 128, 240], [0; 3]];
            before.extend(state.concat().into_iter().chain([0]).flat_map(u16::to_le_bytes));
            src.push(sample);
        }
    }
    let samples = src.len();
    let after = |limit: u32| {
        let mut after = vec![0; before.len()];
        let (inputs, outputs) = (vec![&before[..], &src[..]], vec![&mut after[..]]);
        let scalars = vec![samples as u32, 65, limit];
        reference(&mut CpuArgs { inputs, outputs, scalars, threads: 1 });
        after.chunks_exact(RECORD_BYTES).map(|state| word(state, 9)).collect::<Vec<_>>()
    };
    let masks = after(9);
    for (i, mask) in masks.into_iter().enumerate() {
        // The last two of six have the larger variance.
        assert_eq!(mask == 0, i % 6 >= 4, "sample {i}");
    }
    for limit in [8, 9, 10] {
        let scalars = [samples as u32, 65, limit];
        let items = Grid::Items(samples);
        check(|ids| launch(&KERNEL, &ids[..3], &scalars, items), &[before.clone(), src.clone()]);
    }
}
