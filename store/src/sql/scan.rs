//! Reading a table for a query: its parts one after the other, each as it is at one moment.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, internal_err};
use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions, SortOrderPushdownResult,
};

use crate::columns::Columns;
use crate::engine::KeyRange;
use crate::error::{Error, Result};
use crate::lock;
use crate::read::Part;
use crate::record::Extent;
use crate::run::Slice;
use crate::scan::Scan;
use crate::schema::Schema;

use super::keys::Bounds;
use super::{Query, fault};

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// What is read of a table.
#[derive(Clone)]
pub struct Reads {
    query: Arc<Query>,
    schema: Arc<Schema>,
    /// Read in this order.
    parts: Arc<[Part]>,
    /// Rows come in the order of the key.
    ordered: bool,
    /// Leading key columns that have one value.
    fixed: usize,
    /// The conditions on the key.
    conditions: Arc<str>,
}

impl Reads {
    /// The parts of a table that rows within bounds can be in: its partitions where they are here.
    pub fn of(
        query: &Arc<Query>,
        schema: &Arc<Schema>,
        bounds: &Bounds,
        filters: &[&Expr],
    ) -> Result<Reads> {
        let engine = &query.store.inner.engine;
        let state = engine.read();
        let table = state.table(&schema.table)?;
        let part = |extent, partition| {
            let (from, to) = (bounds.from.clone(), bounds.to.clone());
            Part { extent, range: KeyRange { from, to, partition, since: 0 } }
        };
        let of_partition = |key: &[u8]| match schema.is_partitioned() {
            true => part(Extent::Partition(key.to_vec()), Some(key.to_vec())),
            false => part(Extent::Whole, Some(key.to_vec())),
        };
        let parts: Arc<[Part]> = match &bounds.partition {
            Some(partition) => Arc::new([of_partition(partition)]),
            None if engine.is_root() || table.holds(&Extent::Whole) => {
                table.partitions.keys().map(of_partition).collect()
            }
            None => Arc::new([part(Extent::Whole, None)]),
        };
        let conditions: Vec<String> = filters.iter().map(ToString::to_string).collect();
        Ok(Reads {
            query: query.clone(),
            schema: schema.clone(),
            ordered: parts.len() < 2 || schema.partition_leads(),
            parts,
            fixed: bounds.fixed,
            conditions: conditions.join(" AND ").into(),
        })
    }
}

/// The plan's leaf that reads a table.
#[derive(Clone)]
pub struct StoreScan {
    reads: Reads,
    /// Positions of the columns to hand on.
    columns: Arc<[u16]>,
    arrow: SchemaRef,
    limit: Option<usize>,
    reverse: bool,
    properties: Arc<PlanProperties>,
}

impl StoreScan {
    /// Hands on these columns, up to so many rows.
    pub fn new(
        reads: Reads,
        columns: Vec<u16>,
        arrow: SchemaRef,
        limit: Option<usize>,
    ) -> StoreScan {
        let columns: Arc<[u16]> = columns.into();
        let properties = properties(&reads, &columns, &arrow, Direction::Forward);
        StoreScan { reads, columns, arrow, limit, reverse: false, properties }
    }

    fn backwards(&self) -> StoreScan {
        let properties = properties(&self.reads, &self.columns, &self.arrow, Direction::Backward);
        StoreScan { reverse: true, properties, ..self.clone() }
    }

    /// True if an order is that of the key from the last row on.
    fn is_reverse(&self, order: &[PhysicalSortExpr]) -> bool {
        let key = &self.reads.schema.key;
        let column = |sort: &PhysicalSortExpr| {
            let column = sort.expr.downcast_ref::<Column>()?;
            self.columns.get(column.index()).copied().filter(|_| sort.options.descending)
        };
        let order: Option<Vec<u16>> = order.iter().map(column).collect();
        let Some(order) = order.filter(|order| !order.is_empty()) else { return false };
        (0..=self.reads.fixed).any(|fixed| key.get(fixed..).is_some_and(|k| k.starts_with(&order)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

fn properties(
    reads: &Reads,
    columns: &[u16],
    arrow: &SchemaRef,
    direction: Direction,
) -> Arc<PlanProperties> {
    let options = SortOptions { descending: direction == Direction::Backward, nulls_first: false };
    let sorted_by = |number: &u16| -> Option<PhysicalSortExpr> {
        let at = columns.iter().position(|c| c == number)?;
        let column = Column::new(arrow.field(at).name(), at);
        Some(PhysicalSortExpr::new(Arc::new(column), options))
    };
    // Behind columns that have one value, rows are in the order of the rest of the key.
    let keys = (0..=reads.fixed).filter_map(|fixed| reads.schema.key.get(fixed..));
    let orders = keys.map(|key| key.iter().map_while(sorted_by).collect::<Vec<_>>());
    let orders = orders.filter(|order| reads.ordered && !order.is_empty());
    let equivalence = EquivalenceProperties::new_with_orderings(arrow.clone(), orders);
    Arc::new(PlanProperties::new(
        equivalence,
        Partitioning::UnknownPartitioning(1),
        EmissionType::Incremental,
        Boundedness::Bounded,
    ))
}

impl ExecutionPlan for StoreScan {
    fn name(&self) -> &str {
        "StoreScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        match children.is_empty() {
            true => Ok(self),
            false => internal_err!("a scan of the store has no children"),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(StoreScan { limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> DfResult<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>> {
        Ok(match self.limit.is_none() && self.reads.ordered && self.is_reverse(order) {
            true => SortOrderPushdownResult::Exact { inner: Arc::new(self.backwards()) },
            false => SortOrderPushdownResult::Unsupported,
        })
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let consumer = MemoryConsumer::new(format!("rows of {}", self.reads.schema.name));
        let mut parts: VecDeque<Part> = self.reads.parts.iter().cloned().collect();
        if self.reverse {
            parts.make_contiguous().reverse();
        }
        let reading = Reading {
            left: self.limit,
            scan: self.clone(),
            parts,
            batches: VecDeque::new(),
            memory: consumer.register(context.memory_pool()),
        };
        let stream = futures::stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|batch| (batch, reading)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.arrow.clone(), stream)))
    }
}

impl DisplayAs for StoreScan {
    fn fmt_as(&self, _: DisplayFormatType, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reads { query, schema, parts, conditions, .. } = &self.reads;
        let named = lock(&query.named).get(&schema.name).cloned();
        write!(out, "StoreScan: table={}", named.as_ref().unwrap_or(&schema.name))?;
        if !conditions.is_empty() {
            write!(out, ", key=[{conditions}]")?;
        }
        let columns: Vec<&str> = self.arrow.fields().iter().map(|f| f.name().as_str()).collect();
        write!(out, ", parts={}, columns=[{}]", parts.len(), columns.join(", "))?;
        if let Some(limit) = self.limit {
            write!(out, ", limit={limit}")?;
        }
        match self.reverse {
            true => write!(out, ", reverse"),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for StoreScan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("StoreScan").field(&self.reads.schema.name).finish()
    }
}

/// A scan under way.
struct Reading {
    scan: StoreScan,
    parts: VecDeque<Part>,
    batches: VecDeque<RecordBatch>,
    /// Rows to hand on still.
    left: Option<usize>,
    /// What the part holds that is being handed on.
    memory: MemoryReservation,
}

/// Ends a task when nobody waits for it any more.
struct Ended(tokio::task::AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Reading {
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        loop {
            if self.left == Some(0) {
                return Ok(None);
            }
            if let Some(batch) = self.batches.pop_front() {
                let rows = batch.num_rows().min(self.left.unwrap_or(usize::MAX));
                self.left = self.left.map(|left| left - rows);
                return Ok(Some(batch.slice(0, rows)));
            }
            self.memory.free();
            let Some(part) = self.parts.pop_front() else { return Ok(None) };
            self.read(part).await?;
        }
    }

    async fn read(&mut self, part: Part) -> DfResult<()> {
        let (query, schema) = (self.scan.reads.query.clone(), self.scan.reads.schema.clone());
        let (limit, reverse) = (self.left, self.scan.reverse);
        let columns = Columns::only(self.scan.columns.iter().copied());
        let task = self.scan.reads.query.runtime.spawn(async move {
            let bytes_max = query.store.inner.engine.config.sql_memory_bytes;
            let options = query.sql.options;
            let (store, table) = (&query.store, &schema.table);
            store.read_part(table, &part, columns, reverse, limit, bytes_max, options).await
        });
        let _ended = Ended(task.abort_handle());
        let query = &self.scan.reads.query;
        let read = task.await.unwrap_or_else(|_| Err(Error::Stopped("store is closed".into())));
        let (slices, coverage) = read.map_err(|e| fault::keep(query, e))?;
        lock(&query.coverage).push(coverage);
        self.memory.try_grow(crate::read::weight(&slices))?;
        for slice in &slices {
            self.take(slice)?;
        }
        if reverse {
            self.batches.make_contiguous().reverse();
            self.batches = self.batches.iter().map(turned).collect::<DfResult<_>>()?;
        }
        Ok(())
    }

    /// The rows of a slice as batches, without a copy where all of them are alive.
    fn take(&mut self, slice: &Slice) -> DfResult<()> {
        let (schema, arrow) = (&self.scan.reads.schema, &self.scan.arrow);
        let rows = Scan::default().part(schema, slice, &self.scan.columns, arrow);
        let rows = rows.map_err(|e| fault::keep(&self.scan.reads.query, e))?;
        for from in (0..rows.num_rows()).step_by(BATCH_ROWS) {
            let count = BATCH_ROWS.min(rows.num_rows() - from);
            self.batches.push_back(rows.slice(from, count));
        }
        Ok(())
    }
}

/// A batch from its last row on.
fn turned(batch: &RecordBatch) -> DfResult<RecordBatch> {
    if batch.num_columns() == 0 {
        return Ok(batch.clone());
    }
    let backwards = UInt32Array::from_iter_values((0..batch.num_rows() as u32).rev());
    take_record_batch(batch, &backwards).map_err(DataFusionError::from)
}
