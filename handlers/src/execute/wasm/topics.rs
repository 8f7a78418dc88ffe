//! `wasi:messaging`, the draft of WASI itself: events and calls as messages on topics. An event or
//! a call starts `incoming-handler`; what it sends is an event, what it requests a call, and what
//! it replies to the message of a call is the answer.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::event::check_metadata;
use bytes::Bytes;
use wasmtime::component::{
    ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};

use super::guest::Guest;
use super::messaging::media_type;
use crate::execute::{Answered, Event, HostError, Publication, Request};

/// Bytes that a message is counted with besides its data.
const MESSAGE_BYTES: usize = 256;
/// What CloudEvents say of an event that came in, as metadata.
const OWN_METADATA: [&str; 3] = ["ce-id", "ce-source", "ce-time"];

/// The one broker there is: the app's own events and calls, whatever name it is asked for by.
pub(super) struct Client;

/// A message in a guest's hands.
#[derive(Default)]
pub(super) struct Message {
    topic: Option<String>,
    content_type: Option<String>,
    data: Bytes,
    metadata: Vec<(String, String)>,
    /// Bytes that count as the guest's memory: those of messages that it made itself.
    charged: usize,
    /// The same of its metadata.
    metadata_charged: usize,
    /// Whether it is a call, whose answer somebody waits for.
    is_call: bool,
}

/// How long a request may take.
#[derive(Default)]
pub(super) struct Options {
    timeout: Option<Duration>,
}

#[derive(ComponentType, Lower, Lift, Debug)]
#[component(variant)]
pub(super) enum Error {
    #[component(name = "timeout")]
    Timeout,
    #[component(name = "connection")]
    Connection(String),
    #[component(name = "permission-denied")]
    Denied(String),
    #[component(name = "other")]
    Other(String),
}

#[derive(ComponentType, Lower, Lift)]
#[component(variant)]
#[allow(dead_code)]
enum MetadataError {
    #[component(name = "not-supported")]
    NotSupported,
    #[component(name = "invalid")]
    Invalid(Option<String>),
}

impl Error {
    pub(super) fn text(self) -> String {
        match self {
            Self::Timeout => "timeout".to_owned(),
            Self::Connection(text) => format!("connection: {text}"),
            Self::Denied(text) => format!("permission denied: {text}"),
            Self::Other(text) => text,
        }
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Denied(text) | HostError::TooMuch(text) => Self::Denied(text),
            HostError::Unavailable(text) => Self::Connection(text),
            HostError::NotFound(text) | HostError::Invalid(text) | HostError::Failed(text) => {
                Self::Other(text)
            }
        }
    }
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        let values = [event.id, event.source, event.time];
        let own = OWN_METADATA.map(str::to_owned).into_iter().zip(values);
        Self {
            topic: Some(event.subject),
            content_type: Some(event.content_type).filter(|kind| !kind.is_empty()),
            data: event.body,
            metadata: own.chain(event.metadata).collect(),
            ..Self::default()
        }
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Self {
            topic: Some(request.name),
            content_type: Some(request.content_type).filter(|kind| !kind.is_empty()),
            data: request.body,
            is_call: true,
            ..Self::default()
        }
    }
}

/// A trap of the host's making on the outside, the guest's own error inside.
type Told<T> = wasmtime::Result<Result<T, Error>>;

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let name = |interface: &str| format!("wasi:messaging/{interface}@0.2.0-draft");
    types(&mut linker.instance(&name("types"))?)?;
    request_reply(&mut linker.instance(&name("request-reply"))?)?;
    linker.instance(&name("producer"))?.func_wrap_async(
        "send",
        |mut store, (_, topic, message): (Resource<Client>, String, Resource<Message>)| {
            Box::new(async move { Ok((store.data_mut().topic_send(topic, message).await?,)) })
        },
    )
}

fn types(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    instance.resource("client", ResourceType::host::<Client>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Client>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("[static]client.connect", |mut store, (_name,): (String,)| {
        Ok((Ok::<_, Error>(store.data_mut().table.push(Client)?),))
    })?;
    instance.func_wrap("[method]client.disconnect", |_, (_client,): (Resource<Client>,)| {
        Ok((Ok::<(), Error>(()),))
    })?;
    instance.resource("message", ResourceType::host::<Message>(), |mut store, rep| {
        store.data_mut().end_message(Resource::new_own(rep)).map(drop)
    })?;
    instance.func_wrap("[constructor]message", |mut store, (data,): (Vec<u8>,)| {
        Ok((store.data_mut().new_message(data)?,))
    })?;
    message(instance)
}

fn message(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Of = (Resource<Message>,);
    instance.func_wrap("[method]message.topic", |store, (message,): Of| {
        Ok((store.data().table.get(&message)?.topic.clone(),))
    })?;
    instance.func_wrap("[method]message.content-type", |store, (message,): Of| {
        Ok((store.data().table.get(&message)?.content_type.clone(),))
    })?;
    instance.func_wrap(
        "[method]message.set-content-type",
        |mut store, (message, kind): (Resource<Message>, String)| {
            store.data_mut().table.get_mut(&message)?.content_type = Some(kind);
            Ok((Ok::<(), ()>(()),))
        },
    )?;
    instance.func_wrap("[method]message.data", |store, (message,): Of| {
        Ok((store.data().table.get(&message)?.data.to_vec(),))
    })?;
    instance.func_wrap(
        "[method]message.set-data",
        |mut store, (message, data): (Resource<Message>, Vec<u8>)| {
            store.data_mut().set_data(&message, data)
        },
    )?;
    instance.func_wrap("[method]message.metadata", |store, (message,): Of| {
        let all = &store.data().table.get(&message)?.metadata;
        Ok((Some(all.clone()).filter(|all| !all.is_empty()),))
    })?;
    instance.func_wrap(
        "[method]message.add-metadata",
        |mut store, (message, name, value): (Resource<Message>, String, String)| {
            let guest = store.data_mut();
            let mut all = guest.table.get(&message)?.metadata.clone();
            all.push((name, value));
            Ok((guest.set_metadata(&message, all)?,))
        },
    )?;
    instance.func_wrap(
        "[method]message.set-metadata",
        |mut store, (message, all): (Resource<Message>, Vec<(String, String)>)| {
            Ok((store.data_mut().set_metadata(&message, all)?,))
        },
    )?;
    instance.func_wrap(
        "[method]message.remove-metadata",
        |mut store, (message, key): (Resource<Message>, String)| {
            store.data_mut().table.get_mut(&message)?.metadata.retain(|(name, _)| *name != key);
            Ok(())
        },
    )
}

fn request_reply(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    instance.resource("request-options", ResourceType::host::<Options>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Options>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("[constructor]request-options", |mut store, (): ()| {
        Ok((store.data_mut().table.push(Options::default())?,))
    })?;
    instance.func_wrap(
        "[method]request-options.set-timeout-ms",
        |mut store, (options, ms): (Resource<Options>, u32)| {
            let timeout = Some(Duration::from_millis(ms.into()));
            store.data_mut().table.get_mut(&options)?.timeout = timeout;
            Ok(())
        },
    )?;
    // One handler answers a call, so more than one reply never comes.
    instance.func_wrap(
        "[method]request-options.set-expected-replies",
        |_, (_, _): (Resource<Options>, u32)| Ok(()),
    )?;
    type Asked = (Resource<Client>, String, Resource<Message>, Option<Resource<Options>>);
    instance.func_wrap_async("request", |mut store, (_, topic, message, options): Asked| {
        Box::new(
            async move { Ok((store.data_mut().topic_request(topic, &message, options).await?,)) },
        )
    })?;
    instance.func_wrap(
        "reply",
        |mut store, (to, message): (Resource<Message>, Resource<Message>)| {
            store.data_mut().topic_reply(&to, message)?;
            Ok((Ok::<(), Error>(()),))
        },
    )
}

impl Guest {
    fn new_message(&mut self, data: Vec<u8>) -> wasmtime::Result<Resource<Message>> {
        let charged = data.len() + MESSAGE_BYTES;
        self.memory.hold(charged)?;
        Ok(self.table.push(Message { data: data.into(), charged, ..Message::default() })?)
    }

    fn end_message(&mut self, message: Resource<Message>) -> wasmtime::Result<Message> {
        let message = self.table.delete(message)?;
        self.memory.release(message.charged + message.metadata_charged);
        Ok(message)
    }

    fn set_data(&mut self, message: &Resource<Message>, data: Vec<u8>) -> wasmtime::Result<()> {
        let charged = data.len() + MESSAGE_BYTES;
        let message = self.table.get_mut(message)?;
        self.memory.release(message.charged);
        message.charged = 0;
        self.memory.hold(charged)?;
        (message.data, message.charged) = (data.into(), charged);
        Ok(())
    }

    /// Gives a message metadata in place of what it has; of two values of one name the last counts.
    /// What CloudEvents say of an event that came in is not passed on: what goes out is another.
    fn set_metadata(
        &mut self,
        message: &Resource<Message>,
        all: Vec<(String, String)>,
    ) -> wasmtime::Result<Result<(), MetadataError>> {
        let passed_on = all.iter().filter(|(name, _)| !OWN_METADATA.contains(&name.as_str()));
        if let Err(why) = check_metadata(passed_on) {
            return Ok(Err(MetadataError::Invalid(Some(why.to_string()))));
        }
        let kept: BTreeMap<_, _> = all.into_iter().collect();
        let bytes: usize = kept.iter().map(|(name, value)| name.len() + value.len()).sum();
        let message = self.table.get_mut(message)?;
        self.memory.release(std::mem::take(&mut message.metadata_charged));
        self.memory.hold(bytes)?;
        message.metadata_charged = bytes;
        message.metadata = kept.into_iter().collect();
        Ok(Ok(()))
    }

    async fn topic_send(&mut self, topic: String, message: Resource<Message>) -> Told<()> {
        let mut message = self.end_message(message)?;
        let id = self.next_publication();
        let mut metadata = std::mem::take(&mut message.metadata);
        metadata.retain(|(name, _)| !OWN_METADATA.contains(&name.as_str()));
        let (content_type, body) = message.content();
        let event = Publication { id, subject: topic, content_type, body, metadata };
        Ok(self.host.publish(&self.caller, event).await.map_err(Error::from))
    }

    async fn topic_request(
        &mut self,
        topic: String,
        message: &Resource<Message>,
        options: Option<Resource<Options>>,
    ) -> Told<Vec<Resource<Message>>> {
        let options = match options {
            Some(options) => self.table.delete(options)?,
            None => Options::default(),
        };
        let body = self.table.get(message)?.data.clone();
        let call = self.host.call(&self.caller, &topic, body);
        let answer = match options.timeout {
            Some(limit) => match tokio::time::timeout(limit, call).await {
                Ok(answer) => answer,
                Err(_) => return Ok(Err(Error::Timeout)),
            },
            None => call.await,
        };
        let data = match answer {
            Ok(data) => data,
            Err(error) => return Ok(Err(error.into())),
        };
        let charged = data.len() + MESSAGE_BYTES;
        self.memory.hold(charged)?;
        let content_type = Some(media_type(&data).to_owned());
        let answer = Message { content_type, data, charged, ..Message::default() };
        Ok(Ok(vec![self.table.push(answer)?]))
    }

    /// To a message that nobody waits for, a reply goes nowhere, as the interface has it.
    fn topic_reply(
        &mut self,
        to: &Resource<Message>,
        message: Resource<Message>,
    ) -> wasmtime::Result<()> {
        let is_call = self.table.get(to)?.is_call;
        let (content_type, body) = self.end_message(message)?.content();
        if is_call {
            self.reply = Some(Answered::call(content_type, body));
        }
        Ok(())
    }
}

impl Message {
    /// Its media type, guessed if it was not told, and its data.
    fn content(self) -> (String, Bytes) {
        let kind = self.content_type.unwrap_or_else(|| media_type(&self.data).to_owned());
        (kind, self.data)
    }
}
