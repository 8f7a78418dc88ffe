//! How many more bits one encoder takes than another for pictures as good (G. Bjontegaard,
//! "Calculation of average PSNR differences between RD-curves", VCEG-M33).

/// What four points are needed for: a cubic.
const POINTS: usize = 4;

/// A point of a curve of rate and distortion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Bits, bytes, or either in a second: the unit is that of the other curve.
    pub rate: f64,
    pub psnr_db: f64,
}

/// The mean of `tested`'s rate over `anchor`'s in percent, 0 where they are equal, negative where
/// `tested` takes less: over the range of PSNR that both reach, of cubics through four points each
/// of the logarithms of rates. `None` without four points each, where two points of a curve have
/// one PSNR, where a number is no rate, and where the curves have no range in common.
pub fn bd_rate_percent(anchor: &[Point], tested: &[Point]) -> Option<f64> {
    let (anchor, tested) = (Curve::new(anchor)?, Curve::new(tested)?);
    let (low, high) = (anchor.low().max(tested.low()), anchor.high().min(tested.high()));
    if low >= high {
        return None;
    }
    let percent = 100.0 * (tested.mean(low, high) - anchor.mean(low, high)).exp_m1();
    percent.is_finite().then_some(percent)
}

/// PSNR and the logarithm of the rate, from the lowest PSNR up.
struct Curve([(f64, f64); POINTS]);

impl Curve {
    fn new(points: &[Point]) -> Option<Self> {
        let points: [Point; POINTS] = points.try_into().ok()?;
        let mut points = points.map(|point| (point.psnr_db, point.rate.ln()));
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let is_curve = points.iter().all(|(psnr, rate)| psnr.is_finite() && rate.is_finite())
            && points.windows(2).all(|pair| pair[0].0 < pair[1].0);
        is_curve.then_some(Self(points))
    }

    fn low(&self) -> f64 {
        self.0[0].0
    }

    fn high(&self) -> f64 {
        self.0[POINTS - 1].0
    }

    /// The cubic through the points, as Lagrange has it.
    fn at(&self, psnr: f64) -> f64 {
        let weight = |i: usize| -> f64 {
            let others = (0..POINTS).filter(|j| *j != i).map(|j| self.0[j].0);
            others.map(|other| (psnr - other) / (self.0[i].0 - other)).product()
        };
        (0..POINTS).map(|i| self.0[i].1 * weight(i)).sum()
    }

    /// Its mean over a range: Simpson's rule is exact for cubics.
    fn mean(&self, low: f64, high: f64) -> f64 {
        (self.at(low) + 4.0 * self.at((low + high) / 2.0) + self.at(high)) / 6.0
    }
}

#[cfg(test)]
mod tests;
