//! Names: `APP.TABLE`, `"APP/TABLE"` or the store's own name, and `TABLE` alone where an app is
//! chosen. Tables that are not known here are asked for above.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::TableType;

use crate::error::{Error, Result};
use crate::lock;
use crate::schema::Schema;

use super::Query;
use super::table::Table;

/// The catalog's name, which nobody has to write.
pub const CATALOG: &str = "edgescale";
/// The schema of tables by the store's own names.
pub const STORED: &str = "tables";

/// All tables of a site.
pub struct Tables(pub Arc<Query>);

/// The tables of an app, or all by the store's own names.
struct Names {
    query: Arc<Query>,
    app: Option<String>,
}

impl Query {
    /// True if the query may look at a table.
    fn may_see(&self, stored: &str) -> bool {
        self.sql.tables.as_ref().is_none_or(|tables| tables.iter().any(|table| table == stored))
    }

    /// The tables known here that the query may look at.
    fn known(&self) -> Vec<String> {
        let state = self.store.inner.engine.read();
        state.tables.keys().filter(|name| self.may_see(name)).cloned().collect()
    }
}

impl CatalogProvider for Tables {
    fn schema_names(&self) -> Vec<String> {
        let known = self.0.known();
        let apps = known.iter().map(|name| name.split_once('_').map_or(STORED, |(app, _)| app));
        apps.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let app = (name != STORED).then(|| name.to_owned());
        Some(Arc::new(Names { query: self.0.clone(), app }))
    }
}

impl Names {
    /// The store's name of a table.
    fn stored(&self, name: &str) -> String {
        match (name.split_once('/'), &self.app) {
            (Some((app, table)), _) => format!("{app}_{table}"),
            (None, Some(app)) => format!("{app}_{name}"),
            (None, None) => name.to_owned(),
        }
    }

    /// The name as people know it: `APP/TABLE`, or the store's own where that is what was written.
    fn asked(&self, name: &str) -> String {
        match &self.app {
            Some(app) if !name.contains('/') => format!("{app}/{name}"),
            _ => name.to_owned(),
        }
    }

    /// The table with the store's own name, asked for above if it is not known here.
    async fn find(&self, stored: String) -> Result<Arc<Schema>> {
        if !self.query.may_see(&stored) {
            return Err(Error::UnknownTable(stored));
        }
        let query = self.query.clone();
        let knowing = async move {
            query.store.know_for(&stored, query.sql.options).await?;
            Ok(query.store.inner.engine.read().table(&stored)?.schema.clone())
        };
        let known = self.query.runtime.spawn(knowing).await;
        known.unwrap_or_else(|_| Err(Error::Stopped("store is closed".into())))
    }
}

#[async_trait]
impl SchemaProvider for Names {
    fn table_names(&self) -> Vec<String> {
        let known = self.query.known().into_iter();
        match &self.app {
            Some(app) => known
                .filter_map(|name| {
                    let rest = name.strip_prefix(app.as_str())?.strip_prefix('_')?;
                    Some(rest.to_owned())
                })
                .collect(),
            None => known.filter(|name| !name.contains('_')).collect(),
        }
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let (stored, asked) = (self.stored(name), self.asked(name));
        match self.find(stored.clone()).await {
            Ok(schema) => {
                lock(&self.query.named).insert(stored, asked);
                Ok(Some(Arc::new(Table::new(self.query.clone(), schema))))
            }
            Err(error) => {
                lock(&self.query.missing).get_or_insert(error.calling(&stored, &asked));
                Ok(None)
            }
        }
    }

    async fn table_type(&self, _: &str) -> DfResult<Option<TableType>> {
        Ok(Some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.query.known().contains(&self.stored(name))
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Tables")
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Names").field(&self.app).finish()
    }
}
