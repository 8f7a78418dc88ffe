//! What comes of an invocation.

use bus::After;
use bytes::Bytes;

use super::InvokeError;
use super::http::HttpHead;

pub(super) type Answer = Result<Answered, InvokeError>;

/// What a guest answered.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// Media type of `body`.
    pub(super) content_type: String,
    pub(super) body: Bytes,
    pub(super) http: Option<HttpHead>,
    /// What a function returned, where that is not the body.
    pub(super) returned: Option<Bytes>,
    /// What is left to do when it is on its way.
    pub(super) after: After,
}

impl Answered {
    pub(super) fn call(content_type: String, body: Bytes) -> Self {
        Self { content_type, body, ..Self::default() }
    }

    pub(super) fn http(head: HttpHead, body: Bytes) -> Self {
        Self { body, http: Some(head), ..Self::default() }
    }
}
