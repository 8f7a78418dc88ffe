//! `wasi:http/handler` of WASI 0.3: stock HTTP components that answer while they go on, with bodies
//! that are streams. What reaches them is what reaches those of 0.2.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::http::Request as WebRequest;
use wasmtime::Store;
use wasmtime::component::{Accessor, Resource, TypedFunc};
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{Error, WasiHttpView as _};

use super::guest::Guest;
use super::web::{self, answered_with, collect};
use crate::execute::{Answer, Outlet};

pub(super) type Handle = TypedFunc<(Resource<Request>,), (Given,)>;
type Given = Result<Resource<Response>, ErrorCode>;
/// Ends when the guest is done with the request's body.
type Sent = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Lets the guest handle one request, until all that it began has ended: it may go on after its
/// answer. One that holds on to a body without an end is stopped at its deadline.
pub(super) async fn serve(
    store: &mut Store<Guest>,
    handle: Handle,
    request: WebRequest<web::Asking>,
    outlet: Option<Outlet>,
) -> wasmtime::Result<Answer> {
    let lull = Lull::default();
    let work = async |guest: &Accessor<Guest>| -> wasmtime::Result<Answer> {
        let answer = answer(guest, handle, request, outlet, Some(&lull)).await?;
        poll_fn(|context| guest.poll_no_interesting_tasks(context)).await;
        Ok(answer)
    };
    let mut work = pin!(store.run_concurrent(work));
    poll_fn(|context| lull.watch(work.as_mut().poll(context), context)).await?
}

/// What the guest answers to one request; an error is the end of its instance.
pub(super) async fn answer(
    guest: &Accessor<Guest>,
    handle: Handle,
    request: WebRequest<web::Asking>,
    outlet: Option<Outlet>,
    lull: Option<&Lull>,
) -> wasmtime::Result<Answer> {
    let (request, sent) = guest.with(|mut access| {
        let http = access.get().http();
        let (request, sent) = Request::from_http(http.hooks, request);
        let sent: Sent = Box::pin(sent);
        wasmtime::error::Ok((http.table.push(request)?, sent))
    })?;
    let (given,) = handle.call_concurrent(guest, (request,)).await?;
    let response = match given {
        Ok(response) => guest.with(|mut access| {
            let response = access.get().table.delete(response)?;
            response.into_http(&mut access, sent)
        })?,
        Err(code) => return Ok(Err(answered_with(&code))),
    };
    Ok(collect(response, outlet, lull).await)
}

/// Tells who takes an answer, inside of the engine's loop, when the guest does nothing but wait:
/// that is seen from outside, when a turn of the loop leaves it waiting.
#[derive(Default)]
pub(super) struct Lull {
    is_awaited: AtomicBool,
    is_here: AtomicBool,
}

impl Lull {
    /// Completes when the guest does nothing but wait.
    pub(super) async fn comes(&self) {
        self.is_here.store(false, Ordering::Relaxed);
        self.is_awaited.store(true, Ordering::Relaxed);
        poll_fn(|_| match self.is_here.load(Ordering::Relaxed) {
            true => Poll::Ready(()),
            // `watch` wakes it, with all of the loop.
            false => Poll::Pending,
        })
        .await;
    }

    /// Call with what came of a turn of the loop.
    fn watch<T>(&self, turn: Poll<T>, context: &mut Context<'_>) -> Poll<T> {
        if turn.is_pending() && self.is_awaited.swap(false, Ordering::Relaxed) {
            self.is_here.store(true, Ordering::Relaxed);
            context.waker().wake_by_ref();
        }
        turn
    }
}
