//! DataFusion without a store: the same question of the same columns in memory, on one thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::store::EdgeStore;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{Error, Line, OF_CORE, QUESTION};
use crate::machine::own_cpu;

const WHAT: &str = "DataFusion filter and group, Arrow, rows";

/// Answers again and again, by the clock and by CPU time. Nothing where the table has more rows
/// than an answer of the store.
pub(super) async fn ask(store: &EdgeStore, budget: Duration) -> Result<Vec<Line>, Error> {
    let all = serde_json::json!({"sql": "SELECT v, n FROM t"});
    let all = serde_json::from_value(all).expect("the question is a constant");
    let all = store.sql(all).await?;
    if all.truncated {
        return Ok(vec![]);
    }
    let failed = |error: DataFusionError| Error::Peer("DataFusion", error.to_string());
    let rows = all.len() as u64;
    let table = MemTable::try_new(all.schema, vec![all.batches]).map_err(failed)?;
    let one = SessionConfig::new().with_target_partitions(1);
    let session = SessionContext::new_with_config(one);
    session.register_table("t", Arc::new(table)).map_err(failed)?;
    let (start, cpu, mut asked) = (Instant::now(), own_cpu(), 0);
    while start.elapsed() < budget {
        let answer = session.sql(QUESTION).await.map_err(failed)?;
        std::hint::black_box(answer.collect().await.map_err(failed)?);
        asked += rows;
    }
    let (took, cpu) = (start.elapsed(), own_cpu().saturating_sub(cpu));
    Ok(vec![Line::bulk(WHAT, asked, took), Line::bulk(&format!("{WHAT}{OF_CORE}"), asked, cpu)])
}
