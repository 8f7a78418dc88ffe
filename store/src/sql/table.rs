//! A table of the store as DataFusion sees it.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::run::column::field;
use crate::schema::Schema;

use super::keys::{Bounds, Met};
use super::scan::{Reads, StoreScan};
use super::{Query, fault};

/// One table.
pub struct Table {
    query: Arc<Query>,
    schema: Arc<Schema>,
    arrow: SchemaRef,
}

impl Table {
    /// A table as it is now.
    pub fn new(query: Arc<Query>, schema: Arc<Schema>) -> Self {
        let fields: Vec<_> =
            schema.shown.iter().map(|n| field(&schema, schema.column_at(*n))).collect();
        Table { query, schema, arrow: Arc::new(ArrowSchema::new(fields)) }
    }

    fn bounds(&self, filters: &[&Expr]) -> DfResult<Bounds> {
        Bounds::of(&self.schema, filters).map_err(|e| fault::keep(&self.query, e))
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        self.arrow.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        let met = self.bounds(filters)?.met.into_iter();
        Ok(met
            .map(|met| match met {
                Met::Whole => TableProviderFilterPushDown::Exact,
                Met::Partly => TableProviderFilterPushDown::Inexact,
                Met::No => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let filters: Vec<&Expr> = filters.iter().collect();
        let bounds = self.bounds(&filters)?;
        let all: Vec<usize> = (0..self.schema.shown.len()).collect();
        let picked = projection.unwrap_or(&all);
        let arrow = Arc::new(self.arrow.project(picked)?);
        let columns: Vec<u16> = picked.iter().map(|at| self.schema.shown[*at]).collect();
        // Where a condition is left to DataFusion, it applies the limit as well.
        let limit = limit.filter(|_| bounds.met.iter().all(|met| *met == Met::Whole));
        let reads = Reads::of(&self.query, &self.schema, &bounds, &filters)
            .map_err(|e| fault::keep(&self.query, e))?;
        Ok(Arc::new(StoreScan::new(reads, columns, arrow, limit)))
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Table").field(&self.schema.name).finish()
    }
}
