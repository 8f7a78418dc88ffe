//! A node that has nothing: every write succeeds and is forgotten.

use std::ops::Range;
use std::sync::Arc;

use accel::{Frame, Output, Pipeline};
use async_trait::async_trait;
use bytes::Bytes;
use handlers::execute::{Caller, Host, HostError, Level, Publication, Row, Scan, Target};
use handlers::outbound::Refusal;
use handlers::settings::Settings;
use serde_json::Value;
use tokio::net::TcpStream;

#[derive(Default)]
pub(super) struct Idle {
    settings: Arc<Settings>,
}

type Answer<T> = Result<T, HostError>;

#[async_trait]
impl Host for Idle {
    async fn store_get(&self, _: &Caller, _: &str, _: Row) -> Answer<Option<Row>> {
        Ok(None)
    }

    async fn store_put(&self, _: &Caller, _: &str, _: Vec<Row>) -> Answer<()> {
        Ok(())
    }

    async fn store_put_if(
        &self,
        _: &Caller,
        _: &str,
        _: Row,
        _: Option<Row>,
        _: Row,
    ) -> Answer<bool> {
        Ok(true)
    }

    async fn store_delete(&self, _: &Caller, _: &str, _: Vec<Row>) -> Answer<()> {
        Ok(())
    }

    async fn store_increment(&self, _: &Caller, _: &str, _: Row, _: Row) -> Answer<()> {
        Ok(())
    }

    async fn store_scan(&self, _: &Caller, _: &str, _: Scan) -> Answer<Vec<Row>> {
        Ok(vec![])
    }

    async fn store_ask(&self, _: &Caller, _: &str, _: Row) -> Answer<Value> {
        Ok(Value::Null)
    }

    async fn store_arrow(&self, _: &Caller, _: &str, _: Row, _: Option<Bytes>) -> Answer<Bytes> {
        Ok(Bytes::new())
    }

    async fn store_sql(&self, _: &Caller, _: String) -> Answer<Value> {
        Ok(Value::Null)
    }

    async fn put_blob(&self, _: &Caller, _: Bytes) -> Answer<String> {
        Ok(String::new())
    }

    async fn put_private_blob(&self, _: &Caller, _: Bytes) -> Answer<String> {
        Ok(String::new())
    }

    async fn let_go(&self, _: &Caller, _: Vec<String>) -> Answer<()> {
        Ok(())
    }

    async fn get_blob(&self, _: &Caller, _: &str) -> Answer<Option<Bytes>> {
        Ok(None)
    }

    async fn get_blob_range(&self, _: &Caller, _: &str, _: Range<u64>) -> Answer<Option<Bytes>> {
        Ok(None)
    }

    async fn publish(&self, _: &Caller, _: Publication) -> Answer<()> {
        Ok(())
    }

    async fn call(&self, _: &Caller, _: &str, _: Bytes) -> Answer<Bytes> {
        Ok(Bytes::new())
    }

    async fn accelerate(
        &self,
        _: &Caller,
        _: &Frame,
        _: Pipeline,
        _: Option<&str>,
    ) -> Answer<Output> {
        Err(HostError::Unavailable("there is no device".into()))
    }

    fn log(&self, _: &Caller, _: Level, _: &str) {}

    fn settings(&self, _: &Target) -> Answer<Arc<Settings>> {
        Ok(self.settings.clone())
    }

    async fn connect(&self, _: &Caller, host: &str, port: u16) -> Result<TcpStream, Refusal> {
        Err(Refusal::NotGranted { host: host.to_owned(), port })
    }

    fn refused(&self, _: &Caller, _: &Refusal) {}
}
