//! What DataFusion says, in the store's errors: each says what the caller can do.

use datafusion::common::DataFusionError;

use crate::error::Error;
use crate::lock;

use super::Query;

/// The error of a query. What the store itself said comes first.
pub fn told(query: &Query, error: DataFusionError) -> Error {
    if let Some(own) = lock(&query.failed).take() {
        let named = lock(&query.named);
        return named.iter().fold(own, |error, (stored, named)| error.calling(stored, named));
    }
    let text = error.find_root().strip_backtrace();
    if let Some(missing) = lock(&query.missing).take()
        && text.contains("not found")
    {
        return missing;
    }
    let memory = query.store.inner.engine.config.sql_memory_bytes;
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => Error::BadRequest(format!(
            "sql: the query needs more than the {memory} bytes of memory that one may have; \
             bound the key in WHERE, name fewer columns, or group by less"
        )),
        DataFusionError::SQL(parser, _) => {
            let text = parser.to_string();
            let text = text.strip_prefix("sql parser error: ").unwrap_or(&text);
            Error::BadRequest(format!("sql: {text}"))
        }
        DataFusionError::Internal(text) => {
            Error::BadRequest(format!("sql: this query cannot be planned ({})", first_line(text)))
        }
        _ => {
            let kinds = [
                "Error during planning: ",
                "Execution error: ",
                "Schema error: ",
                "Arrow error: ",
                "This feature is not implemented: ",
                "External error: ",
            ];
            let text =
                kinds.iter().fold(text.as_str(), |t, kind| t.strip_prefix(kind).unwrap_or(t));
            Error::BadRequest(format!(
                "sql: {}",
                text.replace("edgescale.tables.", "").replace("edgescale.", "")
            ))
        }
    }
}

/// Keeps an error of the store for who asked, and ends the query.
pub fn keep(query: &Query, error: Error) -> DataFusionError {
    let text = error.to_string();
    lock(&query.failed).get_or_insert(error);
    DataFusionError::Execution(text)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
