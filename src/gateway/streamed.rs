//! Answers that go out while their handler runs. Who stops reading stops the handler: the work of
//! an answer is owned by its body.

use std::io;

use axum::body::{Body, Bytes};
use bus::message::{ROUTE_HEADER, SITE_HEADER};
use bus::{Refusal, Request, Response};
use futures::stream;
use handlers::execute::{Inlet, Outlet, Streamed};
use handlers::trigger::Streams;
use tokio::task::JoinHandle;

use super::Door;

/// What became of a request.
pub(super) enum Answered {
    Whole(Response),
    /// The head of an answer, and its body; `headers` say who answers.
    Begun(Streamed, Work, bus::Headers),
}

/// A handler at work; it ends with who holds this.
pub(super) struct Work(JoinHandle<Result<Response, Refusal>>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Door {
    /// Answers a request for a route, whole.
    pub(super) async fn answer_whole(
        &self,
        asked: Request,
        inlet: Option<Inlet>,
    ) -> Result<Answered, Refusal> {
        let streams = Streams { inlet, outlet: None, by: None };
        self.node.triggers.answer_with(asked, streams).await.map(Answered::Whole)
    }

    /// Answers a request for a route, whole or in parts as the handler makes them.
    pub(super) async fn answer_in_parts(
        &self,
        asked: Request,
        inlet: Option<Inlet>,
    ) -> Result<Answered, Refusal> {
        let (outlet, mut begun) = Outlet::new();
        let streams = Streams { inlet, outlet: Some(outlet), by: None };
        let triggers = self.node.triggers.clone();
        let mut work = Box::pin(async move { triggers.answer_with(asked, streams).await });
        let streamed = tokio::select! {
            biased;
            Ok(streamed) = &mut begun => streamed,
            answer = &mut work => return answer.map(Answered::Whole),
        };
        let mut headers = bus::Headers::new();
        for name in [SITE_HEADER, ROUTE_HEADER] {
            headers.insert(name.into(), self.site().to_owned());
        }
        // On its own from now on, so that the handler's time runs also while nobody reads.
        Ok(Answered::Begun(streamed, Work(tokio::spawn(work)), headers))
    }
}

/// The parts of an answer; an error when the handler failed midway. `held` lives as long.
pub(super) fn body(streamed: Streamed, work: Work, held: impl Send + 'static) -> Body {
    let parts = stream::unfold(Some((streamed.parts, work, held)), |state| async move {
        let (mut parts, mut work, held) = state?;
        if let Some(part) = parts.recv().await {
            return Some((Ok::<Bytes, io::Error>(part), Some((parts, work, held))));
        }
        match (&mut work.0).await {
            Ok(Ok(_)) => None,
            Ok(Err(refusal)) => Some((Err(io::Error::other(refusal.message)), None)),
            Err(ended) => Some((Err(io::Error::other(ended)), None)),
        }
    });
    Body::from_stream(parts)
}
