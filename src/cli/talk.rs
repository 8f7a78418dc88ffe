//! The commands that talk to a running tree.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bus::message::{KEY_HEADER, ROUTE_HEADER, SITE_HEADER};
use bus::{Bus, Event, Headers, Kind, RefusalKind, Subject};
use clap::{Args, Subcommand};
use handlers::Manifest;
use handlers::deploy::Registered;
use handlers::stream::{Pace, State, Status};
use serde_json::{Value, json};

use super::output::{Output, duration_us, plain, table};
use crate::context::Site;
use crate::node::client;
use crate::node::report::{Brief, Report};

#[derive(Args)]
pub struct Body {
    /// The body; `-` or nothing reads standard input when it is a pipe
    body: Option<String>,
    /// Take the body from a file
    #[arg(short, long, conflicts_with = "body")]
    file: Option<PathBuf>,
}

impl Body {
    fn read(&self) -> Result<Vec<u8>> {
        use std::io::IsTerminal;
        if let Some(file) = &self.file {
            return std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        }
        match self.body.as_deref() {
            Some("-") => {}
            Some(body) => {
                if let Some(why) = broken_json(body) {
                    eprintln!("the body goes as text: it begins like JSON and is none, {why}");
                }
                return Ok(body.into());
            }
            None if std::io::stdin().is_terminal() => return Ok(vec![]),
            None => {}
        }
        let mut body = vec![];
        std::io::stdin().read_to_end(&mut body)?;
        Ok(body)
    }
}

/// Why a body that begins like JSON is none; a quote that a shell took away, as a rule.
fn broken_json(body: &str) -> Option<serde_json::Error> {
    let begins = body.trim_start().starts_with(['{', '[']);
    begins.then(|| serde_json::from_str::<serde::de::IgnoredAny>(body).err())?
}

#[derive(Args)]
pub struct Publish {
    /// APP.NAME, as in `doorcam.motion`
    event: String,
    #[command(flatten)]
    body: Body,
    /// The event's id; a second event of the same id is dropped
    #[arg(long)]
    id: Option<String>,
    /// A site below this one that the event is for
    #[arg(long, value_name = "SITE")]
    to: Option<bus::TierPath>,
    /// The body's media type
    #[arg(long, default_value = "application/json")]
    content_type: String,
    /// How long storing it may take, large bodies with all their parts, in ms
    #[arg(long, default_value_t = 30_000)]
    timeout_ms: u64,
}

#[derive(Args)]
pub struct Invoke {
    /// APP.FUNCTION, as in `doorcam.summary`
    function: String,
    #[command(flatten)]
    body: Body,
    /// How long the answer may take, in ms
    #[arg(long, default_value_t = 5_000)]
    timeout_ms: u64,
    /// An idempotency key: asked again with it, the site gives the first answer
    #[arg(long)]
    key: Option<String>,
}

#[derive(Subcommand)]
pub enum Stream {
    /// Open a stream of an app at a site
    Open {
        /// The app's name
        app: String,
        /// The stream's name in the manifest
        stream: String,
        /// A video file or a URL
        source: String,
        /// Hand frames on as fast as they are handled
        #[arg(long)]
        fast: bool,
        /// Wait until the stream ends
        #[arg(long)]
        wait: bool,
    },
    /// List the streams of an app at a site
    Ls {
        /// The app's name
        app: String,
    },
    /// Close a stream
    Close {
        /// The app's name
        app: String,
        /// The stream's id, as `ls` shows it
        id: String,
    },
}

/// `edgescale tree`
pub async fn tree(site: &Site, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    let brief = client::tree(&bus).await?;
    out.show(&brief, |brief| {
        let mut rows = vec![];
        tree_rows(brief, 0, &mut rows);
        let heading = [
            "SITE",
            "CLASS",
            "LINK",
            "LOAD",
            "DEVICES",
            "APPS",
            "INVOCATIONS",
            "HTTP",
            "UP",
            "VERSION",
        ];
        table(&heading, rows)
    })
}

fn tree_rows(brief: &Brief, depth: usize, rows: &mut Vec<Vec<String>>) {
    let link = match (&brief.link, brief.heard_ms_ago) {
        (_, silent_ms) if silent_ms > 5_000 => format!("silent for {} s", silent_ms / 1000),
        (None, _) => "root".into(),
        (Some(link), _) if link.up => duration_us(link.rtt_us),
        (Some(_), _) => "parent away".into(),
    };
    rows.push(vec![
        format!("{}{}", "  ".repeat(depth), brief.path),
        format!("{:?}", brief.class).to_lowercase(),
        link,
        format!("{} running", brief.in_flight),
        brief.devices.join(" "),
        brief.apps.join(" "),
        brief.invocations.to_string(),
        brief.http.trim_start_matches("http://").to_owned(),
        format!("{} s", brief.uptime_s),
        brief.version.clone(),
    ]);
    for server in &brief.servers {
        let state = match (server.up, server.current) {
            (false, _) => "away",
            (true, false) => "catching up",
            (true, true) => "up",
        };
        let name = format!("{}- {}", "  ".repeat(depth), server.name);
        rows.push(vec![name, "server".into(), state.into()]);
    }
    brief.children.iter().for_each(|child| tree_rows(child, depth + 1, rows));
    if brief.left_out > 0 {
        rows.push(vec![format!("{}and {} more", "  ".repeat(depth + 1), brief.left_out)]);
    }
}

/// `edgescale publish`
pub async fn publish(site: &Site, publish: Publish, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    if !publish.event.contains('.') {
        bail!("{:?} names no event of an app; write APP.NAME", publish.event);
    }
    check_app(&bus, &publish.event).await?;
    let mut event = Event::new(&publish.event, site.path.as_str(), publish.body.read()?)?;
    event.content_type = publish.content_type;
    event.id = publish.id.unwrap_or(event.id);
    let to = publish.to.map(|to| (bus::event::TO_HEADER.to_owned(), to.to_string()));
    event.headers.extend(to);
    let seq = bus::event::publish(&bus, &event, Duration::from_millis(publish.timeout_ms)).await?;
    let answer = json!({"id": event.id, "site": site.path, "seq": seq});
    out.show(&answer, |_| format!("{} stored at {} as {seq}", event.id, site.path))
}

/// An event of an app that nobody knows would be stored, and put aside later; one that nothing
/// starts on, forgotten. A site that is cut off cannot tell, and takes it.
async fn check_app(bus: &Bus, name: &str) -> Result<()> {
    let (app, topic) = name.split_once('.').unwrap_or((name, ""));
    let e = match client::control(bus, "apps.get", app.to_owned()).await {
        Ok(answer) => {
            let registered: Registered = client::json(&answer)?;
            let handlers = Manifest::parse(&registered.manifest).map(|m| m.handlers);
            let mut triggers = handlers.iter().flatten().flat_map(|handler| &handler.triggers);
            if !triggers.any(|trigger| trigger.takes_event(topic)) {
                eprintln!("edgescale: no handler of {app} is started by the event {topic:?}");
            }
            return Ok(());
        }
        Err(e) => e,
    };
    match e.downcast_ref() {
        Some(bus::Error::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// `edgescale invoke`
pub async fn invoke(site: &Site, invoke: Invoke, out: Output) -> Result<()> {
    if !invoke.function.contains('.') {
        bail!("{:?} names no function of an app; write APP.FUNCTION", invoke.function);
    }
    let bus = site.connect().await?;
    let subject = Subject::checked(Kind::Call, bus.site(), &invoke.function)?.to_string();
    let started = Instant::now();
    let timeout = Duration::from_millis(invoke.timeout_ms);
    let key = invoke.key.iter().map(|key| (KEY_HEADER.to_owned(), key.clone()));
    let headers = Headers::from_iter(key);
    let answer = bus.request(&subject, &headers, invoke.body.read()?, timeout).await?;
    let took_us = started.elapsed().as_micros() as u64;
    let header = |name: &str| answer.headers.get(name).cloned().unwrap_or_default();
    if !out.json {
        eprintln!("answered by {} in {}", header(SITE_HEADER), duration_us(took_us));
        std::io::Write::write_all(&mut std::io::stdout(), &answer.payload)?;
        println!();
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.payload);
    let body = serde_json::from_slice(&answer.payload).unwrap_or_else(|_| json!(text));
    let route = header(ROUTE_HEADER);
    let site = header(SITE_HEADER);
    out.show(&json!({"body": body, "site": site, "route": route, "took_us": took_us}), |_| {
        String::new()
    })
}

/// `edgescale stream`
pub async fn stream(site: &Site, stream: Stream, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    match stream {
        Stream::Open { app, stream, source, fast, wait } => {
            let source = match Path::new(&source).exists() {
                true => std::path::absolute(&source)?.display().to_string(),
                false => source,
            };
            let pace = if fast { Pace::Fast } else { Pace::Realtime };
            let open = handlers::stream::Open { stream, source, pace };
            let mut status = open_stream(&bus, &app, &open).await?;
            if wait {
                status = wait_for_end(&bus, &app, &status.id).await?;
            }
            out.show(&status, |status| stream_text(std::slice::from_ref(status)))?;
            if status.state == State::Failed {
                bail!("stream {} failed: {}", status.id, status.reason.unwrap_or_default());
            }
            Ok(())
        }
        Stream::Ls { app } => {
            let list = streams(&bus, &app).await?;
            let reason = |status: &Status| {
                Some(format!("\n{} failed: {}", status.id, plain(status.reason.as_ref()?)))
            };
            out.show(&list, |list| {
                if list.is_empty() {
                    return format!("no streams of {app} at {}", site.path);
                }
                stream_text(list) + &list.iter().filter_map(reason).collect::<String>()
            })
        }
        Stream::Close { app, id } => {
            let answer = client::ask(&bus, Kind::Sm, &format!("{app}.close"), id).await?;
            out.show(&client::json::<Value>(&answer)?, |_| "closed".into())
        }
    }
}

/// Opens a stream at the bus's site.
pub async fn open_stream(bus: &Bus, app: &str, open: &handlers::stream::Open) -> Result<Status> {
    let body = serde_json::to_vec(open)?;
    let subject = Subject::checked(Kind::Sm, bus.site(), &format!("{app}.open"))?.to_string();
    // The first opening of an app brings and compiles its code.
    let timeout = Duration::from_secs(120);
    client::json(&bus.request(&subject, &Headers::new(), body, timeout).await?)
}

/// The streams of an app at the bus's site.
pub async fn streams(bus: &Bus, app: &str) -> Result<Vec<Status>> {
    client::json(&client::ask(bus, Kind::Sm, &format!("{app}.list"), "").await?)
}

/// Waits until a stream is over.
pub async fn wait_for_end(bus: &Bus, app: &str, id: &str) -> Result<Status> {
    loop {
        let list = streams(bus, app).await?;
        let found = list.into_iter().find(|status| status.id == id);
        let status = found.with_context(|| format!("stream {id} is not known any more"))?;
        if status.state != State::Open {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn stream_text(list: &[Status]) -> String {
    let row = |status: &Status| {
        let state = format!("{:?}", status.state).to_lowercase();
        let size = match status.width {
            0 => "-".to_owned(), // no frame yet
            width => format!("{width}x{}", status.height),
        };
        let (frames, handled) = (status.frames.to_string(), status.handled.to_string());
        vec![
            status.id.clone(),
            status.stream.clone(),
            state,
            size,
            frames,
            handled,
            status.errors.to_string(),
        ]
    };
    let heading = ["ID", "STREAM", "STATE", "SIZE", "FRAMES", "HANDLED", "ERRORS"];
    table(&heading, list.iter().map(row))
}

/// `edgescale dashboard`
pub async fn dashboard(site: &Site, out: Output) -> Result<()> {
    let door = client::report(&site.connect().await?).await?.http;
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).with_context(|| {
            let (file, url) = (file.display(), &door.url);
            format!("the token {file} cannot be read here; type it in at {url}")
        })
    };
    // Behind the #, where a browser keeps it to itself.
    let token = door.token.as_ref().map(read).transpose()?;
    let token = token.map_or_else(String::new, |token| format!("#{}", token.trim()));
    out.show(&json!({"url": format!("{}/{token}", door.url)}), |shown| {
        shown["url"].as_str().unwrap_or_default().to_owned()
    })
}

/// `edgescale devices`
pub async fn devices(site: &Site, out: Output) -> Result<()> {
    let report: Report = client::report(&site.connect().await?).await?;
    out.show(&report.devices, |devices| {
        let row = |device: &accel::DeviceStatus| {
            let state = format!("{:?}", device.state).to_lowercase();
            let of = report.device_time.iter().filter(|served| served.device == device.id);
            let busy = of.map(|s| format!("{} {:.1} s", s.member, s.busy_us as f64 / 1e6));
            let busy = busy.collect::<Vec<_>>().join(", ");
            let jobs = jobs_text(device.jobs_done, device.batches);
            let name = match &device.circuit {
                Some(circuit) => format!("{} [{circuit}]", device.name),
                None => device.name.clone(),
            };
            let (id, kind) = (device.id.clone(), device.kind.clone());
            let order = device.order.map_or_else(String::new, |place| place.to_string());
            let cost = device.cost_us.map_or_else(String::new, duration_us);
            vec![order, id, kind, name, device.encoder.clone(), state, jobs, cost, busy]
        };
        let head = [
            "ORDER",
            "DEVICE",
            "KIND",
            "NAME",
            "ENCODE.H264",
            "STATE",
            "JOBS",
            "LAST JOB",
            "TIME BY TENANT",
        ];
        let last = |device: &accel::DeviceStatus| {
            let error = device.last_error.as_ref()?;
            Some(format!("\n{} failed {} jobs, last: {error}", device.id, device.jobs_failed))
        };
        let errors: String = devices.iter().filter_map(last).collect();
        let mut ordered: Vec<&accel::DeviceStatus> = devices.iter().collect();
        ordered.sort_by_key(|device| device.order.unwrap_or(usize::MAX));
        format!("{}{errors}", table(&head, ordered.into_iter().map(row)))
    })
}

/// How many jobs, and how many of them at once where they did not all go alone.
fn jobs_text(jobs: u64, batches: u64) -> String {
    match batches {
        0 => jobs.to_string(),
        _ if jobs <= batches => jobs.to_string(),
        _ => format!("{jobs} ({:.1} at once)", jobs as f64 / batches as f64),
    }
}

#[cfg(test)]
mod tests;
