//! Ten times more calls than an edge, or all the tree, can answer: what is answered still, and what
//! the rest is told.

use std::fmt;
use std::time::{Duration, Instant};

use ::bus::message::{SITE_HEADER, TIMEOUT_HEADER};
use ::bus::{Bus, Error, Headers, Kind, RefusalKind, Subject};
use serde::{Deserialize, Serialize};

use super::{PATIENCE, Stand};

/// Handlers that burn time, one call at a time at each site: at the edge only, and anywhere.
pub(super) const FUNCTIONS: [&str; 2] = ["bench.work", "bench.wander"];
/// The time budget of a call, in ms.
const DEADLINE_MS: u64 = 500;
/// How long a site may take to get the code, where it may have it.
const CODE_PATIENCE: Duration = Duration::from_secs(2);
/// Clients that call one after another, to find the peak.
const CALM_CLIENTS: usize = 4;
/// How many times the peak is asked.
const TIMES: u32 = 10;

/// What became of ten times too many calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Overload {
    pub function: String,
    /// Calls answered per second by a few clients that wait for each answer.
    pub peak_per_s: f64,
    /// Calls made, and per second.
    pub offered: u64,
    pub offered_per_s: f64,
    /// Answered within their deadline, and per second.
    pub answered: u64,
    pub goodput_per_s: f64,
    /// The latter beside the peak.
    pub goodput: f64,
    /// Of the answers, those from above the edge.
    pub above: u64,
    /// Refused with a time after which to come back.
    pub refused: u64,
    /// Refused because the deadline passed.
    pub late: u64,
    /// Without an answer or a typed refusal.
    pub silent: u64,
    /// Median time until a refusal came, in µs.
    pub refusal_p50_us: f64,
}

enum Fate {
    Answered { here: bool },
    Refused(Duration),
    Late,
    Silent,
}

async fn call(bus: Bus, function: &str) -> Fate {
    let subject = Subject::new(Kind::Call, bus.site(), function).to_string();
    let headers = Headers::from([(TIMEOUT_HEADER.into(), DEADLINE_MS.to_string())]);
    let started = Instant::now();
    let answer = bus.request(&subject, &headers, "", PATIENCE).await;
    let in_time = started.elapsed() <= Duration::from_millis(DEADLINE_MS);
    match answer {
        Ok(answer) if in_time => {
            let site = answer.headers.get(SITE_HEADER);
            Fate::Answered { here: site.is_some_and(|site| site == bus.site().as_str()) }
        }
        Ok(_) => Fate::Late,
        Err(Error::Refused(refusal)) => match (refusal.kind, refusal.retry_after_ms) {
            (RefusalKind::Overloaded, Some(_)) => Fate::Refused(started.elapsed()),
            (RefusalKind::DeadlineExceeded, _) => Fate::Late,
            _ => Fate::Silent,
        },
        Err(_) => Fate::Silent,
    }
}

/// Finds the peak, then asks for ten times as much.
pub(super) async fn measure(
    stand: &Stand,
    function: &'static str,
    budget: Duration,
) -> Result<Overload, Error> {
    // The code comes, and the first runs are measured by the node.
    for site in &stand.sites {
        let (began, is_here) = (Instant::now(), async || {
            let fate = call(site.bus.clone(), function).await;
            // Who is above and may not run it answers nothing.
            matches!(fate, Fate::Answered { here: true })
        });
        while !is_here().await && began.elapsed() < CODE_PATIENCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let peak_per_s = peak(stand, function, budget).await?;
    let every = Duration::from_secs_f64(1.0 / (peak_per_s * f64::from(TIMES)));
    let began = Instant::now();
    let mut calls = vec![];
    while began.elapsed() < budget {
        // As many as are due: a timer that comes late must not lower the load.
        let due = (began.elapsed().as_secs_f64() / every.as_secs_f64()) as usize;
        while calls.len() <= due {
            let bus = stand.clients[calls.len() % stand.clients.len()].clone();
            calls.push(tokio::spawn(async move { call(bus, function).await }));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let offering = began.elapsed();
    let offered = calls.len() as u64;
    let (mut answered, mut above, mut late, mut silent, mut refusals) = (0, 0, 0, 0, vec![]);
    for fate in calls {
        match fate.await.map_err(|e| Error::local("a caller", e))? {
            Fate::Answered { here } => {
                answered += 1;
                above += u64::from(!here);
            }
            Fate::Refused(after) => refusals.push(after),
            Fate::Late => late += 1,
            Fate::Silent => silent += 1,
        }
    }
    let goodput_per_s = answered as f64 / began.elapsed().as_secs_f64();
    refusals.sort_unstable();
    let median = refusals.get(refusals.len() / 2).map_or(0.0, |time| time.as_nanos() as f64 / 1e3);
    Ok(Overload {
        function: function.to_owned(),
        peak_per_s,
        offered,
        offered_per_s: offered as f64 / offering.as_secs_f64(),
        answered,
        goodput_per_s,
        goodput: goodput_per_s / peak_per_s,
        above,
        refused: refusals.len() as u64,
        late,
        silent,
        refusal_p50_us: median,
    })
}

async fn peak(stand: &Stand, function: &'static str, budget: Duration) -> Result<f64, Error> {
    let began = Instant::now();
    let client = |at: usize| {
        let bus = stand.clients[at % stand.clients.len()].clone();
        tokio::spawn(async move {
            let mut answered = 0;
            while began.elapsed() < budget {
                let fate = call(bus.clone(), function).await;
                answered += u64::from(matches!(fate, Fate::Answered { .. }));
            }
            answered
        })
    };
    let clients: Vec<_> = (0..CALM_CLIENTS).map(client).collect();
    let mut answered = 0;
    for client in clients {
        answered += client.await.map_err(|e| Error::local("a caller", e))?;
    }
    Ok(answered as f64 / began.elapsed().as_secs_f64())
}

impl fmt::Display for Overload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "overload of {}: {:.0} calls a second are answered at the peak; of {:.0} a second \
             {:.0} ({:.0} %) within their {DEADLINE_MS} ms",
            self.function,
            self.peak_per_s,
            self.offered_per_s,
            self.goodput_per_s,
            self.goodput * 100.0
        )?;
        write!(
            f,
            "of {} calls {} were answered, {} of them above the edge, {} refused with a time to \
             come back (median after {:.0} µs), {} too late, {} without a word",
            self.offered,
            self.answered,
            self.above,
            self.refused,
            self.refusal_p50_us,
            self.late,
            self.silent
        )
    }
}
