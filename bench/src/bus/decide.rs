//! One routing decision, by itself.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ::bus::route::policy::{Asked, Pace, ParentView, decide};
use ::bus::route::{CodeView, HandlerView, Placement, Site, View};
use ::bus::{TierClass, TierPath};

use super::Line;

/// Decisions between two looks at the clock.
const BATCH: u32 = 1_000;
/// Queues that each site above speaks of.
const QUEUES: u64 = 32;

/// The view from an edge whose sites above have busy queues; the handler would rather run above.
pub(super) fn measure(budget: Duration) -> Line {
    let now = Instant::now();
    let view = view(now);
    let placement = Placement { prefer: Some(TierClass::Cloud), ..Default::default() };
    let sent = view.above.iter().map(|site| (site.path.clone(), 3)).collect::<Vec<_>>();
    let asked = Asked {
        hops: 1,
        time_left: Duration::from_secs(1),
        bytes: 1 << 20,
        from_above: false,
        keyed: false,
        user_at: None,
        sent: &sent,
    };
    let code = CodeView::Ready { wait: Duration::from_millis(3), run: Duration::from_millis(1) };
    let handler = HandlerView::Known { key: "app/handler-16", placement: &placement, code };
    let mut times = vec![];
    // Once at least, however long a busy machine took to get here.
    while times.is_empty() || now.elapsed() < budget / 4 {
        let started = Instant::now();
        for _ in 0..BATCH {
            black_box(decide(black_box(&asked), black_box(&handler), black_box(&view), now));
        }
        times.push(started.elapsed() / BATCH);
    }
    times.sort_unstable();
    let us = |at: usize| times.get(at).map(|time| time.as_nanos() as f64 / 1e3);
    let (p50_us, p99_us) = (us(times.len() / 2), us(times.len() * 99 / 100));
    let per_s = p50_us.map_or(0.0, |us| 1e6 / us);
    let what = "routing decision".to_owned();
    Line { what, per_s, p50_us, p99_us, node_cpu_us: None, beside: None }
}

fn view(now: Instant) -> View {
    let path = |text: &str| text.parse::<TierPath>().expect("the paths are constants");
    let busy = |text: &str, class: TierClass| {
        let handlers = || (0..QUEUES).map(|n| format!("app/handler-{n}"));
        let (installed, bytes_per_s) = (Some(handlers().collect()), Some(100_000_000));
        let waits = handlers().zip((0..).map(Duration::from_millis)).collect();
        let paces = handlers().map(|key| (key, Pace { each_us: 500, free: 1 })).collect();
        Site { waits, paces, installed, bytes_per_s, ..Site::new(path(text), class, now) }
    };
    let region = busy("cloud.east", TierClass::Region);
    View {
        here: busy("cloud.east.cell1", TierClass::Edge),
        parent: ParentView::Near { path: region.path.clone(), rtt: Duration::from_millis(1) },
        above: vec![region, busy("cloud", TierClass::Cloud)],
        below: vec![],
    }
}
