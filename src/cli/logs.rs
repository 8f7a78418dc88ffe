//! `edgescale logs`: the lines of nodes and handlers, past ones and those to come.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Result, ensure};
use bus::path::DEPTH_MAX;
use bus::{Bus, Subject, TierPath};
use clap::Args;
use futures::StreamExt;
use handlers::logs::{About, LINES_MAX, Line};

use super::output::{Output, plain};
use crate::context::Context;
use crate::node::client;

/// How much of an id a line for eyes shows.
const ID_CHARS_MAX: usize = 48;
/// How many sites are asked at once.
const SITES_AT_ONCE: usize = 16;

#[derive(Args)]
pub struct Logs {
    /// Follow: print lines as they come, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// How many past lines of each site; it keeps the last 2000
    #[arg(short = 'n', long, default_value_t = 50, value_parser = lines)]
    lines: usize,
    /// Only those of an app: of its handlers, its deployment, its dead letters
    #[arg(long)]
    app: Option<String>,
    /// Only those about one event, call or request, by its id, or about a trace
    #[arg(long)]
    id: Option<String>,
}

fn lines(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count <= LINES_MAX);
    count.ok_or_else(|| format!("a number up to {LINES_MAX}"))
}

impl Logs {
    /// What comes from now on of an app.
    pub fn following(app: String) -> Self {
        Self { follow: true, lines: 0, app: Some(app), id: None }
    }

    fn wants(&self, line: &Line) -> bool {
        let is_about = |id: &String| {
            let about = line.about.as_ref();
            about.is_some_and(|about| about.id == *id || about.trace.as_ref() == Some(id))
        };
        self.app.as_ref().is_none_or(|app| is_of(line, app))
            && self.id.as_ref().is_none_or(is_about)
    }
}

/// `edgescale logs`: of one site, or of those at hand and all below them.
pub async fn logs(context: &Context, at: Option<&str>, logs: Logs, out: Output) -> Result<()> {
    let near = match at {
        Some(_) => vec![context.reach(at)?],
        None => context.sites.clone(),
    };
    let (mut buses, mut places, mut lines) = (vec![], vec![], vec![]);
    for site in &near {
        let bus = match site.connect().await {
            Ok(bus) => bus,
            // One that is away does not hide what the others say.
            Err(e) if near.len() > 1 => {
                eprintln!("edgescale: {}: {e:#}", site.path);
                continue;
            }
            Err(e) => return Err(e),
        };
        let below = if at.is_some() { vec![] } else { others_below(&bus, context).await };
        let asked = std::iter::once(site.path.clone()).chain(below);
        let asked = asked.map(|place| past_lines(&bus, place, &logs));
        let mut answers = futures::stream::iter(asked).buffer_unordered(SITES_AT_ONCE);
        while let Some((place, past)) = answers.next().await {
            match past {
                Ok(past) => lines.extend(past),
                Err(e) if near.len() == 1 && place == site.path => return Err(e),
                Err(e) => eprintln!("edgescale: {place}: {e:#}"),
            }
            places.push(place);
        }
        drop(answers);
        buses.push(bus);
    }
    ensure!(!buses.is_empty(), "none of these sites answers");
    lines.sort_by(|a, b| a.time.cmp(&b.time));
    if logs.follow {
        lines.iter().for_each(|line| print_line(line, out));
        return follow(&buses, at.is_none().then_some(context), logs, out).await;
    }
    if lines.is_empty() && !out.json {
        let places: Vec<String> = places.iter().map(TierPath::to_string).collect();
        eprintln!("there are no such lines yet at {}", places.join(", "));
        return Ok(());
    }
    out.show(&lines, |lines| {
        lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{}", line_text(line, has_colour()));
            text
        })
    })
}

/// The sites below one that no other at hand is nearer to: those on machines of their own.
async fn others_below(bus: &Bus, context: &Context) -> Vec<TierPath> {
    // A node that is away is told of when its own lines are asked for.
    let Ok(tree) = client::tree(bus).await else { return vec![] };
    let below = tree.below().into_iter().map(|brief| brief.path.clone());
    below.filter(|place| is_nearest(context, bus.site(), place)).collect()
}

fn is_nearest(context: &Context, site: &TierPath, place: &TierPath) -> bool {
    context.nearest(place).is_some_and(|nearest| nearest.path == *site)
}

/// The last lines of a site, asked for by way of the one behind the connection.
async fn past_lines(bus: &Bus, place: TierPath, logs: &Logs) -> (TierPath, Result<Vec<Line>>) {
    // The last lines of an app, or about an event, may be far back.
    let picks = logs.app.is_some() || logs.id.is_some();
    let count = if picks { LINES_MAX } else { logs.lines };
    let bus = bus.clone().speaking_to(place.clone());
    let answer = client::control(&bus, "logs", count.to_string()).await;
    let lines = answer.and_then(|answer| client::json::<Vec<Line>>(&answer)).map(|mut lines| {
        lines.retain(|line| logs.wants(line));
        lines.iter_mut().for_each(|line| line.site = place.to_string());
        lines.split_off(lines.len().saturating_sub(logs.lines))
    });
    (place, lines)
}

/// Prints what comes until Ctrl-C: of each site alone, or of all below it that no other of `all`
/// is nearer to.
async fn follow(buses: &[Bus], all: Option<&Context>, logs: Logs, out: Output) -> Result<()> {
    let (logs, all) = (Arc::new(logs), all.cloned().map(Arc::new));
    let mut following = vec![];
    for bus in buses {
        let tiers = if all.is_some() { DEPTH_MAX - bus.site().depth() } else { 0 };
        for depth in 0..=tiers {
            let (logs, all, site) = (Arc::clone(&logs), all.clone(), bus.site().clone());
            let hear = move |message: bus::Request| {
                let wanted = |place: &TierPath| {
                    all.as_ref().is_none_or(|context| is_nearest(context, &site, place))
                };
                let place = Subject::parse(&message.subject).ok().map(|subject| subject.path);
                let line = serde_json::from_slice::<Line>(&message.payload).ok();
                if let (Some(place), Some(line)) = (place.filter(wanted), line) {
                    // The subject is what a site may not choose.
                    let line = Line { site: place.to_string(), ..line };
                    if logs.wants(&line) {
                        print_line(&line, out);
                    }
                }
                std::future::ready(())
            };
            // Not `tel.<site>.>`: what nobody asks for does not travel.
            let subject = format!("tel.{}{}._.log", bus.site(), ".*".repeat(depth));
            following.push(bus.subscribe(&subject, hear).await?);
        }
    }
    crate::node::stop_signal().await;
    Ok(())
}

/// Whether a line is about an app: from it or one of its handlers, of how it is deployed, or of an
/// event of its that could not be handled.
fn is_of(line: &Line, app: &str) -> bool {
    let begins = |text: &str, ends: &[char]| {
        let rest = text.strip_prefix(app);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(ends))
    };
    let after = |words: [&str; 2]| words.iter().find_map(|word| line.text.strip_prefix(word));
    match line.from.as_str() {
        "deploy" => begins(after(["app ", "entry "]).unwrap_or(&line.text), &['/', ' ', ':']),
        "events" => after(["dead letter ", "event "]).is_some_and(|event| begins(event, &['.'])),
        from => begins(from, &['/']),
    }
}

fn print_line(line: &Line, out: Output) {
    match out.json {
        true => println!("{}", serde_json::to_string(line).unwrap_or_default()),
        false => println!("{}", line_text(line, has_colour())),
    }
}

/// Whether standard output is for eyes that want colour (no-color.org).
fn has_colour() -> bool {
    use std::io::IsTerminal;
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !is_unwanted
}

fn line_text(line: &Line, has_colour: bool) -> String {
    let Line { time, site, level, from, text, about } = line;
    let time = time.get(..23).unwrap_or(time);
    let about = about.as_ref().map(about_text).unwrap_or_default();
    let texts: [&str; 6] = [time, site, level, from, text, &about];
    let [time, site, level, from, text, about] = texts.map(plain);
    if !has_colour {
        return format!("{time} {level:5} {site} {from}{about}: {text}");
    }
    // SGR of ECMA-48: faint, red, yellow, green, and cyan for who says it.
    let of_level = match level.as_str() {
        "error" => "31",
        "warn" => "33",
        "info" => "32",
        _ => "2",
    };
    let paint = |code: &str, text: &str| format!("\x1b[{code}m{text}\x1b[0m");
    let (time, level) = (paint("2", &time), paint(of_level, &format!("{level:5}")));
    let about = if about.is_empty() { about } else { paint("2", &about) };
    format!("{time} {level} {} {}{about}: {text}", paint("2", &site), paint("36", &from))
}

/// The invocation as one looks for it: its id, and which attempt it was if not the first. Its
/// revision and its trace are in JSON.
fn about_text(about: &About) -> String {
    let id = match about.id.char_indices().nth(ID_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &about.id[..end]),
        None => about.id.clone(),
    };
    match about.attempt {
        _ if id.is_empty() => id,
        Some(attempt @ 2..) => format!(" [{id}, attempt {attempt}]"),
        _ => format!(" [{id}]"),
    }
}

#[cfg(test)]
mod tests;
