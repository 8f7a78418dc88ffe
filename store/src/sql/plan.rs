//! From a text to its answer: one session per query, with DataFusion's limits set.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::DFParserBuilder;
use futures::StreamExt;

use super::answer::SqlAnswer;
use super::catalog::{CATALOG, STORED, Tables};
use super::gate::{self, Wanted};
use super::{Query, SQL_ROWS_MAX};

const TABLES: &str = "SELECT table_schema AS app, table_name AS \"table\" \
    FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1, 2";

/// Plans and computes.
pub async fn answer(query: &Arc<Query>) -> DfResult<SqlAnswer> {
    let state = session(query)?;
    let plan = plan(&state, query).await?;
    let plan = state.create_physical_plan(&plan).await?;
    let schema = plan.schema();
    let context = state.task_ctx();
    let kept = MemoryConsumer::new("answer").register(context.memory_pool());
    let mut stream = execute_stream(plan, context)?;
    let mut left = query.sql.limit.unwrap_or(SQL_ROWS_MAX);
    let (mut batches, mut truncated): (Vec<RecordBatch>, bool) = (Vec::new(), false);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        truncated = batch.num_rows() > left;
        let batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
        kept.try_grow(batch.get_array_memory_size())?;
        batches.push(batch);
        if truncated {
            break;
        }
    }
    Ok(SqlAnswer { schema, batches, truncated, coverage: query.coverage() })
}

async fn plan(state: &SessionState, query: &Query) -> DfResult<LogicalPlan> {
    let statements = DFParserBuilder::new(query.sql.sql.as_str()).build()?.parse_statements()?;
    let plan = match gate::check(gate::only_one(statements)?)? {
        Wanted::Tables => state.create_logical_plan(TABLES).await?,
        Wanted::Answer(statement) => state.statement_to_plan(*statement).await?,
    };
    let questions =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    questions.verify_plan(&plan)?;
    Ok(plan)
}

fn session(query: &Arc<Query>) -> DfResult<SessionState> {
    let memory = query.store.inner.engine.config.sql_memory_bytes;
    let no_files = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)))
        .with_disk_manager_builder(no_files)
        .build_arc()?;
    let schema = query.sql.app.as_deref().unwrap_or(STORED);
    let mut config = SessionConfig::new()
        .with_target_partitions(1)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, schema);
    // Names are as the manifest has them.
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .build();
    state.catalog_list().register_catalog(CATALOG.into(), Arc::new(Tables(query.clone())));
    Ok(state)
}
