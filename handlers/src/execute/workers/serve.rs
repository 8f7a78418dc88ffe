//! The process beside a node that runs the guests of one handler. What it is told comes in at its
//! standard input, a socket; sockets that guests are given come in at its standard output. It
//! opens no file but the code, and ends when the node closes the socket. One that compiles does
//! nothing else.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::compile;
use super::remote::{Body, Remote, outlet};
use super::wire::{Done, Given, Job, Order, Start, Word, receive, send};
use crate::execute::wasm::Wasm;
use crate::execute::{Caller, Host, Inlet, Input, Invocation, InvokeError, Time};
use crate::settings::Settings;

/// The life of a worker process; an error where its node says what no node says.
pub fn serve_worker() -> io::Result<()> {
    let orders = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let sockets = io::stdout().as_fd().try_clone_to_owned()?;
    orders.set_nonblocking(true)?;
    // Guests give way every millisecond; sockets must then be looked at often, or they come late.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.event_interval(2).enable_all().build()?;
    let served = runtime.block_on(serve(orders, sockets));
    runtime.shutdown_background();
    served
}

async fn serve(orders: StdUnixStream, sockets: OwnedFd) -> io::Result<()> {
    let (mut orders, out) = UnixStream::from_std(orders)?.into_split();
    let start = match receive(&mut orders).await? {
        Some((Order::Start(start), _)) => start,
        Some((Order::Compile(job), component)) => return compile::serve(out, job, component).await,
        _ => return Ok(()),
    };
    let (words, written) = mpsc::unbounded_channel();
    tokio::spawn(write(out, written));
    let remote = Arc::new(Remote::new(words, sockets));
    let loaded = load(&start, &remote);
    let (wasm, ready) = match loaded {
        Ok(wasm) => (Some(wasm), Ok(())),
        Err(why) => (None, Err(why)),
    };
    let _ = remote.say(&Word::Ready(ready), Bytes::new());
    let mut running: HashMap<u64, AbortHandle> = HashMap::new();
    while let Some((order, body)) = receive(&mut orders).await? {
        match order {
            Order::Invoke { number, job } => {
                let Some(wasm) = wasm.clone() else { continue };
                running.retain(|_, task| !task.is_finished());
                let work = tokio::spawn(run(wasm, Arc::clone(&remote), number, *job, body));
                running.insert(number, work.abort_handle());
            }
            Order::Cancel { number } => {
                running.remove(&number).inspect(AbortHandle::abort);
            }
            Order::Answer { ask, answer, has_socket } => {
                remote.answered(ask, answer, body, has_socket);
            }
            Order::Start(_) | Order::Compile(_) => {
                return Err(io::Error::other("told to start twice"));
            }
        }
    }
    Ok(())
}

async fn write(mut out: OwnedWriteHalf, mut words: mpsc::UnboundedReceiver<(Vec<u8>, Bytes)>) {
    while let Some((frame, body)) = words.recv().await {
        if send(&mut out, frame, &body).await.is_err() {
            return;
        }
    }
}

fn load(start: &Start, remote: &Arc<Remote>) -> Result<Arc<Wasm>, InvokeError> {
    let host = Arc::clone(remote) as Arc<dyn Host>;
    Wasm::of_one(&start.digest, &start.form, &start.file, start.instances_max, host).map(Arc::new)
}

/// One invocation, and its end told when all of its answer has gone out.
async fn run(wasm: Arc<Wasm>, remote: Arc<Remote>, number: u64, job: Job, body: Bytes) {
    let _room = remote.begin(number);
    let (outlet, begun) = outlet(job.has_outlet);
    let limit = Duration::from_micros(job.left_us);
    let time = Time { deadline: Instant::now() + limit, limit_ms: job.limit_ms };
    let target = Arc::new(job.target);
    let caller = Caller {
        target: Arc::clone(&target),
        invocation: number.to_string(),
        attempt: job.attempt,
        trace: Default::default(),
        deadline: time.deadline,
        settings: Arc::new(Settings::of_parts(job.settings)),
        by: None,
        budget: Arc::default(),
    };
    let input = input(job.given, body, &remote, number);
    let Some(input) = input else {
        let result = prepare(&wasm, &caller, time).await;
        let _ = remote.say(&Word::Done { number, result }, Bytes::new());
        return;
    };
    let invocation = Invocation {
        target,
        input,
        deadline: time.deadline,
        attempt: job.attempt,
        trace: Default::default(),
        by: None,
        outlet,
    };
    let work = wasm.invoke(invocation, caller, time);
    let (answered, ()) = tokio::join!(work, remote.pass_on(number, begun));
    let (result, body) = match answered {
        Ok(answered) => {
            (Ok(Done { content_type: answered.content_type, http: answered.http }), answered.body)
        }
        Err(error) => (Err(error), Bytes::new()),
    };
    if let Err(why) = remote.say(&Word::Done { number, result }, body) {
        let result = Err(InvokeError::GuestError(format!("answer: {why}")));
        let _ = remote.say(&Word::Done { number, result }, Bytes::new());
    }
}

/// Makes the instances that are to wait, as far as there are places for them.
async fn prepare(wasm: &Wasm, caller: &Caller, time: Time) -> Result<Done, InvokeError> {
    while wasm.prepare(caller.clone(), time).await? {}
    Ok(Done::default())
}

/// None where there is nothing to handle.
fn input(given: Given, body: Bytes, remote: &Arc<Remote>, number: u64) -> Option<Input> {
    Some(match given {
        Given::Event(event) => Input::Event(crate::execute::Event { body, ..event }),
        Given::Call(request) => Input::Call(crate::execute::Request { body, ..request }),
        Given::Http { mut request, route, parameters, is_arriving } => {
            let parts = || Inlet::new(Body { remote: Arc::clone(remote), number });
            request.inlet = is_arriving.then(parts);
            (request.route, request.parameters, request.body) = (route, parameters, body);
            Input::Http(request)
        }
        Given::Nothing => return None,
    })
}
