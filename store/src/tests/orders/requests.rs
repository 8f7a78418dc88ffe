//! Tasks that run one at a time and change places before each request to the store of objects.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::Choices;

/// How long a task may be busy with something else than requests while others could go on; after
/// that it is taken to wait for one of them.
const BUSY: Duration = Duration::from_millis(30);
/// How long one may be busy that nobody can be waiting for.
const STUCK: Duration = Duration::from_secs(30);

thread_local! {
    /// True if the task that is polled may make a request.
    static MAY: Cell<bool> = const { Cell::new(false) };
    /// Who asked for that in vain.
    static ASKED: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

/// Others may do something before what comes next. Only in what is run here.
async fn step() {
    poll_fn(|context| {
        if MAY.take() {
            return Poll::Ready(());
        }
        ASKED.with_borrow_mut(|asked| asked.push(context.waker().clone()));
        Poll::Pending
    })
    .await;
}

/// Runs tasks in the order that is chosen, each from one request to the next.
fn run(choices: &mut Choices, tasks: Vec<BoxFuture<'_, ()>>) {
    let (rung, bells) = channel();
    let mut tasks: Vec<Task<'_>> =
        tasks.into_iter().map(|run| Task { run, at: At::Step }).collect();
    loop {
        bells.try_iter().for_each(|who: usize| tasks[who].is_rung());
        let ready: Vec<usize> = (0..tasks.len()).filter(|i| tasks[*i].is_ready()).collect();
        if !ready.is_empty() {
            let next = ready[choices.one(ready.len())];
            go_on(&mut tasks, next, ready.len() > 1, &rung, &bells);
        } else if tasks.iter().all(|task| task.at == At::End) {
            return;
        } else {
            let who = bells.recv_timeout(STUCK).expect("no task goes on");
            tasks[who].is_rung();
        }
    }
}

/// Lets a task go on to its next request, or to where it waits for another one.
fn go_on(
    tasks: &mut [Task<'_>],
    who: usize,
    others_wait: bool,
    rung: &Sender<usize>,
    bells: &Receiver<usize>,
) {
    let bell = Waker::from(Arc::new(Bell { who, rung: Mutex::new(rung.clone()) }));
    MAY.set(tasks[who].at == At::Step);
    ASKED.take().into_iter().for_each(Waker::wake);
    loop {
        let polled = tasks[who].run.as_mut().poll(&mut Context::from_waker(&bell));
        let has_asked = ASKED.with_borrow(|asked| !asked.is_empty());
        tasks[who].at = match polled {
            Poll::Ready(()) => At::End,
            Poll::Pending if has_asked => At::Step,
            Poll::Pending => At::Elsewhere,
        };
        if tasks[who].at != At::Elsewhere {
            return;
        }
        let patience = if others_wait { BUSY } else { STUCK };
        while tasks[who].at == At::Elsewhere {
            match bells.recv_timeout(patience) {
                Ok(rang) => tasks[rang].is_rung(),
                Err(_) => return,
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// It is about to make a request.
    Step,
    /// It waits for something else.
    Elsewhere,
    /// That is there.
    Rung,
    End,
}

struct Task<'a> {
    run: BoxFuture<'a, ()>,
    at: At,
}

impl Task<'_> {
    fn is_rung(&mut self) {
        if self.at == At::Elsewhere {
            self.at = At::Rung;
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.at, At::Step | At::Rung)
    }
}

struct Bell {
    who: usize,
    rung: Mutex<Sender<usize>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Nobody listens any more when all is over.
        let _ = crate::lock(&self.rung).send(self.who);
    }
}

/// A store of objects whose requests wait for their turn, while that is asked for.
#[derive(Clone, Debug, Default)]
pub struct Stepped {
    pub memory: Arc<InMemory>,
    pub is_stepped: Arc<AtomicBool>,
}

impl Stepped {
    fn step(&self) -> impl Future<Output = ()> + Send + 'static {
        let is_stepped = self.is_stepped.load(Ordering::SeqCst);
        async move {
            if is_stepped {
                step().await;
            }
        }
    }

    /// [`run`], with steps only while it runs.
    pub fn run(&self, choices: &mut Choices, tasks: Vec<BoxFuture<'_, ()>>) {
        self.is_stepped.store(true, Ordering::SeqCst);
        run(choices, tasks);
        self.is_stepped.store(false, Ordering::SeqCst);
    }
}

impl fmt::Display for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stepped")
    }
}

#[async_trait]
impl ObjectStore for Stepped {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, how: PutOptions) -> Result<PutResult> {
        self.step().await;
        self.memory.put_opts(at, bytes, how).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.memory.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        self.step().await;
        self.memory.get_opts(at, how).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let inner = self.memory.clone();
        let removing = self.step().map(move |()| inner.delete_stream(at));
        removing.flatten_stream().boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (inner, prefix) = (self.memory.clone(), prefix.cloned());
        self.step().map(move |()| inner.list(prefix.as_ref())).flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.memory.copy_opts(from, to, how).await
    }
}
