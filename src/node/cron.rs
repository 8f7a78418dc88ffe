//! Schedules of the whole tree, kept by the root: it knows every app and sees every site. What is
//! due goes to one site, as an event of that site's log, and is delivered like any other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bus::{Headers, Kind, RefusalKind, Subject, TierClass, TierPath};
use handlers::cron;
use handlers::deploy::App;
use handlers::manifest::{CronTrigger, Handler, Trigger};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::report::Brief;
use super::{Answer, Node, Refusal, Request, Response};

/// The longest until apps are looked over again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a site may take to keep an event.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A site that was silent for longer is not given anything.
const SILENT_MS_MAX: u64 = 5_000;

/// What was run last, and where; kept on disk so that missed times are known after a restart.
#[derive(Default, Serialize, Deserialize)]
struct State(BTreeMap<String, Last>);

#[derive(Clone, Serialize, Deserialize)]
struct Last {
    upto: Timestamp,
    site: Option<TierPath>,
}

/// What a site is handed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tick {
    /// The event's name: the app and the schedule's topic.
    name: String,
    id: String,
    scheduled: Timestamp,
    schedule: String,
}

/// Keeps the schedules until the node stops. For the root.
pub async fn run(node: Arc<Node>, data: PathBuf) {
    let file = data.join("cron.json");
    let mut state = load(&file);
    loop {
        let changed = look_over(&node, &mut state).await;
        if changed && let Err(e) = save(&file, &state) {
            node.logs.add("warn", "cron", &format!("{}: {e}", file.display()));
        }
        tokio::time::sleep(until_next(&node, &state)).await;
    }
}

/// Runs what is due; tells whether anything changed.
async fn look_over(node: &Node, state: &mut State) -> bool {
    let mut changed = false;
    let mut known = BTreeMap::new();
    for app in node.deploy.apps() {
        for (handler, trigger) in triggers(&app) {
            let key = format!("{}/{}", app.name(), trigger.topic);
            let before = state.0.get(&key).cloned();
            let now = Timestamp::now();
            // A schedule that is new has missed nothing.
            let mut last = before.clone().unwrap_or(Last { upto: now, site: None });
            changed |= before.is_none();
            if let Some(schedule) = trigger.schedule() {
                let (times, upto) = schedule.due(last.upto, now, trigger.missed);
                changed |= upto != last.upto;
                match start_all(node, &app, handler, trigger, &times, &mut last).await {
                    Ok(()) => last.upto = upto,
                    Err(e) => {
                        let from = format!("{}/{}", app.name(), handler.name);
                        node.logs.add("warn", &from, &format!("scheduled run is late: {e}"));
                    }
                }
            }
            known.insert(key, last);
        }
    }
    changed |= known.len() != state.0.len();
    state.0 = known;
    changed
}

async fn start_all(
    node: &Node,
    app: &App,
    handler: &Handler,
    trigger: &CronTrigger,
    times: &[Timestamp],
    last: &mut Last,
) -> Result<(), String> {
    for time in times {
        let sites = sites(node).await;
        let site = cron::site(&sites, &handler.placement, last.site.as_ref());
        let site = site.ok_or("no site of its placement answers")?;
        let tick = Tick {
            name: format!("{}.{}", app.name(), trigger.topic),
            id: node.bus.sealed(&format!("{}.{}.{time}", app.name(), trigger.topic)),
            scheduled: *time,
            schedule: trigger.line.clone(),
        };
        let given = give(node, &site, &tick).await;
        // Not asked first again, until it is the only one.
        last.site = given.is_ok().then(|| site.clone());
        given.map_err(|e| format!("{site}: {e}"))?;
        last.upto = *time;
        node.metrics.count("scheduled runs", 1);
    }
    Ok(())
}

async fn give(node: &Node, site: &TierPath, tick: &Tick) -> Result<(), String> {
    if site == node.bus.site() {
        return keep(node, tick).await.map_err(|refusal| refusal.message);
    }
    // Not a call: these come from below as well, and what is due comes from the root alone.
    let subject = Subject::new(Kind::Ctl, site, "cron.take").to_string();
    let body = serde_json::to_vec(tick).map_err(|e| e.to_string())?;
    let answer = node.bus.request(&subject, &Headers::new(), body, TAKE_TIMEOUT).await;
    answer.map(|_| ()).map_err(|e| e.to_string())
}

/// `cron.take`: takes what the root hands to this site.
pub async fn take(node: &Node, request: &Request) -> Answer {
    let tick: Tick = serde_json::from_slice(&request.payload)
        .map_err(|e| Refusal::bad(format!("cron.take: {e}")))?;
    keep(node, &tick).await?;
    Ok(Response::new("{}"))
}

/// Puts it into the site's log of events; the same again is dropped there.
async fn keep(node: &Node, tick: &Tick) -> Result<(), Refusal> {
    let body = json!({ "scheduled": tick.scheduled.to_string(), "schedule": tick.schedule });
    let root = node.bus.site().root();
    let mut event = bus::Event::new(&tick.name, root.as_str(), body.to_string())
        .map_err(|e| Refusal::bad(e.to_string()))?;
    event.id = tick.id.clone();
    let kept = node.events.publish(&event).await;
    kept.map(|_| ()).map_err(|e| Refusal::new(RefusalKind::Unavailable, e.to_string()))
}

fn triggers(app: &App) -> impl Iterator<Item = (&Handler, &CronTrigger)> {
    app.manifest.handlers.iter().flat_map(|handler| {
        handler.triggers.iter().filter_map(move |trigger| match trigger {
            Trigger::Cron(cron) => Some((handler, cron)),
            _ => None,
        })
    })
}

/// Every site that was heard lately.
async fn sites(node: &Node) -> Vec<(TierPath, TierClass)> {
    fn add(brief: &Brief, sites: &mut Vec<(TierPath, TierClass)>) {
        if brief.heard_ms_ago > SILENT_MS_MAX {
            return;
        }
        sites.push((brief.path.clone(), brief.class));
        brief.children.iter().for_each(|child| add(child, sites));
    }
    let mut sites = Vec::new();
    add(&node.brief().await, &mut sites);
    sites
}

fn until_next(node: &Node, state: &State) -> Duration {
    let now = Timestamp::now();
    let mut pause = LOOK_EVERY;
    for app in node.deploy.apps() {
        for (_, trigger) in triggers(&app) {
            let key = format!("{}/{}", app.name(), trigger.topic);
            let last = state.0.get(&key).map_or(now, |last| last.upto);
            let next = trigger.schedule().and_then(|schedule| schedule.next(last.max(now)));
            if let Some(wait) = next.and_then(|next| next.duration_since(now).try_into().ok()) {
                pause = pause.min(wait);
            }
        }
    }
    pause
}

fn load(file: &Path) -> State {
    let text = std::fs::read(file).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn save(file: &Path, state: &State) -> std::io::Result<()> {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, serde_json::to_vec(state)?)?;
    std::fs::rename(fresh, file)
}
