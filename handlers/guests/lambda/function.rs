//! A function of the stock AWS Lambda client for Rust, as its own documentation has one.

use std::sync::atomic::{AtomicU64, Ordering};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

static SERVED: AtomicU64 = AtomicU64::new(0);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    lambda_runtime::run(service_fn(sum)).await
}

async fn sum(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let numbers: Option<Vec<i64>> = serde_json::from_value(event.payload["data"].clone()).ok();
    let numbers = numbers.ok_or("no numbers")?;
    let served = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
    let app = &event.context.env_config.function_name;
    Ok(json!({ "sum": numbers.iter().sum::<i64>(), "served": served, "app": app }))
}
