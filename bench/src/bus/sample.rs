//! What was done how often, how long each took, and what CPU time it cost some processes.

use std::future::Future;
use std::time::{Duration, Instant};

use ::bus::Error;

use super::Line;
use crate::machine::cpu;

/// One measurement, made in turns.
#[derive(Default)]
pub(super) struct Sample {
    times: Vec<Duration>,
    count: u64,
    wall: Duration,
    cpu: Duration,
}

/// A turn under way.
pub(super) struct Turn<'a> {
    sample: &'a mut Sample,
    processes: &'a [u32],
    cpu_before: Duration,
    started: Instant,
}

impl Sample {
    /// Begins a turn in which these processes do the work.
    pub fn begin<'a>(&'a mut self, processes: &'a [u32]) -> Turn<'a> {
        let cpu_before = cpu(processes);
        Turn { sample: self, processes, cpu_before, started: Instant::now() }
    }

    /// One turn of clients that all do their work again and again, each on its own.
    pub async fn run<C, F>(
        &mut self,
        clients: impl Iterator<Item = C>,
        lasting: Duration,
        processes: &[u32],
    ) -> Result<(), Error>
    where
        C: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let mut turn = self.begin(processes);
        let tasks: Vec<_> =
            clients.map(|client| tokio::spawn(repeat(client, turn.started, lasting))).collect();
        for task in tasks {
            let times = task.await.map_err(|e| Error::local("a client", e))??;
            times.into_iter().for_each(|time| turn.note(time));
        }
        turn.end();
        Ok(())
    }

    pub fn line(mut self, what: &str) -> Line {
        self.times.sort_unstable();
        let us = |share: f64| {
            let at = (self.times.len() as f64 * share) as usize;
            self.times.get(at).map(|time| time.as_nanos() as f64 / 1e3)
        };
        let count = self.count.max(1) as f64;
        Line {
            what: what.to_owned(),
            per_s: self.count as f64 / self.wall.as_secs_f64(),
            p50_us: us(0.5),
            p99_us: us(0.99),
            node_cpu_us: (!self.cpu.is_zero()).then(|| self.cpu.as_nanos() as f64 / 1e3 / count),
            beside: None,
        }
    }
}

async fn repeat<C, F>(
    mut client: C,
    began: Instant,
    lasting: Duration,
) -> Result<Vec<Duration>, Error>
where
    C: FnMut() -> F,
    F: Future<Output = Result<(), Error>>,
{
    let mut times = vec![];
    while began.elapsed() < lasting {
        let started = Instant::now();
        client().await?;
        times.push(started.elapsed());
    }
    Ok(times)
}

impl Turn<'_> {
    pub fn lasts(&self) -> Duration {
        self.started.elapsed()
    }

    /// One more, which took so long.
    pub fn note(&mut self, took: Duration) {
        self.sample.times.push(took);
        self.sample.count += 1;
    }

    /// So many more, of which only the number is known.
    pub fn done(&mut self, count: u64) {
        self.sample.count += count;
    }

    pub fn end(self) {
        self.sample.wall += self.started.elapsed();
        self.sample.cpu += cpu(self.processes).saturating_sub(self.cpu_before);
    }
}
