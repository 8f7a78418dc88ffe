//! How a small handler fares beside guests that compute as long as they are let.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::handlers::execute::InvokeError;
use ::handlers::manifest::CodeKind;

use super::{ASKS_ALL, Bench, Between, Line, PATIENCE, Result, component, endless, quantile};

/// Guests that compute at once, each anew when it has been stopped.
const SPINNERS: usize = 4;
const SPIN_LIMIT: Duration = Duration::from_secs(1);
/// What a small event may take at worst but for one in a hundred, on two cores.
const GOAL_US: f64 = 8_000.0;

/// Events of a small handler, one after the other, beside the spinners.
pub(super) async fn measure(bench: &Arc<Bench>, budget: Duration) -> Result<Line> {
    let node = |error: wat::Error| InvokeError::Node(error.to_string());
    let small = bench.install(CodeKind::Component, component(0).map_err(node)?).await?;
    let endless = bench.install(CodeKind::Component, endless()?).await?;
    bench.invoke(&small, None, PATIENCE).await?;
    let until = Instant::now() + budget;
    let mut spinners = tokio::task::JoinSet::new();
    for _ in 0..SPINNERS {
        let (bench, endless) = (Arc::clone(bench), Arc::clone(&endless));
        spinners.spawn(async move {
            while Instant::now() < until {
                let _ = bench.invoke(&endless, ASKS_ALL, SPIN_LIMIT).await;
            }
        });
    }
    let (times, _) = bench.repeat(&small, None, budget, Between::Nothing).await?;
    while spinners.join_next().await.is_some() {}
    let what = format!("event in a fresh instance beside {SPINNERS} guests that spin, p99");
    Ok(Line::at_most(&what, GOAL_US, quantile(times, 0.99)))
}
