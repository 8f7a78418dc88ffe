//! SQL over the tables of a site, by DataFusion: questions only, nothing is changed.
//!
//! A query is planned and computed in a thread of its own with a deep stack, so that neither a long
//! computation nor a deep expression is felt by whoever shares the process. What it reads comes
//! from the store's own merged runs, partition by partition; DataFusion's conditions stand above
//! the merge, and only what bounds the key goes below it.

mod answer;
mod catalog;
mod fault;
mod gate;
mod keys;
mod plan;
mod scan;
mod table;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result};
use crate::{Coverage, EdgeStore, ReadOptions};

pub use answer::{SqlAnswer, SqlColumn};

/// Bytes of a query's text.
pub const SQL_TEXT_BYTES_MAX: usize = 64 << 10;
/// Words, numbers and signs of a query.
pub const SQL_TOKENS_MAX: usize = 4_096;
/// Operators of a query: what bounds the depth of its expressions. The time to plan one grows with
/// the third power of it.
pub const SQL_OPERATORS_MAX: usize = 256;
/// Queries that one store computes at once; others wait for their turn.
pub const SQL_AT_ONCE: usize = 2;
/// Rows of an answer unless the query asks for fewer.
pub const SQL_ROWS_MAX: usize = 1_000_000;
/// Milliseconds that a query may take unless it says otherwise, and at most.
pub const SQL_DEADLINE_MS: u64 = 8_000;
pub const SQL_DEADLINE_MS_MAX: u64 = 600_000;

/// The stack of a query's thread. Memory is only taken as far as it is used: an expression as deep
/// as [`SQL_OPERATORS_MAX`] allows needs a fraction.
const STACK_BYTES: usize = 64 << 20;

/// A question in SQL: `SELECT`, `EXPLAIN`, `DESCRIBE`, `SHOW TABLES` or `SHOW COLUMNS`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sql {
    /// The text.
    pub sql: String,
    /// The app whose tables need no `APP.` before their name.
    #[serde(default)]
    pub app: Option<String>,
    /// Only these tables (the store's names); none is all.
    #[serde(skip)]
    pub tables: Option<Vec<String>>,
    /// Rows of the answer at most.
    #[serde(default)]
    pub limit: Option<usize>,
    /// How to read, and when to give up.
    #[serde(default)]
    pub options: ReadOptions,
}

/// What the parts of one query share.
struct Query {
    store: EdgeStore,
    /// Where the store reads: the query's own runtime ends with it.
    runtime: tokio::runtime::Handle,
    sql: Sql,
    /// What the reads so far were based on.
    coverage: Mutex<Vec<Coverage>>,
    /// Why a table was not found; it may be the name of a function.
    missing: Mutex<Option<Error>>,
    /// The store's names of its tables, and those that the question has.
    named: Mutex<BTreeMap<String, String>>,
    /// The first error of the store, which says more than what DataFusion makes of it.
    failed: Mutex<Option<Error>>,
}

impl EdgeStore {
    /// Answers a question in SQL from the tables that this site knows or can ask for.
    pub async fn sql(&self, sql: Sql) -> Result<SqlAnswer> {
        gate::check_size(&sql)?;
        let ms = sql.options.deadline_ms.unwrap_or(SQL_DEADLINE_MS).min(SQL_DEADLINE_MS_MAX);
        let deadline = Instant::now() + Duration::from_millis(ms);
        let late =
            |_| Error::Deadline(format!("query (after {ms} ms; ask for less or wait longer)"));
        let turn = timeout_at(deadline, self.inner.queries.clone().acquire_owned()).await;
        let turn = turn.map_err(late)?.map_err(|_| Error::Stopped("store is closed".into()))?;
        let query = Arc::new(Query {
            store: self.clone(),
            runtime: tokio::runtime::Handle::current(),
            sql,
            coverage: Mutex::default(),
            missing: Mutex::default(),
            named: Mutex::default(),
            failed: Mutex::default(),
        });
        let (tell, told) = oneshot::channel();
        // Dropped with this future, which ends the query.
        let (_asker, gone) = oneshot::channel::<()>();
        let work = move || {
            let answer = carry_out(query, deadline, gone);
            drop(turn);
            // Nobody may be waiting any more.
            let _ = tell.send(answer);
        };
        let thread = std::thread::Builder::new().name("sql".into()).stack_size(STACK_BYTES);
        thread.spawn(work).map_err(|e| Error::io("thread of a query", e))?;
        match timeout_at(deadline, told).await.map_err(late)? {
            Ok(answer) => answer,
            Err(_) => {
                Err(Error::BadRequest("sql: this query broke its planner; ask otherwise".into()))
            }
        }
    }
}

/// Computes a query in this thread, until it is answered, late, or nobody wants it any more.
fn carry_out(
    query: Arc<Query>,
    deadline: Instant,
    gone: oneshot::Receiver<()>,
) -> Result<SqlAnswer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::io("runtime of a query", e))?;
    let answer = runtime.block_on(async {
        tokio::select! {
            answer = plan::answer(&query) => answer.map_err(|e| fault::told(&query, e)),
            () = tokio::time::sleep_until(deadline) => Err(Error::Deadline("query".into())),
            _ = gone => Err(Error::Deadline("query: nobody waits for it".into())),
        }
    });
    runtime.shutdown_background();
    answer
}

#[cfg(test)]
mod tests;
