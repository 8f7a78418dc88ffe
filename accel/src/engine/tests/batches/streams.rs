//! Streams that send the next frame when they have the answer to the last: with batches and without
//! they get the same. `EDGESCALE_STREAMS_MS` makes each case last so long, and prints its figures.

use super::super::card;
use super::*;

/// A device by its verbs, without a submission of its own.
struct Plain(Arc<dyn Device>);

impl Around for Plain {
    fn inner(&self) -> &dyn Device {
        &*self.0
    }
}

/// How jobs reach the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// One by one, each with several round trips.
    Verbs,
    /// One by one, each as a submission.
    Alone,
    Together,
}

const WAYS: [Way; 3] = [Way::Verbs, Way::Alone, Way::Together];

fn started(device: &Arc<dyn Device>, way: Way) -> Arc<EdgeAccelerate> {
    let (device, len_max) = match way {
        Way::Verbs => (Arc::new(Plain(device.clone())) as Arc<dyn Device>, 1),
        Way::Alone => (device.clone(), 1),
        Way::Together => (device.clone(), BATCH_LEN_MAX),
    };
    let limits = Limits { batch_len_max: len_max, ..Limits::default() };
    let engine = EdgeAccelerate::start_sharing(
        vec![device],
        vec![],
        Prefer::Accelerator,
        Turns::Alone,
        limits,
    );
    Arc::new(engine.unwrap())
}

fn filters() -> Pipeline {
    let names = ["frame", "gray", "half", "sobel", "threshold"];
    let step = |pair: &[&str]| Step::new(op(pair[1], "{}"), &[pair[0]], pair[1]);
    let steps = names.windows(2).map(step).collect();
    Pipeline { steps, returns: vec!["threshold".to_string()] }
}

struct Case {
    size: (u32, u32),
    streams: u64,
    least: Duration,
    jobs_min: usize,
}

/// Microseconds of each job, and how long all took.
fn run(engine: &Arc<EdgeAccelerate>, case: &Case, expected: &[Value]) -> (Vec<u64>, Duration) {
    let start = Instant::now();
    let (least, jobs_min, (width, height)) = (case.least, case.jobs_min, case.size);
    let frames: Vec<Frame> =
        (0..expected.len() as u64).map(|n| moving_square(width, height, n)).collect();
    let stream = |number: usize| {
        let (engine, expected, frames) = (engine.clone(), expected.to_vec(), frames.clone());
        let (start, least, jobs_min) = (start, least, jobs_min);
        async move {
            let mut times_us = Vec::new();
            while times_us.len() < jobs_min || start.elapsed() < least {
                let index = (number + times_us.len()) % expected.len();
                let job = Job::new(filters(), frames[index].clone());
                let begin = Instant::now();
                let output = engine.run(job).await.unwrap();
                times_us.push(begin.elapsed().as_micros() as u64);
                assert!(output.values["threshold"] == expected[index], "frame {index}");
            }
            times_us
        }
    };
    block_on(async {
        let streams = 0..case.streams as usize;
        let streams: Vec<_> = streams.map(|number| tokio::spawn(stream(number))).collect();
        let mut times_us = Vec::new();
        for stream in streams {
            times_us.extend(stream.await.unwrap());
        }
        (times_us, start.elapsed())
    })
}

/// Jobs in a second, the median and the 99th percentile of their microseconds, and how many went
/// together.
fn measure(engine: &Arc<EdgeAccelerate>, case: &Case, expected: &[Value]) -> [f64; 4] {
    let before = engine.devices().remove(0);
    let (mut times_us, took) = run(engine, case, expected);
    let after = engine.devices().remove(0);
    times_us.sort_unstable();
    let at = |percent: usize| times_us[(times_us.len() - 1) * percent / 100] as f64;
    let jobs = times_us.len() as f64;
    let batches = (after.batches - before.batches) as f64;
    [jobs / took.as_secs_f64(), at(50), at(99), jobs / batches]
}

fn median(rounds: &[[f64; 4]], column: usize) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(device: &Arc<dyn Device>, case: &Case, rounds: usize) {
    let (width, height) = case.size;
    let expected = (0..3).map(|n| Job::new(filters(), moving_square(width, height, n)));
    let expected: Vec<Value> = expected.filter_map(|job| alone(job).remove("threshold")).collect();
    let engines = WAYS.map(|way| started(device, way));
    // A kernel's first runs try sizes of groups, and the first submissions teach what they take.
    engines.iter().for_each(|engine| drop(run(engine, case, &expected)));
    let mut measured = WAYS.map(|_| Vec::new());
    for _ in 0..rounds {
        for (engine, rounds) in engines.iter().zip(&mut measured) {
            rounds.push(measure(engine, case, &expected));
        }
    }
    for (way, rounds) in WAYS.into_iter().zip(&measured) {
        let [rate, p50, p99, together] = [0, 1, 2, 3].map(|column| median(rounds, column));
        println!(
            "{}, {width}x{height}, {:2} streams, {way:?}: {rate:.0} jobs/s, p50 {p50:.0} us, \
             p99 {p99:.0} us, {together:.1} jobs a batch",
            device.info().id,
            case.streams
        );
    }
}

#[test]
fn streams_get_the_same_with_batches() {
    let ms = std::env::var("EDGESCALE_STREAMS_MS").ok().and_then(|ms| ms.parse::<u64>().ok());
    let (rounds, jobs_min) = if ms.is_some() { (5, 60) } else { (1, 5) };
    let least = Duration::from_millis(ms.unwrap_or(0)) / rounds / WAYS.len() as u32;
    let mut devices = hw::discover(&hw::Config::default());
    if devices.len() == 1 {
        aloud::skipped!("no OpenCL device");
    }
    devices.extend(card::device("").map(|card| Arc::new(card) as Arc<dyn Device>));
    for device in devices {
        for size in [(64, 64), (320, 180)] {
            for streams in [1, 4, 16] {
                compare(&device, &Case { size, streams, least, jobs_min }, rounds as usize);
            }
        }
    }
}
