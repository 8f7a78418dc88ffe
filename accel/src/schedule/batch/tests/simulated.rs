//! Streams of frames before one device in simulated time, with the queue, the learned costs and the
//! batches of the engine. Costs are those recorded with PoCL and on the CPU of a test machine, 15 %
//! more or less. All random numbers come from a seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::super::super::{Costs, Decision, DeviceView, JobView, Prefer, schedule};
use super::*;
use crate::queue::{Queue, Rank};

/// What a submission takes, once and for each job.
#[derive(Debug, Clone, Copy)]
struct Recorded {
    what: &'static str,
    once_us: u64,
    each_us: u64,
}

const RECORDED: [Recorded; 4] = [
    Recorded { what: "OpenCL, 64x64", once_us: 71, each_us: 20 },
    Recorded { what: "OpenCL, 320x180", once_us: 110, each_us: 97 },
    // Made up.
    Recorded { what: "far away", once_us: 400, each_us: 250 },
    Recorded { what: "CPU, 320x180", once_us: 1, each_us: 21 },
];

/// When a stream sends.
#[derive(Debug, Clone, Copy)]
enum Sends {
    /// So many at first, and one more soon after each answer.
    Answered { depth: usize },
    /// At random times, so many microseconds apart on average.
    Random { apart_us: u64 },
}

#[derive(Debug, Clone)]
struct Stream {
    device: Recorded,
    tenant: &'static str,
    history: String,
    sends: Sends,
    slack_us: Option<u64>,
}

impl Stream {
    /// Streams of one recorded device send jobs of one plan.
    fn signature(&self) -> u64 {
        self.device.each_us
    }
}

struct Sent {
    stream: usize,
    number: u64,
    at_us: u64,
    cost_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Send(usize),
    Look,
    Done,
}

/// How a run went.
#[derive(Default)]
struct Ran {
    latencies_us: Vec<u64>,
    had_us: BTreeMap<&'static str, u64>,
    late: usize,
    refused: usize,
    batches: usize,
}

impl Ran {
    fn percentile_us(&self, percent: usize) -> u64 {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) * percent / 100]
    }

    fn mean_us(&self) -> f64 {
        self.latencies_us.iter().sum::<u64>() as f64 / self.latencies_us.len() as f64
    }

    fn jobs(&self) -> f64 {
        self.latencies_us.len() as f64
    }
}

struct Simulated<'a> {
    streams: &'a [Stream],
    len_max: usize,
    random: Random,
    now_us: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    events_len: u64,
    queue: Queue<Sent>,
    costs: Costs,
    running: Vec<Sent>,
    until_us: u64,
    began_us: u64,
    held_since: Option<u64>,
    sent: Vec<u64>,
    done: Vec<u64>,
    ran: Ran,
}

fn simulate(seed: u64, streams: &[Stream], len_max: usize, for_us: u64) -> Ran {
    let mut simulated = Simulated {
        streams,
        len_max,
        random: Random(seed),
        now_us: 0,
        events: BinaryHeap::new(),
        events_len: 0,
        queue: Queue::default(),
        costs: Costs::default(),
        running: Vec::new(),
        until_us: 0,
        began_us: 0,
        held_since: None,
        sent: vec![0; streams.len()],
        done: vec![0; streams.len()],
        ran: Ran::default(),
    };
    for (stream, Stream { sends, .. }) in streams.iter().enumerate() {
        let depth = if let Sends::Answered { depth } = sends { *depth } else { 1 };
        (0..depth).for_each(|_| simulated.soon(stream));
    }
    while let Some(Reverse((at_us, _, event))) = simulated.events.pop() {
        if at_us > for_us {
            break;
        }
        simulated.now_us = at_us;
        simulated.happens(event);
    }
    simulated.ran
}

impl Simulated<'_> {
    fn at(&mut self, at_us: u64, event: Event) {
        self.events_len += 1;
        self.events.push(Reverse((at_us, self.events_len, event)));
    }

    /// Whoever has an answer takes a moment to send again.
    fn soon(&mut self, stream: usize) {
        let think_us = 5 + self.random.below(25);
        self.at(self.now_us + think_us, Event::Send(stream));
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Send(stream) => self.send(stream),
            Event::Look => {}
            Event::Done => self.end(),
        }
        if self.running.is_empty() {
            self.look();
        }
    }

    fn send(&mut self, stream: usize) {
        let streams = self.streams;
        let Stream { sends, slack_us, tenant, .. } = &streams[stream];
        if let Sends::Random { apart_us } = sends {
            // Exponential, from a uniform number.
            let uniform = (1 + self.random.below(1 << 20)) as f64 / f64::from(1 << 20);
            let next_us = (-uniform.ln() * *apart_us as f64) as u64;
            self.at(self.now_us + next_us, Event::Send(stream));
        }
        let waits_us: u64 = self.queue.waiting().map(|sent| sent.cost_us).sum();
        let view = DeviceView {
            is_accelerator: true,
            quarantined_us: 0,
            is_warming: false,
            backlog_us: waits_us + self.until_us.saturating_sub(self.now_us),
            room: self.queue.room(),
        };
        let signature = streams[stream].signature();
        let job = JobView { signature, slack_us: *slack_us, ..JobView::default() };
        let Decision::Run { cost_us, .. } = schedule(&[view], &self.costs, &job, Prefer::Fastest)
        else {
            self.ran.refused += 1;
            return;
        };
        let deadline_us = slack_us.map_or(u64::MAX, |slack_us| self.now_us + slack_us);
        let rank = Rank { priority: 0, tenant: tenant.to_string(), deadline_us };
        self.sent[stream] += 1;
        let sent = Sent { stream, number: self.sent[stream], at_us: self.now_us, cost_us };
        assert!(self.queue.push(rank, sent).is_ok(), "there was room");
        if let Some(pace) = self.costs.pace(signature, 0) {
            pace.arrived(self.now_us);
        }
    }

    fn look(&mut self) {
        let (streams, now_us, held_since) = (self.streams, self.now_us, self.held_since);
        let order = self.queue.ordered();
        let Some((_, first)) = order.first() else { return };
        let signature = streams[first.stream].signature();
        let view = |(_, sent): &(usize, &Sent)| {
            let stream = &streams[sent.stream];
            let until = |slack_us: u64| (sent.at_us + slack_us).saturating_sub(now_us);
            Waiting {
                is_alike: stream.signature() == signature,
                slack_us: stream.slack_us.map(until),
                held_us: held_since.map_or(0, |since: u64| now_us - since.max(sent.at_us)),
                tenant: stream.tenant,
                served_us: self.queue.served_us(stream.tenant),
                cost_us: sent.cost_us,
                history: Some(&stream.history),
                ..JOB
            }
        };
        let waiting: Vec<Waiting<'_>> = order.iter().map(view).collect();
        let batch = match self.costs.pace(signature, 0) {
            Some(pace) => pace.next(&waiting, self.now_us, self.len_max),
            None => Batch::first(),
        };
        if batch.wait_us > 0 {
            self.held_since.get_or_insert(self.now_us);
            self.at(self.now_us + batch.wait_us, Event::Look);
            return;
        }
        self.held_since = None;
        let places: Vec<usize> = batch.places.iter().map(|place| order[*place].0).collect();
        self.running = self.queue.take(&places);
        let Recorded { once_us, each_us, .. } = self.streams[self.running[0].stream].device;
        let takes_us = once_us + each_us * self.running.len() as u64;
        self.began_us = self.now_us;
        self.until_us = self.now_us + takes_us * (85 + self.random.below(31)) / 100;
        self.ran.batches += 1;
        self.at(self.until_us, Event::Done);
    }

    fn end(&mut self) {
        let done = std::mem::take(&mut self.running);
        let took_us = self.now_us - self.began_us;
        let signature = self.streams[done[0].stream].signature();
        self.costs.learn_batch(signature, 0, done.len(), took_us);
        for sent in &done {
            let Stream { tenant, slack_us, sends, .. } = self.streams[sent.stream].clone();
            let share_us = took_us / done.len() as u64;
            self.queue.charge(tenant, share_us);
            *self.ran.had_us.entry(tenant).or_default() += share_us;
            let latency_us = self.now_us - sent.at_us;
            self.ran.latencies_us.push(latency_us);
            self.ran.late += usize::from(slack_us.is_some_and(|slack_us| latency_us > slack_us));
            self.done[sent.stream] += 1;
            assert_eq!(self.done[sent.stream], sent.number, "jobs of a stream stay in order");
            if let Sends::Answered { .. } = sends {
                self.soon(sent.stream);
            }
        }
    }
}

fn streams(device: Recorded, count: usize, sends: Sends) -> Vec<Stream> {
    let stream = |number| Stream {
        device,
        tenant: "one",
        history: format!("camera {number}"),
        sends,
        slack_us: None,
    };
    (0..count).map(stream).collect()
}

const SECOND_US: u64 = 1_000_000;

/// Runs the same without batches and with them.
fn both(seed: u64, streams: &[Stream]) -> [Ran; 2] {
    [1, BATCH_LEN_MAX].map(|len_max| simulate(seed, streams, len_max, 4 * SECOND_US))
}

fn told(what: &str, [without, with]: &[Ran; 2]) {
    println!(
        "{what}: {:.2} x the jobs, p50 {} us (was {}), p99 {} us (was {}), {:.1} jobs a batch",
        with.jobs() / without.jobs(),
        with.percentile_us(50),
        without.percentile_us(50),
        with.percentile_us(99),
        without.percentile_us(99),
        with.jobs() / with.batches as f64
    );
}

#[test]
fn streams_that_wait_for_answers_get_more_done() {
    for device in RECORDED {
        for count in [1, 2, 4, 16] {
            let ran = both(7, &streams(device, count, Sends::Answered { depth: 1 }));
            let what = format!("{}, {count} streams", device.what);
            told(&what, &ran);
            let [without, with] = &ran;
            let gain = with.jobs() / without.jobs();
            let p99 = with.percentile_us(99) as f64 / without.percentile_us(99) as f64;
            assert!(gain > 0.97 && p99 < 1.25, "{what}: {gain:.2} x the jobs, {p99:.2} x p99");
            if count == 1 {
                assert!(gain > 0.995, "{what}: a single stream waits for nobody");
            }
            if count == 2 && device.once_us > device.each_us {
                assert!(gain > 1.1, "{what}: {gain:.2} x the jobs");
            }
            let saved = device.once_us as f64 / (device.once_us + device.each_us) as f64;
            if count == 16 && saved > 0.25 {
                let could_be = 1.0 / (1.0 - saved * 15.0 / 16.0);
                assert!(gain > 0.8 * could_be, "{what}: {gain:.2} of {could_be:.2}");
            }
        }
    }
}

#[test]
fn streams_with_a_clock_of_their_own_are_not_later() {
    for device in RECORDED {
        for load_percent in [20, 50, 80, 95, 120] {
            let alone_us = device.once_us + device.each_us;
            let sends = Sends::Random { apart_us: 8 * alone_us * 100 / load_percent };
            let ran = both(11, &streams(device, 8, sends));
            let what = format!("{}, load of {load_percent} %", device.what);
            told(&what, &ran);
            let [without, with] = &ran;
            let mean = with.mean_us() / without.mean_us();
            assert!(mean < 1.03, "{what}: {mean:.2} x the time");
            // How many come is chance.
            assert!(with.jobs() >= 0.95 * without.jobs(), "{what}");
        }
    }
}

#[test]
fn no_more_deadlines_are_missed() {
    for device in RECORDED {
        for load_percent in [60, 90, 150] {
            let alone_us = device.once_us + device.each_us;
            let sends = Sends::Random { apart_us: 8 * alone_us * 100 / load_percent };
            let mut streams = streams(device, 8, sends);
            for (number, stream) in streams.iter_mut().enumerate() {
                stream.slack_us = Some(alone_us * (3 + number as u64));
            }
            let ran = both(13, &streams);
            let what = format!("{}, load of {load_percent} %, deadlines", device.what);
            let [without, with] = &ran;
            let share = |ran: &Ran| {
                let all = ran.jobs() + ran.refused as f64;
                [ran.late, ran.refused].map(|jobs| 100.0 * jobs as f64 / all)
            };
            let ([late, refused], [late_before, refused_before]) = (share(with), share(without));
            println!(
                "{what}: {late:.1} % late (was {late_before:.1}), \
                 {refused:.1} % refused (was {refused_before:.1})"
            );
            assert!(late + refused <= late_before + refused_before + 1.0, "{what}");
            assert!(late <= late_before + 1.0 && late <= 10.0, "{what}");
        }
    }
}

/// Tenants with work at all times, many jobs or few, of plans where batches pay and where not.
#[test]
fn tenants_have_as_much_of_the_device_as_each_other() {
    let tenants = [("many", 0, 12), ("few", 0, 3), ("others", 1, 6), ("small", 3, 4)];
    for seed in [1, 2, 3] {
        let mut all = Vec::new();
        for (tenant, device, count) in tenants {
            let mut own = streams(RECORDED[device], count, Sends::Answered { depth: 2 });
            for stream in &mut own {
                (stream.tenant, stream.history) = (tenant, format!("{tenant} {}", stream.history));
            }
            all.extend(own);
        }
        let [without, with] = both(seed, &all);
        let index = |ran: &Ran| {
            let had: Vec<f64> = ran.had_us.values().map(|us| *us as f64).collect();
            had.iter().sum::<f64>().powi(2)
                / (had.len() as f64 * had.iter().map(|had| had * had).sum::<f64>())
        };
        let (before, after) = (index(&without), index(&with));
        println!(
            "seed {seed}: Jain's index {after:.4} (was {before:.4}), {:.1} jobs a batch",
            with.jobs() / with.batches as f64
        );
        assert!(after >= 0.95, "seed {seed}: {after} of {:?}", with.had_us);
        assert!(with.jobs() >= without.jobs(), "seed {seed}");
    }
}
