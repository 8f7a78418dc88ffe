//! Rows of a file on their way to a site: fitted to the columns of their table, as Arrow IPC
//! streams, which keep what JSON cannot write.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema as ArrowSchema};
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::run::column::{Builder, field};
use crate::serve::arrow::stream;
use crate::spec::{ColumnSpec, Merge, TableSpec};
use crate::value::{Row, Value};

/// Rows as the body of a request: the metadata of its schema names their table.
#[derive(Clone, Debug)]
pub struct RowStream {
    /// How many there are.
    pub rows: usize,
    /// The stream.
    pub bytes: Bytes,
}

/// The rows in their order, in streams of at most so many bytes, unless one row alone has more.
///
/// # Errors
/// [`Error::UnknownColumn`] and [`Error::WrongType`] as a put has them.
pub fn row_streams(spec: &TableSpec, rows: &[Row], bytes_max: usize) -> Result<Vec<RowStream>> {
    let bytes = stream_of(spec, rows)?;
    if bytes.len() <= bytes_max || rows.len() < 2 {
        return Ok(vec![RowStream { rows: rows.len(), bytes }]);
    }
    let (first, last) = rows.split_at(rows.len() / 2);
    let mut streams = row_streams(spec, first, bytes_max)?;
    streams.extend(row_streams(spec, last, bytes_max)?);
    Ok(streams)
}

/// All columns that one of the rows has, and those of the key.
fn stream_of(spec: &TableSpec, rows: &[Row]) -> Result<Bytes> {
    let names: BTreeSet<&str> = rows.iter().flat_map(Row::keys).collect();
    names.iter().try_for_each(|name| spec.column(name).map(|_| ()))?;
    let is_named =
        |column: &&ColumnSpec| names.contains(&*column.name) || spec.is_key(&column.name);
    let named = spec.shown().filter(is_named);
    let columns = named.map(|column| {
        // A row may lack what it must have: that is for the site to say.
        let field = field(spec, column).with_nullable(true);
        array_of(column, rows).map(|array| (field, array))
    });
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
        columns.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let said = HashMap::from([("table".to_owned(), spec.name.clone())]);
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays)
        .and_then(|batch| stream(&batch, said))
        .map_err(|e| Error::io("rows as Arrow", std::io::Error::other(e)))
}

fn array_of(column: &ColumnSpec, rows: &[Row]) -> Result<ArrayRef> {
    let mut builder = Builder::new(column, rows.len());
    for row in rows {
        builder.push(&fitted(column, row.get(&column.name).unwrap_or(&Value::Null))?);
    }
    Ok(builder.finish())
}

fn fitted(column: &ColumnSpec, value: &Value) -> Result<Value> {
    let fit = |value: &Value| value.clone().fit(&column.name, column.kind);
    match (column.merge, value) {
        (_, Value::Null) => Ok(Value::Null),
        (Merge::Set, Value::List(items)) => {
            Ok(Value::List(items.iter().map(fit).collect::<Result<_>>()?))
        }
        (Merge::Set, one) => Ok(Value::List(vec![fit(one)?])),
        (_, value) => fit(value),
    }
}
