//! Which quantiser and kind the next picture gets. Pure: what was written goes in.

use kernels::h264::Coding;

use super::Settings;

/// Finer by so much are intra pictures, from which others are made.
const INTRA_FINER: u32 = 3;
const QP_MAX: u32 = 51;
/// Steps of the quantiser from one picture to the next.
const STEP_MAX: i32 = 4;
/// A picture's share of time, where times say nothing.
const PICTURE_US: i64 = 40_000;
const SECOND_US: i64 = 1_000_000;

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control {
    /// Pictures since the last intra one; that one is number 0.
    pub since_intra: u32,
    pub intra_count: u32,
    qp: u32,
    /// Bits above what the rate allows so far.
    debt: i64,
    pts_us: Option<i64>,
}

impl Control {
    /// The start of a stream of pictures of so many samples.
    pub fn new(settings: &Settings, samples: usize) -> Self {
        let qp = match settings.bitrate {
            0 => settings.qp,
            rate => first_qp(i64::from(rate) * PICTURE_US / SECOND_US, samples as i64),
        };
        Self { since_intra: 0, intra_count: 0, qp, debt: 0, pts_us: None }
    }

    /// How the next picture is coded.
    pub fn coding(&self, settings: &Settings) -> Coding {
        let intra = self.since_intra == 0;
        let qp = if intra { self.qp.saturating_sub(INTRA_FINER) } else { self.qp };
        Coding { qp, intra, deblock: settings.deblock, preset: settings.preset }
    }

    /// The state after a picture of so many bits.
    #[must_use]
    pub fn after(self, settings: &Settings, bits: usize, pts_us: i64) -> Self {
        let since_intra = (self.since_intra + 1) % settings.gop.max(1);
        let elapsed = self.pts_us.map_or(PICTURE_US, |last| pts_us.saturating_sub(last));
        let elapsed = elapsed.clamp(1000, SECOND_US);
        let (qp, debt) = match settings.bitrate {
            0 => (self.qp, 0),
            rate => self.follow(i64::from(rate), bits as i64, elapsed),
        };
        Self {
            since_intra,
            intra_count: self.intra_count.wrapping_add(u32::from(since_intra == 0)),
            qp,
            debt,
            pts_us: Some(pts_us),
        }
    }

    /// Debts are paid back within a second. Six steps of the quantiser are about half the bits.
    fn follow(&self, rate: i64, bits: i64, elapsed: i64) -> (u32, i64) {
        let earned = (rate * elapsed / SECOND_US).max(1);
        let debt = (self.debt + bits - earned).clamp(-rate, 4 * rate);
        let wanted = (earned - debt * elapsed / SECOND_US).max(earned / 8);
        // An intra picture says little of those after it.
        let step = match self.since_intra {
            0 if debt > 0 => 1,
            0 => 0,
            _ => step(bits, wanted),
        };
        ((self.qp as i32 + step).clamp(0, QP_MAX as i32) as u32, debt)
    }
}

/// By how many steps a picture was too large.
fn step(bits: i64, wanted: i64) -> i32 {
    // Sixteenths: a step is an eighth more, about.
    let share = 16 * bits / wanted.max(1);
    match share {
        0..8 => -2,
        8..14 => -1,
        14..19 => 0,
        19..24 => 1,
        24..40 => 2,
        _ => STEP_MAX,
    }
}

/// A tenth of a bit for each sample takes about 26; half of that six more.
fn first_qp(bits: i64, samples: i64) -> u32 {
    let tenths = 10 * bits.max(1);
    let (mut qp, mut at) = (26i32, samples.max(1));
    while at > tenths && qp < QP_MAX as i32 {
        at /= 2;
        qp += 6;
    }
    while at * 2 < tenths && qp > 6 {
        at *= 2;
        qp -= 6;
    }
    qp.clamp(0, QP_MAX as i32) as u32
}
