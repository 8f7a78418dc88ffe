//! Bindings at work: rows are fetched before a handler runs, and its outputs are made when it has
//! succeeded. What to fetch and what to make is decided by [`crate::binding`].

use bus::After;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::process::put_data;
use super::{
    Answer, Answered, Caller, Host, HostError, Input, Invocation, InvokeError, Publication, Shared,
    Time,
};
use crate::binding::{Effect, Given};
use crate::manifest::CodeKind;

/// Rows by the names of their inputs.
pub(super) type Inputs = Map<String, Value>;

impl Shared {
    /// Runs a handler that has bindings; its outputs are part of its time, and of its success.
    pub(super) async fn run_bound(
        &self,
        mut invocation: Invocation,
        caller: Caller,
        time: Time,
    ) -> Answer {
        // Outputs want the whole result.
        invocation.outlet.take_if(|_| !caller.target.bindings.outputs.is_empty());
        let host = self.host.as_ref();
        let before = Before::fetch(host, &caller, &invocation.input);
        let before = tokio::time::timeout_at(time.deadline.into(), before).await;
        let before = before.map_err(|_| time.out())??;
        let is_event = matches!(invocation.input, Input::Event(_));
        if invocation.target.kind == CodeKind::Component && !before.inputs.is_empty() {
            before.wrap(&mut invocation.input);
        }
        let inputs = before.inputs.clone();
        let mut answered = self.run(invocation, caller.clone(), time, inputs).await?;
        // The instance gives its place up while others work for its result.
        answered.after = After::default();
        let done = before.finish(host, &caller, &answered);
        tokio::time::timeout_at(time.deadline.into(), done).await.map_err(|_| time.out())??;
        Ok(if is_event { Answered::default() } else { answered })
    }
}

/// What was known before the handler ran.
struct Before {
    given: Given,
    inputs: Inputs,
}

impl Before {
    /// Fetches the rows of the inputs. A key that the input does not hold gives no row.
    async fn fetch(host: &dyn Host, caller: &Caller, input: &Input) -> Result<Self, InvokeError> {
        let given = given(input);
        let mut inputs = Inputs::new();
        for binding in &caller.target.bindings.inputs {
            let row = match binding.key(&given) {
                Some(key) => host.store_get(caller, &binding.table, key).await,
                None => Ok(None),
            };
            let row = row.map_err(|error| of_host(error, &format!("input {:?}", binding.name)))?;
            inputs.insert(binding.name.clone(), row.map_or(Value::Null, Value::Object));
        }
        Ok(Self { given, inputs })
    }

    /// Components have no event document: they find `{"data": …, "inputs": …}` as their body.
    fn wrap(&self, input: &mut Input) {
        let (content_type, body) = match input {
            Input::Event(event) => (&mut event.content_type, &mut event.body),
            Input::Call(request) => (&mut request.content_type, &mut request.body),
            Input::Http(request) => {
                let mut content_type = request.header("content-type").unwrap_or_default();
                request.headers.retain(|(name, _)| {
                    !matches!(name.as_str(), "content-type" | "content-length")
                });
                self.wrap_body(&mut content_type, &mut request.body);
                request.headers.push(("content-type".to_owned(), content_type));
                return;
            }
            Input::Frame(..) => return,
        };
        self.wrap_body(content_type, body);
    }

    fn wrap_body(&self, content_type: &mut String, body: &mut Bytes) {
        let mut document = json!({ "inputs": self.inputs });
        put_data(&mut document, content_type, body);
        "application/json".clone_into(content_type);
        *body = document.to_string().into();
    }

    /// Makes the outputs of a result: blobs first, whose keys the others may hold. Nothing else
    /// is begun while anything in the result is wrong.
    async fn finish(
        mut self,
        host: &dyn Host,
        caller: &Caller,
        answered: &Answered,
    ) -> Result<(), InvokeError> {
        if answered.http.as_ref().is_some_and(|head| head.status >= 400) {
            return Ok(());
        }
        let bindings = &caller.target.bindings;
        let answer = answered.returned.as_ref().unwrap_or(&answered.body);
        self.given.result = serde_json::from_slice(answer).unwrap_or_default();
        let blobs = bindings.blobs(&self.given, answer).map_err(InvokeError::GuestError)?;
        for (name, content) in blobs {
            let key = host.put_blob(caller, content).await;
            let key = key.map_err(|error| of_host(error, &format!("output of blob {name:?}")))?;
            self.given.blobs.insert(name, key);
        }
        let effects = bindings.effects(&self.given).map_err(InvokeError::GuestError)?;
        for effect in effects {
            make(host, caller, effect).await?;
        }
        Ok(())
    }
}

async fn make(host: &dyn Host, caller: &Caller, effect: Effect) -> Result<(), InvokeError> {
    match effect {
        Effect::Put { table, rows } => {
            let done = host.store_put(caller, &table, rows).await;
            done.map_err(|error| of_host(error, &format!("output to table {table:?}")))
        }
        Effect::Publish { subject, data, number } => {
            let what = format!("output of event {subject:?}");
            let id = format!("{}.{}.{number}", caller.invocation, caller.target.handler);
            let (content_type, body) = ("application/json".into(), data.to_string().into());
            let event = Publication { id, subject, content_type, body, metadata: vec![] };
            host.publish(caller, event).await.map_err(|error| of_host(error, &what))
        }
    }
}

/// Whose fault it is: what is away now is the node's, anything else the handler's.
fn of_host(error: HostError, what: &str) -> InvokeError {
    match error {
        HostError::Unavailable(_) => InvokeError::Node(format!("{what}: {error}")),
        error => InvokeError::GuestError(format!("{what}: {error}")),
    }
}

fn given(input: &Input) -> Given {
    let mut given = Given::default();
    let mut document = json!({});
    match input {
        Input::Event(event) => {
            put_data(&mut document, &event.content_type, &event.body);
            given.id.clone_from(&event.id);
            given.source.clone_from(&event.source);
            given.time.clone_from(&event.time);
            given.subject.clone_from(&event.subject);
        }
        Input::Call(request) => {
            put_data(&mut document, &request.content_type, &request.body);
            given.id.clone_from(&request.id);
            given.subject.clone_from(&request.name);
        }
        Input::Http(request) => {
            let content_type = request.header("content-type").unwrap_or_default();
            put_data(&mut document, &content_type, &request.body);
            given.id.clone_from(&request.id);
            given.headers.clone_from(&request.headers);
            given.query.clone_from(&request.query);
            given.path.clone_from(&request.parameters);
        }
        Input::Frame(..) => {}
    }
    given.data = document["data"].take();
    given
}
