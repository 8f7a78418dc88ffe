//! What an installed component can be started by: the functions of `wit/app.wit`, or those of
//! stock worlds. Its own exports say which.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Linker,
    Lower, Resource, TypedFunc,
};

use super::guest::{Guest, inputs};
use super::messaging::{self, BrokerMessage};
use super::next::Next;
use super::pictures::Picture;
use super::runner::Runner;
use super::{service, topics, web};
use crate::execute::http::{HttpHead, HttpRequest};
use crate::execute::{
    Answer, Answered, Connection, Event, Input, InvokeError, Outlet, Request, Target,
};

/// A function that starts a component.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entrance {
    Event,
    Call,
    Frame,
    Http,
    /// `wasi:http` 0.3, for requests, calls and events.
    Service,
    /// `wasi:http` 0.2, likewise.
    Web,
    /// `wasmcloud:messaging`, for events and calls.
    Message,
    /// `wasi:messaging`, likewise.
    Topic,
}

const ENTRANCES: [Entrance; 8] = [
    Entrance::Event,
    Entrance::Call,
    Entrance::Frame,
    Entrance::Http,
    Entrance::Service,
    Entrance::Web,
    Entrance::Message,
    Entrance::Topic,
];

/// Where events go in: the function made for them, or the nearest one of a stock world.
const TOLD: &[Entrance] =
    &[Entrance::Event, Entrance::Message, Entrance::Topic, Entrance::Service, Entrance::Web];
/// Where what waits for a result goes in.
const CALLED: &[Entrance] =
    &[Entrance::Call, Entrance::Message, Entrance::Topic, Entrance::Service, Entrance::Web];

/// Where HTTP requests go in.
const REQUESTED: &[Entrance] = &[Entrance::Http, Entrance::Service, Entrance::Web];

impl Entrance {
    /// The interface that holds the function, if one does, and the function.
    fn path(self) -> (Option<&'static str>, &'static str) {
        match self {
            Self::Event => (None, "handle-event"),
            Self::Call => (None, "handle-call"),
            Self::Frame => (None, "handle-frame"),
            Self::Http => (None, "handle-http"),
            Self::Service => (Some("wasi:http/handler@0.3.0"), "handle"),
            Self::Web => (Some("wasi:http/incoming-handler@0.2.0"), "handle"),
            Self::Message => (Some("wasmcloud:messaging/handler@0.2.0"), "handle-message"),
            Self::Topic => (Some("wasi:messaging/incoming-handler@0.2.0-draft"), "handle"),
        }
    }

    fn name(self) -> &'static str {
        let (interface, function) = self.path();
        let name = interface.unwrap_or(function);
        name.split('@').next().unwrap_or(name)
    }

    fn is_web(self) -> bool {
        matches!(self, Self::Service | Self::Web)
    }

    fn find(self, component: &Component) -> Option<ComponentExportIndex> {
        let (interface, function) = self.path();
        let interface = match interface {
            Some(name) => Some(component.get_export_index(None, name)?),
            None => None,
        };
        component.get_export_index(interface.as_ref(), function)
    }
}

/// A component, ready to be instantiated.
pub(super) struct Module {
    /// What compiled it, and runs it.
    pub(super) runner: Arc<Runner>,
    pre: InstancePre<Guest>,
    pub(super) next: Next,
    found: [Option<ComponentExportIndex>; ENTRANCES.len()],
}

impl Module {
    pub(super) fn new(
        runner: Arc<Runner>,
        linker: &Linker<Guest>,
        component: &Component,
    ) -> wasmtime::Result<Self> {
        let found = ENTRANCES.map(|entrance| entrance.find(component));
        if found.iter().all(Option::is_none) {
            let names = ENTRANCES.map(Entrance::name).join(", ");
            wasmtime::bail!("it exports none of {names}");
        }
        Ok(Self { runner, pre: linker.instantiate_pre(component)?, next: Next::default(), found })
    }

    /// Names of what it can be started by.
    pub(super) fn exports(&self) -> Vec<String> {
        let present = ENTRANCES.iter().filter(|entrance| self.index(**entrance).is_some());
        present.map(|entrance| entrance.name().to_owned()).collect()
    }

    /// Whether HTTP requests go in where bodies are streams.
    pub(super) fn reads_in_parts(&self) -> bool {
        self.entrance(REQUESTED).is_some_and(|(entrance, _)| entrance.is_web())
    }

    /// Whether an input goes to the function of WASI 0.3, several of which may run at once.
    pub(super) fn is_service_for(&self, input: &Input, target: &Target) -> bool {
        let wanted = wanted(input, !target.bindings.outputs.is_empty());
        self.entrance(wanted).is_some_and(|(entrance, _)| entrance == Entrance::Service)
    }

    /// That function of an instance.
    pub(super) fn service(
        &self,
        instance: &Instance,
        store: &mut Store<Guest>,
    ) -> wasmtime::Result<service::Handle> {
        let index = self.index(Entrance::Service);
        let index = index.ok_or_else(|| wasmtime::format_err!("it exports no service"))?;
        instance.get_typed_func(&mut *store, index)
    }

    /// The first that it has.
    fn entrance(&self, wanted: &[Entrance]) -> Option<(Entrance, &ComponentExportIndex)> {
        wanted.iter().find_map(|entrance| Some((*entrance, self.index(*entrance)?)))
    }

    fn index(&self, entrance: Entrance) -> Option<&ComponentExportIndex> {
        let at = ENTRANCES.iter().position(|other| *other == entrance)?;
        self.found[at].as_ref()
    }

    /// Whether its functions have the types that they are called with.
    pub(super) fn check_types(
        &self,
        instance: &Instance,
        store: &mut Store<Guest>,
    ) -> wasmtime::Result<()> {
        for entrance in ENTRANCES {
            let Some(index) = self.index(entrance) else { continue };
            match entrance {
                Entrance::Event => {
                    instance.get_typed_func::<EventParams, Handled>(&mut *store, index)?;
                }
                Entrance::Call => {
                    instance.get_typed_func::<CallParams, CallResults>(&mut *store, index)?;
                }
                Entrance::Frame => {
                    instance.get_typed_func::<FrameParams, Handled>(&mut *store, index)?;
                }
                Entrance::Http => {
                    instance.get_typed_func::<HttpParams, HttpResults>(&mut *store, index)?;
                }
                Entrance::Service => {
                    let _: service::Handle = instance.get_typed_func(&mut *store, index)?;
                }
                Entrance::Web => {
                    let _: web::Handle = instance.get_typed_func(&mut *store, index)?;
                }
                Entrance::Message => {
                    instance.get_typed_func::<(BrokerMessage,), Handled>(&mut *store, index)?;
                }
                Entrance::Topic => {
                    instance.get_typed_func::<TopicParams, TopicResults>(&mut *store, index)?;
                }
            }
        }
        Ok(())
    }

    /// An instance of its own for a store.
    pub(super) async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Instance> {
        let began = Instant::now();
        let made = self.pre.instantiate_async(store).await?;
        self.next.took(began.elapsed());
        Ok(made)
    }

    /// Handles an input by the function made for it, or by the nearest one of a stock world.
    pub(super) async fn handle(
        &self,
        store: &mut Store<Guest>,
        instance: &mut Option<Instance>,
        input: Input,
        attempt: u32,
        outlet: Option<Outlet>,
    ) -> wasmtime::Result<Answer> {
        // Only some of the functions have a result.
        let has_result = !store.data().caller().target.bindings.outputs.is_empty();
        let wanted = wanted(&input, has_result);
        let Some((entrance, index)) = self.entrance(wanted) else {
            let handler = store.data().caller().target.handler.clone();
            let export = wanted[0].name().to_owned();
            return Ok(Err(InvokeError::NoExport { handler, export }));
        };
        let started = match *instance {
            Some(instance) => instance,
            None => *instance.insert(self.instantiate(store).await?),
        };
        let input = match input {
            Input::Event(event) if has_result && !entrance.is_web() => as_call(event),
            input => input,
        };
        match entrance {
            Entrance::Service | Entrance::Web => {
                Box::pin(serve(store, started, entrance, index, input, outlet)).await
            }
            Entrance::Message => receive(store, started, index, input).await,
            Entrance::Topic => receive_topic(store, started, index, input).await,
            _ => own(store, started, index, input, attempt).await,
        }
    }
}

/// Where an input may go in, best first.
fn wanted(input: &Input, has_result: bool) -> &'static [Entrance] {
    match input {
        Input::Event(_) if has_result => CALLED,
        Input::Event(_) => TOLD,
        Input::Call(_) => CALLED,
        Input::Http(_) => REQUESTED,
        Input::Frame(..) => &[Entrance::Frame],
    }
}

type EventParams = (inputs::Event,);
type CallParams = (inputs::Request,);
type CallResults = (Result<inputs::Response, String>,);
type HttpParams = (inputs::HttpRequest,);
type HttpResults = (Result<inputs::HttpResponse, String>,);
type FrameParams = (inputs::Connection, Resource<Picture>);
type Handled = (Result<(), String>,);
type TopicParams = (Resource<topics::Message>,);
type TopicResults = (Result<(), topics::Error>,);

/// By a function of `wit/app.wit`.
async fn own(
    store: &mut Store<Guest>,
    instance: Instance,
    index: &ComponentExportIndex,
    input: Input,
    attempt: u32,
) -> wasmtime::Result<Answer> {
    match input {
        Input::Event(event) => {
            let params: EventParams = (wit_event(event, attempt),);
            Ok(nothing(call(store, instance, index, params).await?))
        }
        Input::Call(request) => {
            let params: CallParams = (wit_request(request),);
            let answer: Result<inputs::Response, String> =
                call(store, instance, index, params).await?;
            let answer = answer.map_err(InvokeError::GuestError);
            Ok(answer.map(|answer| Answered::call(answer.content_type, answer.body.into())))
        }
        Input::Http(request) => {
            let params: HttpParams = (wit_http_request(*request),);
            Ok(http_answer(call(store, instance, index, params).await?))
        }
        Input::Frame(connection, frame) => {
            let connection = wit_connection(connection);
            let frame = store.data_mut().give_frame(&connection.id, frame)?;
            let params: FrameParams = (connection, frame);
            Ok(nothing(call(store, instance, index, params).await?))
        }
    }
}

/// By `wasmcloud:messaging/handler`.
async fn receive(
    store: &mut Store<Guest>,
    instance: Instance,
    index: &ComponentExportIndex,
    input: Input,
) -> wasmtime::Result<Answer> {
    match input {
        Input::Event(event) => {
            let params = (BrokerMessage::from(event),);
            Ok(nothing(call(store, instance, index, params).await?))
        }
        Input::Call(request) => {
            store.data_mut().reply = None;
            let params = (BrokerMessage::from(request),);
            let handled = call(store, instance, index, params).await?;
            let missing = "it published nothing to reply-to";
            Ok(messaging::answer(handled, store.data_mut().reply.take(), missing))
        }
        Input::Http(_) | Input::Frame(..) => Ok(Ok(Answered::default())),
    }
}

/// By `wasi:messaging/incoming-handler`.
async fn receive_topic(
    store: &mut Store<Guest>,
    instance: Instance,
    index: &ComponentExportIndex,
    input: Input,
) -> wasmtime::Result<Answer> {
    let (message, is_call) = match input {
        Input::Event(event) => (topics::Message::from(event), false),
        Input::Call(request) => (topics::Message::from(request), true),
        Input::Http(_) | Input::Frame(..) => return Ok(Ok(Answered::default())),
    };
    store.data_mut().reply = None;
    let params: TopicParams = (store.data_mut().table.push(message)?,);
    let handled: Result<(), topics::Error> = call(store, instance, index, params).await?;
    let handled = handled.map_err(topics::Error::text);
    Ok(match is_call {
        true => messaging::answer(handled, store.data_mut().reply.take(), "it sent no reply"),
        false => nothing(handled),
    })
}

/// By `wasi:http`, of either version.
async fn serve(
    store: &mut Store<Guest>,
    instance: Instance,
    entrance: Entrance,
    index: &ComponentExportIndex,
    input: Input,
    outlet: Option<Outlet>,
) -> wasmtime::Result<Answer> {
    let is_http = matches!(input, Input::Http(_));
    let request = match web::of(input) {
        Ok(request) => request,
        Err(error) => return Ok(Err(error)),
    };
    let outlet = outlet.filter(|_| is_http);
    let answer = if entrance == Entrance::Service {
        let handle: service::Handle = instance.get_typed_func(&mut *store, index)?;
        service::serve(store, handle, request, outlet).await?
    } else {
        let handle: web::Handle = instance.get_typed_func(&mut *store, index)?;
        web::serve(store, &handle, request, outlet).await?
    };
    Ok(if is_http { answer } else { answer.and_then(web::plain) })
}

async fn call<P, R>(
    store: &mut Store<Guest>,
    instance: Instance,
    index: &ComponentExportIndex,
    params: P,
) -> wasmtime::Result<R>
where
    P: ComponentNamedList + Lower + Send + Sync + 'static,
    R: Send + Sync + 'static,
    (R,): ComponentNamedList + Lift,
{
    let function: TypedFunc<P, (R,)> = instance.get_typed_func(&mut *store, index)?;
    let (result,) = function.call_async(&mut *store, params).await?;
    Ok(result)
}

/// An event whose handler has a result.
fn as_call(event: Event) -> Input {
    let Event { id, subject, content_type, body, .. } = event;
    Input::Call(Request { id, name: subject, content_type, body })
}

fn nothing(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => Ok(Answered::default()),
        Err(text) => Err(InvokeError::GuestError(text)),
    }
}

fn http_answer(answer: Result<inputs::HttpResponse, String>) -> Answer {
    let response = answer.map_err(InvokeError::GuestError)?;
    let head = HttpHead::checked(response.status, response.headers)
        .map_err(|problem| InvokeError::GuestError(format!("answer: {problem}")))?;
    Ok(Answered::http(head, response.body.into()))
}

fn wit_event(event: Event, attempt: u32) -> inputs::Event {
    inputs::Event {
        id: event.id,
        source: event.source,
        subject: event.subject,
        time: event.time,
        content_type: event.content_type,
        body: event.body.into(),
        attempt,
    }
}

fn wit_request(request: Request) -> inputs::Request {
    inputs::Request {
        id: request.id,
        name: request.name,
        content_type: request.content_type,
        body: request.body.into(),
    }
}

fn wit_http_request(request: HttpRequest) -> inputs::HttpRequest {
    inputs::HttpRequest {
        id: request.id,
        method: request.method,
        path: request.path,
        query: request.query,
        authority: request.authority,
        headers: request.headers,
        route: request.route,
        parameters: request.parameters,
        body: request.body.into(),
    }
}

fn wit_connection(connection: Connection) -> inputs::Connection {
    inputs::Connection { id: connection.id, stream: connection.stream, tier: connection.tier }
}
