//! What a query is answered with: Arrow batches, or rows in JSON.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::error::{Error, Result};
use crate::link::PAYLOAD_BYTES_MAX;
use crate::serve::arrow as streams;
use crate::tree::wire::CHUNK_BYTES;
use crate::{Coverage, lock};

use super::Query;

/// An answer.
#[derive(Clone, Debug)]
pub struct SqlAnswer {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// There are more rows than the limit lets through.
    pub truncated: bool,
    /// What the answer is based on: what was the least complete and the oldest.
    pub coverage: Coverage,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SqlColumn {
    pub name: String,
    /// As Arrow writes it.
    #[serde(rename = "type")]
    pub kind: String,
}

impl SqlAnswer {
    /// The columns in their order; two may have one name.
    pub fn columns(&self) -> Vec<SqlColumn> {
        let fields = self.schema.fields().iter();
        let column = |name: &String, kind: &DataType| SqlColumn {
            name: name.clone(),
            kind: kind.to_string(),
        };
        fields.map(|field| column(field.name(), field.data_type())).collect()
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows: values in the order of the columns. Numbers, booleans and texts are themselves,
    /// bytes are base64, lists are arrays, and everything else is text, times as in RFC 3339.
    pub fn rows(&self) -> impl Iterator<Item = Result<Vec<Json>>> + '_ {
        self.batches.iter().flat_map(|batch| {
            let row = |i| batch.columns().iter().map(move |column| json_at(column, i)).collect();
            (0..batch.num_rows()).map(row)
        })
    }

    /// `columns`, `rows`, `truncated` and `coverage`, cut to what fits a message.
    pub fn json(&self) -> Result<Json> {
        let (mut rows, mut bytes, mut truncated) = (Vec::new(), 0, self.truncated);
        for row in self.rows() {
            let row = Json::Array(row?);
            bytes += row.to_string().len() + 1;
            if bytes > CHUNK_BYTES {
                truncated = true;
                break;
            }
            rows.push(row);
        }
        Ok(json!({"columns": self.columns(), "rows": rows, "truncated": truncated,
                  "coverage": self.coverage}))
    }

    /// The rows as an Arrow IPC stream, as many as fit a message; `truncated` and `coverage` are in
    /// the schema's metadata, as JSON.
    pub fn stream(&self) -> Result<Bytes> {
        self.stream_up_to(PAYLOAD_BYTES_MAX)
    }

    /// The same of as many rows as fit so many bytes.
    pub fn stream_up_to(&self, bytes_max: usize) -> Result<Bytes> {
        let batch = concat_batches(&self.schema, &self.batches);
        let batch = batch.map_err(|e| Error::io("answer as Arrow", std::io::Error::other(e)))?;
        streams::write(&batch, bytes_max, |rows| {
            let truncated = self.truncated || rows < batch.num_rows();
            streams::metadata([("truncated", truncated.into()), ("coverage", json!(self.coverage))])
        })
    }
}

impl Query {
    /// What the answer as a whole is based on.
    pub fn coverage(&self) -> Coverage {
        let reads = lock(&self.coverage);
        let mut sources: Vec<&str> = reads.iter().map(|read| read.source.as_str()).collect();
        sources.sort_unstable();
        sources.dedup();
        Coverage {
            complete: reads.iter().all(|read| read.complete),
            source: match sources.is_empty() {
                true => self.store.site().to_owned(),
                false => sources.join(", "),
            },
            age_ms: reads.iter().map(|read| read.age_ms).max().unwrap_or(0),
        }
    }
}

fn json_at(array: &ArrayRef, i: usize) -> Result<Json> {
    if array.is_null(i) {
        return Ok(Json::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Json::Null,
        DataType::Boolean => array.as_boolean().value(i).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(i).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(i).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(i).into(),
        DataType::Utf8 => array.as_string::<i32>().value(i).into(),
        DataType::Binary => BASE64.encode(array.as_binary::<i32>().value(i)).into(),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(i);
            Json::Array((0..items.len()).map(|i| json_at(&items, i)).collect::<Result<_>>()?)
        }
        other => {
            let failed = |e| Error::BadRequest(format!("sql: a value of {other}: {e}"));
            let options = FormatOptions::default();
            let shown = ArrayFormatter::try_new(array, &options).map_err(failed)?;
            let text = shown.value(i).try_to_string().map_err(failed)?;
            let is_number = other.is_integer() || matches!(other, DataType::Float32);
            let number = is_number.then(|| serde_json::from_str(&text).ok()).flatten();
            number.unwrap_or(Json::String(text))
        }
    })
}
