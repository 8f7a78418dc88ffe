//! The narrow waist to the network: what the store asks of whoever carries its messages.

pub mod conformance;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// Bytes a payload may have, in both directions.
pub const PAYLOAD_BYTES_MAX: usize = 512 * 1024;

/// Carries messages to the parent, to a child site, and to whoever follows a table here.
///
/// Requests may be lost, repeated or answered late; the store copes with each. `op` is one of
/// the replication operations of [`crate::EdgeStore::serve`]; the other side hands it to that.
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// Asks the parent site.
    async fn request_parent(&self, op: &str, payload: Bytes) -> Result<Bytes, LinkError>;

    /// Asks a child site, given by its path.
    async fn request(&self, site: &str, op: &str, payload: Bytes) -> Result<Bytes, LinkError>;

    /// Where a site is now that was called `site` before it was moved: this one, or one below it.
    fn moved(&self, site: &str) -> Option<String> {
        let _ = site;
        None
    }

    /// Tells the children that follow `table` here. May be lost; followers notice.
    async fn publish_changes(&self, table: &str, payload: Bytes) -> Result<(), LinkError>;

    /// What the parent publishes about `table`, from the next answer of the parent on at the
    /// latest. The stream ends when the subscription is lost.
    async fn subscribe_parent_changes(
        &self,
        table: &str,
    ) -> Result<BoxStream<'static, Bytes>, LinkError>;
}

/// Why a message did not get through.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// Nobody is there, or the site has no parent. The message had no effect.
    #[error("nobody answers: {0}")]
    Unreachable(String),
    /// No answer in time. The message may have had its effect.
    #[error("no answer in time")]
    Timeout,
    /// The other side could not take the message at all.
    #[error("refused: {0}")]
    Refused(String),
}
