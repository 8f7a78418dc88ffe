//! A call through the whole stack beside bare NATS request-reply on the same servers, the HTTP door
//! beside a bare server, events into a handler, one routing decision, and ten times too much load.
//!
//! Who answers bare requests runs in a process of its own, as a node does ([`echo`]). Ours and the
//! bare form take turns within the run, so that both see the same machine.

mod decide;
mod http;
mod overload;
mod peer;
mod sample;

use std::sync::Arc;
use std::time::Duration;

use ::bus::bare::Bare;
use ::bus::message::{SITE_HEADER, TIMEOUT_HEADER};
use ::bus::{Bus, Caller, Error, Headers, Kind, Registry, Subject, TierPath};
use bytes::Bytes;
use handlers::Digest;
use serde::{Deserialize, Serialize};

pub use self::http::{BARE_PATH, Door};
pub use self::overload::Overload;
pub use self::peer::Peer;
use self::sample::Sample;

/// How often ours and the bare form take turns.
const ROUNDS: u32 = 5;
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is sent and comes back.
const BODY: &[u8] = b"{\"id\":12345678,\"text\":\"a short request, as they are\",\"more\":[1,2]}";
/// Events that are on their way to the log at once.
const PUBLISHERS: usize = 64;
/// The handlers' code: answers a call with the call's own body, takes an event, burns time.
const COMPONENT: &str = include_str!("bus/component.wat");
const MANIFEST: &str = include_str!("bus/app.toml");
/// A script of two lines; ours is a fresh instance for each request.
const PEER: &str = "workerd over HTTP, 1 client";
/// The handler placed so many tiers above the edge.
const HANDLERS: [&str; 3] = ["edge", "region", "cloud"];

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// How long one measurement runs
    #[arg(long, default_value_t = 2_000)]
    pub budget_ms: u64,
    /// Clients that call at once, each with a connection of its own
    #[arg(long, default_value_t = 16)]
    pub clients: usize,
    /// Events that are published
    #[arg(long, default_value_t = 20_000)]
    pub events: u64,
}

/// A tree of three tiers, all its nodes and servers on this machine.
pub struct Stand {
    /// From the edge to the root.
    pub sites: Vec<Site>,
    /// Connections to the edge: at least one, and as many as there are clients.
    pub clients: Vec<Bus>,
    /// The edge's own HTTP door, and a bare server that answers with what it is sent: its door and
    /// its process.
    pub door: Door,
    pub bare_door: Door,
    pub bare: u32,
    /// A peer of the HTTP door, or why there is none.
    pub peer: Result<Peer, String>,
}

/// One site of it.
pub struct Site {
    pub path: TierPath,
    pub bus: Bus,
    /// The process of its node.
    pub node: u32,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What was done.
    pub what: String,
    /// How often per second.
    pub per_s: f64,
    /// Median and 99th percentile of one, in µs; none where many are done at once.
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    /// CPU time that the nodes, or who stands in their place, took for one, in µs.
    pub node_cpu_us: Option<f64>,
    /// Beside the bare form: how many times its median, and its rate.
    pub beside: Option<Beside>,
}

/// How ours stands to the bare form.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    pub p50: f64,
    pub rate: f64,
    /// What the median is more, in µs.
    pub extra_us: f64,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Threads of the machine.
    pub threads: usize,
    /// Processes that wanted to run, on average over the minute before the end.
    pub load: f64,
    pub lines: Vec<Line>,
    /// Of a handler that may run at the edge only, and of one that may run anywhere.
    pub overloads: Vec<Overload>,
}

/// Answers bare requests from a tree's edge, at each of its sites from the edge up, and serves
/// HTTP; tells `ready` the address of the latter. Ends never.
pub async fn echo(sites: &[Bus], ready: impl FnOnce(std::net::SocketAddr)) -> Result<(), Error> {
    let mut subscriptions = vec![];
    let edge = sites.first().ok_or_else(|| Error::Bad("a tree has sites".into()))?.site();
    for (hops, bus) in sites.iter().enumerate() {
        subscriptions.push(Bare::of(bus).echo(&Bare::subject(edge, hops)).await?);
    }
    let served = http::serve_bare(ready).await;
    served.map_err(|e| Error::local("the bare HTTP server", e))
}

/// Measures.
pub async fn run(options: &Options, stand: &Stand) -> Result<Report, Error> {
    register(stand).await?;
    let budget = Duration::from_millis(options.budget_ms);
    let mut lines = vec![];
    for hops in 0..stand.sites.len().min(HANDLERS.len()) {
        brought(stand, hops).await?;
        for clients in [1, options.clients.min(stand.clients.len())] {
            lines.extend(calls(stand, hops, clients, budget).await?);
        }
    }
    lines.extend(doors(stand, budget).await?);
    lines.push(events(stand, options.events, "tick", 0).await?);
    lines.push(events(stand, options.events, "climb", stand.sites.len() - 1).await?);
    lines.push(decide::measure(budget));
    let mut overloads = vec![];
    for function in overload::FUNCTIONS {
        overloads.push(overload::measure(stand, function, budget).await?);
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    Ok(Report { threads, load: crate::machine::load(), lines, overloads })
}

/// Registers the app of this bench.
async fn register(stand: &Stand) -> Result<(), Error> {
    let code = wat::parse_str(COMPONENT).map_err(|e| Error::local("the component", e))?;
    let digest = Digest::of(&code);
    let root = &stand.sites[stand.sites.len() - 1].bus;
    Registry::open(root).await?.put_code(digest.as_str(), code.into()).await?;
    let manifest = MANIFEST.replace("{code}", digest.as_str());
    let subject = Subject::new(Kind::Ctl, root.site(), "apps.apply").to_string();
    root.request(&subject, &Headers::new(), manifest, PATIENCE).await.map(|_| ())
}

fn function(hops: usize) -> String {
    format!("bench.{}", HANDLERS[hops])
}

async fn call(bus: &Bus, function: &str) -> Result<::bus::Response, Error> {
    let subject = Subject::new(Kind::Call, bus.site(), function).to_string();
    bus.request(&subject, &Headers::new(), BODY, PATIENCE).await
}

/// Calls until the site that is meant answers: the code has come to it.
async fn brought(stand: &Stand, hops: usize) -> Result<(), Error> {
    let wanted = stand.sites[hops].path.as_str();
    loop {
        let answer = call(&stand.clients[0], &function(hops)).await?;
        if answer.headers.get(SITE_HEADER).is_some_and(|site| site == wanted) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One hop's lines: bare requests; the same with a header each way, as a call has; calls by way of
/// the client's own site; calls by a client that stays, and so knows who serves it.
async fn calls(
    stand: &Stand,
    hops: usize,
    clients: usize,
    budget: Duration,
) -> Result<Vec<Line>, Error> {
    let buses = &stand.clients[..clients];
    let subject = Bare::subject(&stand.sites[0].path, hops);
    let name = function(hops);
    let mut samples: [Sample; 4] = Default::default();
    let [bare, headed, ours, direct] = &mut samples;
    let header = Headers::from([(TIMEOUT_HEADER.to_owned(), PATIENCE.as_millis().to_string())]);
    let callers: Vec<_> = buses.iter().map(|bus| Arc::new(Caller::new(bus.clone()))).collect();
    for _ in 0..ROUNDS {
        for (sample, headers) in [(&mut *bare, Headers::new()), (&mut *headed, header.clone())] {
            let turn = buses.iter().map(|bus| {
                let asked = Arc::new((Bare::of(bus), subject.clone(), headers.clone()));
                move || {
                    let asked = asked.clone();
                    async move {
                        let (bus, subject, headers) = &*asked;
                        let body = Bytes::from_static(BODY);
                        bus.request(subject, headers, body).await.map(|_| ())
                    }
                }
            });
            sample.run(turn, budget / ROUNDS, &[stand.bare]).await?;
        }
        let turn = buses.iter().map(|bus| {
            let (bus, name) = (bus.clone(), name.clone());
            move || {
                let (bus, name) = (bus.clone(), name.clone());
                async move { call(&bus, &name).await.map(|_| ()) }
            }
        });
        ours.run(turn, budget / ROUNDS, &nodes(stand)).await?;
        if hops == 0 {
            continue;
        }
        let turn = callers.iter().map(|caller| {
            let (caller, name) = (caller.clone(), name.clone());
            move || {
                let (caller, name) = (caller.clone(), name.clone());
                async move { call_directly(&caller, &name).await }
            }
        });
        direct.run(turn, budget / ROUNDS, &nodes(stand)).await?;
    }
    let name = |what: &str| format!("{what}, {hops} hops, {clients} clients");
    let whats = ["bare request", "bare with headers", "call", "call, way known"];
    let lines = samples.into_iter().zip(whats).map(|(sample, what)| sample.line(&name(what)));
    let mut lines: Vec<Line> = lines.take(if hops == 0 { 3 } else { 4 }).collect();
    let bare = lines[0].clone();
    lines[1..].iter_mut().for_each(|line| *line = line.clone().beside(&bare));
    Ok(lines)
}

async fn call_directly(caller: &Caller, function: &str) -> Result<(), Error> {
    let body = Bytes::from_static(BODY);
    caller.call(function, &Headers::new(), body, PATIENCE).await.map(|_| ())
}

fn nodes(stand: &Stand) -> Vec<u32> {
    stand.sites.iter().map(|site| site.node).collect()
}

/// The HTTP door beside a bare server and beside a peer, one client each.
async fn doors(stand: &Stand, budget: Duration) -> Result<Vec<Line>, Error> {
    let away = |e: std::io::Error| Error::local("HTTP", e);
    let mut doors = vec![
        ("bare axum, 1 client", &stand.bare_door, vec![stand.bare], Sample::default()),
        ("call over HTTP, 1 client", &stand.door, nodes(stand), Sample::default()),
    ];
    match &stand.peer {
        Ok(peer) => doors.push((PEER, &peer.door, vec![peer.pid()], Sample::default())),
        Err(why) => eprintln!("not measured: {PEER}: {why}"),
    }
    for _ in 0..ROUNDS {
        for (_, door, processes, sample) in &mut doors {
            let mut client = door.connect().await.map_err(away)?;
            let mut turn = sample.begin(processes);
            while turn.lasts() < budget / ROUNDS {
                let started = std::time::Instant::now();
                client.post(BODY).await.map_err(away)?;
                turn.note(started.elapsed());
            }
            turn.end();
        }
    }
    let lines = doors.into_iter().map(|(what, _, _, sample)| sample.line(what));
    let mut lines: Vec<Line> = lines.collect();
    let bare = lines[0].clone();
    lines[1..].iter_mut().for_each(|line| *line = line.clone().beside(&bare));
    Ok(lines)
}

/// Events published at the edge until a handler so many hops above has had all of them. The time of
/// all nodes up to there is counted.
async fn events(stand: &Stand, count: u64, topic: &str, hops: usize) -> Result<Line, Error> {
    let (edge, above) = (&stand.sites[0], &stand.sites[hops]);
    let before = handled(&above.bus, topic).await?;
    let on_the_way = &nodes(stand)[..=hops];
    let mut sample = Sample::default();
    let mut turn = sample.begin(on_the_way);
    let name = &format!("bench.{topic}");
    let subject = Subject::new(Kind::Ev, &edge.path, name).to_string();
    let publishers = (0..PUBLISHERS as u64).map(|first| {
        let (bus, subject) = (&stand.clients[first as usize % stand.clients.len()], &subject);
        async move {
            for _ in (first..count).step_by(PUBLISHERS) {
                let event = ::bus::Event::new(name, bus.site().as_str(), BODY)?;
                ::bus::event::publish_acked(bus, subject, &event, PATIENCE).await?;
            }
            Ok::<_, Error>(())
        }
    });
    futures::future::try_join_all(publishers).await?;
    while handled(&above.bus, topic).await? < before + count {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    turn.done(count);
    turn.end();
    Ok(sample.line(&format!("event, published and handled, {hops} hops")))
}

#[derive(Deserialize)]
struct Status {
    metrics: handlers::metrics::Snapshot,
}

async fn handled(bus: &Bus, handler: &str) -> Result<u64, Error> {
    let subject = Subject::new(Kind::Ctl, bus.site(), "status").to_string();
    let answer = bus.request(&subject, &Headers::new(), "", PATIENCE).await?;
    let status: Status =
        serde_json::from_slice(&answer.payload).map_err(|e| Error::Bad(e.to_string()))?;
    let name = format!("invocations bench/{handler}");
    Ok(status.metrics.counts.get(&name).copied().unwrap_or(0))
}

impl Line {
    fn beside(mut self, bare: &Line) -> Self {
        if let (Some(ours), Some(theirs)) = (self.p50_us, bare.p50_us) {
            let (p50, rate) = (ours / theirs, self.per_s / bare.per_s);
            self.beside = Some(Beside { p50, rate, extra_us: ours - theirs });
        }
        self
    }
}

/// The report as a table.
pub fn table(report: &Report) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    let head = ["what", "per second", "p50 µs", "p99 µs", "node CPU µs", "p50 beside bare", "rate"];
    table.set_header(head);
    let number = |n: Option<f64>| n.map_or(String::new(), |n| format!("{n:.1}"));
    for line in &report.lines {
        let (p50, rate) = line.beside.map_or_else(Default::default, |beside| {
            let Beside { p50, rate, extra_us } = beside;
            (format!("{p50:.2} ×, {extra_us:+.0} µs"), format!("{rate:.2} ×"))
        });
        let (what, per_s) = (line.what.clone(), format!("{:.0}", line.per_s));
        let cpu = number(line.node_cpu_us);
        table.add_row([what, per_s, number(line.p50_us), number(line.p99_us), cpu, p50, rate]);
    }
    let (threads, load) = (report.threads, report.load);
    let overloads: Vec<String> = report.overloads.iter().map(Overload::to_string).collect();
    format!("{threads} threads, load {load:.1}\n\n{table}\n\n{}", overloads.join("\n\n"))
}

#[cfg(test)]
mod tests;
