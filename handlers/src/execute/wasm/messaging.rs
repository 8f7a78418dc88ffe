//! `wasmcloud:messaging`: events and calls as messages. A call is a message that names where its
//! answer goes; what the guest publishes there is the answer.

use std::time::Duration;

use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::guest::Guest;
use crate::execute::{Answer, Answered, Event, InvokeError, Publication, Request};

/// Where the answer of a call goes.
const REPLY_SUBJECT: &str = "_reply";

/// A message of `wasmcloud:messaging`.
#[derive(ComponentType, Lower, Lift)]
#[component(record)]
pub(super) struct BrokerMessage {
    pub(super) subject: String,
    pub(super) body: Vec<u8>,
    #[component(name = "reply-to")]
    pub(super) reply_to: Option<String>,
}

impl From<Event> for BrokerMessage {
    fn from(event: Event) -> Self {
        Self { subject: event.subject, body: event.body.into(), reply_to: None }
    }
}

impl From<Request> for BrokerMessage {
    fn from(request: Request) -> Self {
        let reply_to = Some(REPLY_SUBJECT.to_owned());
        Self { subject: request.name, body: request.body.into(), reply_to }
    }
}

/// Messages carry no media type.
pub(super) fn media_type(body: &[u8]) -> &'static str {
    match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Ok(_) => "application/json",
        Err(_) => "application/octet-stream",
    }
}

/// What a call gets: the message that the guest answered with, or why there is none.
pub(super) fn answer(
    handled: Result<(), String>,
    reply: Option<Answered>,
    missing: &str,
) -> Answer {
    handled.map_err(InvokeError::GuestError)?;
    reply.ok_or_else(|| InvokeError::GuestError(missing.to_owned()))
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut instance = linker.instance("wasmcloud:messaging/consumer@0.2.0")?;
    instance.func_wrap_async(
        "request",
        |mut store, (subject, body, timeout_ms): (String, Vec<u8>, u32)| {
            Box::new(async move {
                let answer = store.data_mut().request(subject, body, timeout_ms).await;
                Ok((answer,))
            })
        },
    )?;
    instance.func_wrap_async("publish", |mut store, (message,): (BrokerMessage,)| {
        Box::new(async move { Ok((store.data_mut().send(message).await,)) })
    })
}

impl Guest {
    async fn request(
        &mut self,
        subject: String,
        body: Vec<u8>,
        timeout_ms: u32,
    ) -> Result<BrokerMessage, String> {
        let call = self.host.call(&self.caller, &subject, body.into());
        let limit = Duration::from_millis(timeout_ms.into());
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(body)) => Ok(BrokerMessage { subject, body: body.into(), reply_to: None }),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {timeout_ms} ms")),
        }
    }

    /// What goes to the subject of answers is the answer; anything else is an event.
    async fn send(&mut self, message: BrokerMessage) -> Result<(), String> {
        if message.subject == REPLY_SUBJECT {
            let kind = media_type(&message.body).to_owned();
            self.reply = Some(Answered::call(kind, message.body.into()));
            return Ok(());
        }
        let id = self.next_publication();
        let content_type = media_type(&message.body).to_owned();
        let (subject, body, metadata) = (message.subject, message.body.into(), vec![]);
        let event = Publication { id, subject, content_type, body, metadata };
        let published = self.host.publish(&self.caller, event).await;
        published.map_err(|error| error.to_string())
    }
}
