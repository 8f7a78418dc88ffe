//! The workloads A to F of the Yahoo! Cloud Serving Benchmark, as a stream of operations from a
//! seed: what a store and its peers are asked, the same for all. Pure.

/// How unequal rows are in demand: the exponent that the benchmark prescribes.
const SKEW: f64 = 0.99;
/// Rows of the longest range that workload E reads.
const RANGE_ROWS_MAX: u64 = 100;

/// What to do next. Rows have numbers from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Read a row.
    Read(u64),
    /// Overwrite a row.
    Update(u64),
    /// Add a row behind the last one.
    Insert(u64),
    /// Read so many rows from one on.
    Range(u64, u64),
    /// Read a row, then overwrite it.
    Change(u64),
}

/// The workloads by letter, and what each is.
pub const WORKLOADS: [(char, &str); 6] = [
    ('A', "half reads, half updates"),
    ('B', "95 % reads, 5 % updates"),
    ('C', "reads"),
    ('D', "95 % reads of what is new, 5 % inserts"),
    ('E', "95 % short ranges, 5 % inserts"),
    ('F', "half reads, half read and update"),
];

/// A stream of operations.
#[derive(Debug)]
pub struct Workload {
    letter: char,
    rows: u64,
    zipf: Zipf,
    random: u64,
}

impl Workload {
    /// The workload of a letter on a table of so many rows.
    pub fn new(letter: char, rows: u64, seed: u64) -> Self {
        Workload { letter, rows, zipf: Zipf::new(rows), random: seed | 1 }
    }

    /// The next operation.
    pub fn next(&mut self) -> Operation {
        let percent = self.below(100);
        match self.letter {
            'A' if percent < 50 => Operation::Update(self.wanted()),
            'B' if percent < 5 => Operation::Update(self.wanted()),
            'D' | 'E' if percent < 5 => {
                self.rows += 1;
                Operation::Insert(self.rows - 1)
            }
            'D' => Operation::Read(self.rows - 1 - self.rank()),
            'E' => Operation::Range(self.wanted(), 1 + self.below(RANGE_ROWS_MAX)),
            'F' if percent < 50 => Operation::Change(self.wanted()),
            _ => Operation::Read(self.wanted()),
        }
    }

    /// A row, a few of which are wanted much, wherever they lie.
    fn wanted(&mut self) -> u64 {
        let mut rank = self.rank();
        // A mix of the bits, so that neighbours in demand are none in the table.
        rank = (rank ^ (rank >> 31)).wrapping_mul(0x7fb5_d329_728e_a185);
        rank = (rank ^ (rank >> 27)).wrapping_mul(0x81da_def4_bc2d_d44d);
        (rank ^ (rank >> 33)) % self.zipf.count
    }

    fn rank(&mut self) -> u64 {
        let unit = self.below(1 << 53) as f64 / (1u64 << 53) as f64;
        self.zipf.rank(unit)
    }

    /// A number below `n` (xorshift64).
    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % n
    }
}

/// Zipf's distribution over `0..count`, by the method of Gray and others (1994).
#[derive(Debug)]
struct Zipf {
    count: u64,
    sum: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64) -> Self {
        let sum_of = |n: u64| (1..=n).map(|i| (i as f64).powf(-SKEW)).sum::<f64>();
        let sum = sum_of(count);
        let alpha = 1.0 / (1.0 - SKEW);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - SKEW)) / (1.0 - sum_of(2) / sum);
        Zipf { count, sum, alpha, eta }
    }

    /// A rank from a number in `[0, 1)`.
    fn rank(&self, unit: f64) -> u64 {
        let scaled = unit * self.sum;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(SKEW) {
            return 1;
        }
        let rank = self.count as f64 * (self.eta * unit - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count - 1)
    }
}
