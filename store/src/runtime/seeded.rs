//! A machine of one thread, on which nothing happens at the same time: whenever somebody waits, a
//! seed or an order says who goes on. Its clock stands still while anybody can, but for the little
//! that each turn takes, and then goes to the next moment that somebody waits for.
//!
//! So a run is the same again, and whoever waits for what can be seen: if nobody can go on, and
//! nobody waits for a moment, the test ends. Within a turn nothing else happens: a job, or what
//! lies between two waits of a task, is one step.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvError, TryRecvError};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, LocalBoxFuture, select};
use futures::task::AtomicWaker;
use tokio::sync::oneshot;

use super::{Instant, Late};
use crate::tests::Dice;
use crate::tests::orders::Choices;

/// Microseconds that a turn takes at most.
const TURN_US_MAX: u64 = 150;
/// When the clock begins, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_800_000_000_000;
/// Turns of a thread that was told to end.
const LAST_TURNS_MAX: usize = 100_000;
/// Turns between two marks in a trace.
const MARK_TURNS: u64 = 1_024;

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// Says what goes on.
pub trait Chance {
    /// One of so many tasks that have something to do and so many steps that may be taken; there
    /// is one at least.
    fn next(&mut self, tasks: usize, steps: usize) -> Next;
    /// How long that takes.
    fn takes(&mut self) -> Duration;
    /// True if the small steps count, and not only those that ask for objects.
    fn is_fine(&self) -> bool;
}

/// The task or the step of this number.
pub enum Next {
    Task(usize),
    Step(usize),
}

/// Anything may be next.
impl Chance for Dice {
    fn next(&mut self, tasks: usize, steps: usize) -> Next {
        match self.below((tasks + steps) as u64) as usize {
            at if at < tasks => Next::Task(at),
            at => Next::Step(at - tasks),
        }
    }

    fn takes(&mut self) -> Duration {
        Duration::from_micros(self.below(TURN_US_MAX))
    }

    fn is_fine(&self) -> bool {
        true
    }
}

/// Each goes on to where it has to take a step or to wait; then there is a choice of steps.
impl Chance for Choices<'_> {
    fn next(&mut self, tasks: usize, steps: usize) -> Next {
        match tasks {
            0 => Next::Step(self.one(steps)),
            _ => Next::Task(0),
        }
    }

    fn takes(&mut self) -> Duration {
        Duration::ZERO
    }

    fn is_fine(&self) -> bool {
        false
    }
}

/// What was done, as far as it takes to tell two runs apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub turns: u64,
    pub hash: u64,
    /// The hash after each so many turns.
    pub marks: Vec<u64>,
}

impl Trace {
    fn add(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}

/// What goes with the machine when its power does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Machine,
    Outside,
}

struct World {
    /// The tasks that have something to do, in the order in which they were woken.
    woken: Arc<Mutex<Vec<u64>>>,
    is_fine: bool,
    state: RefCell<State>,
}

struct State {
    tasks: BTreeMap<u64, Task>,
    steps: Vec<(u64, Waker)>,
    timers: BTreeMap<(Duration, u64), Waker>,
    /// For the next of these.
    number: u64,
    now: Duration,
    begun: Instant,
    dice: Dice,
    /// What is begun is of this.
    of: Of,
    /// A thread that was told to end takes all its steps at once.
    ends: bool,
    /// Turns until the power goes.
    power: Option<u64>,
    trace: Trace,
}

struct Task {
    run: LocalBoxFuture<'static, ()>,
    of: Of,
    waker: Waker,
}

/// The task that is not among the others: what [`run`] was given.
const MAIN: u64 = 0;

/// Runs `main`, and whatever is begun in it, as a seed says.
pub fn by_seed<T>(seed: u64, main: impl Future<Output = T>) -> T {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    run(seed, &mut dice, main)
}

/// The same in the order that is chosen.
pub fn in_order<T>(choices: &mut Choices<'_>, main: impl Future<Output = T>) -> T {
    run(1, choices, main)
}

fn run<T>(seed: u64, chance: &mut dyn Chance, main: impl Future<Output = T>) -> T {
    let here = Here::begin(seed, chance.is_fine());
    let world = &here.0;
    let waker = world.waker(MAIN);
    let mut main = pin!(main);
    waker.wake_by_ref();
    loop {
        match world.choose(chance) {
            None => {}
            Some(MAIN) => {
                world.state.borrow_mut().of = Of::Outside;
                if let Poll::Ready(done) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return done;
                }
            }
            Some(who) => world.poll(who),
        }
        world.pass(chance.takes());
    }
}

impl World {
    fn here() -> Option<Rc<World>> {
        // Threads that end may still ask.
        WORLD.try_with(|world| world.borrow().clone()).ok().flatten()
    }

    fn waker(&self, who: u64) -> Waker {
        Waker::from(Arc::new(Bell { who, woken: self.woken.clone() }))
    }

    /// Who goes on; none if it has ended meanwhile.
    fn choose(&self, chance: &mut dyn Chance) -> Option<u64> {
        let tasks = crate::lock(&self.woken).len();
        let steps = self.state.borrow().steps.len();
        if tasks + steps == 0 {
            self.go_to_next_moment();
            return None;
        }
        let who = match chance.next(tasks, steps) {
            Next::Task(at) => crate::lock(&self.woken).remove(at),
            Next::Step(at) => {
                let (_, waker) = self.state.borrow_mut().steps.remove(at);
                waker.wake();
                // Whoever that is goes on at once, unless there was something else to do already.
                let mut woken = crate::lock(&self.woken);
                if woken.len() > tasks { woken.pop()? } else { return None }
            }
        };
        let mut state = self.state.borrow_mut();
        let trace = &mut state.trace;
        trace.turns += 1;
        [who, tasks as u64, steps as u64].into_iter().for_each(|number| trace.add(number));
        if trace.turns.is_multiple_of(MARK_TURNS) {
            trace.marks.push(trace.hash);
        }
        Some(who)
    }

    fn poll(&self, who: u64) {
        let task = self.state.borrow_mut().tasks.remove(&who);
        let Some(mut task) = task else { return };
        self.state.borrow_mut().of = task.of;
        let waker = task.waker.clone();
        if task.run.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.state.borrow_mut().tasks.insert(who, task);
        }
    }

    /// Lets some time pass, and the power go if it is due.
    fn pass(&self, time: Duration) {
        let mut state = self.state.borrow_mut();
        state.now += time;
        let is_cut = match &mut state.power {
            Some(0) => true,
            Some(turns) => {
                *turns -= 1;
                false
            }
            None => false,
        };
        drop(state);
        self.wake_in_time();
        if is_cut {
            self.cut();
        }
    }

    fn go_to_next_moment(&self) {
        let mut state = self.state.borrow_mut();
        let next = state.timers.first_key_value().map(|((at, _), _)| *at);
        let left: Vec<u64> = state.tasks.keys().copied().collect();
        let next = next.unwrap_or_else(|| panic!("nobody can go on; left are {left:?}"));
        state.now = state.now.max(next);
        drop(state);
        self.wake_in_time();
    }

    fn wake_in_time(&self) {
        loop {
            let mut state = self.state.borrow_mut();
            let now = state.now;
            let Some(first) = state.timers.first_entry().filter(|first| first.key().0 <= now)
            else {
                return;
            };
            let waker = first.remove();
            drop(state);
            waker.wake();
        }
    }

    /// Everything on the machine stops where it is.
    fn cut(&self) {
        let mut state = self.state.borrow_mut();
        state.power = None;
        state.of = Of::Outside;
        let all = std::mem::take(&mut state.tasks).into_iter();
        let (gone, left) = all.partition(|(_, task)| task.of == Of::Machine);
        state.tasks = left;
        drop(state);
        drop(gone);
    }

    fn begin(&self, of: Of, run: LocalBoxFuture<'static, ()>) -> u64 {
        let mut state = self.state.borrow_mut();
        let who = state.next_number();
        let waker = self.waker(who);
        waker.wake_by_ref();
        state.tasks.insert(who, Task { run, of, waker });
        who
    }
}

impl State {
    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

struct Bell {
    who: u64,
    woken: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let mut woken = crate::lock(&self.woken);
        if !woken.contains(&self.who) {
            woken.push(self.who);
        }
    }
}

/// The world is there as long as this is.
struct Here(Rc<World>);

impl Here {
    fn begin(seed: u64, is_fine: bool) -> Here {
        let state = State {
            tasks: BTreeMap::new(),
            steps: Vec::new(),
            timers: BTreeMap::new(),
            number: MAIN,
            now: Duration::ZERO,
            begun: Instant::now(),
            dice: Dice(seed.wrapping_mul(0xd6e8_feb8_6659_fd93) | 1),
            of: Of::Outside,
            ends: false,
            power: None,
            trace: Trace::default(),
        };
        let world = World { woken: Arc::default(), is_fine, state: RefCell::new(state) };
        let world = Rc::new(world);
        let before = WORLD.with(|here| here.replace(Some(world.clone())));
        assert!(before.is_none(), "one at a time");
        Here(world)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        loop {
            let left = std::mem::take(&mut self.0.state.borrow_mut().tasks);
            if left.is_empty() {
                break;
            }
            // It may begin other things when it goes.
            drop(left);
        }
        WORLD.with(|here| here.replace(None));
    }
}

/// True where what is begun gets its turns from here.
pub fn is_here() -> bool {
    World::here().is_some()
}

pub fn now() -> Option<Instant> {
    let world = World::here()?;
    let state = world.state.borrow();
    Some(state.begun + state.now)
}

pub fn wall_ms() -> Option<u64> {
    let world = World::here()?;
    let now = world.state.borrow().now;
    Some(BEGIN_MS + now.as_millis() as u64)
}

pub fn entropy() -> Option<u64> {
    let world = World::here()?;
    let dice = &mut world.state.borrow_mut().dice;
    Some(dice.below(1 << 32) << 32 | dice.below(1 << 32))
}

/// What has been done up to now.
pub fn trace() -> Trace {
    let world = World::here().expect("there is a world");
    let state = world.state.borrow();
    let mut trace = state.trace.clone();
    trace.add(state.now.as_micros() as u64);
    trace
}

/// How many wait for a moment.
pub fn timers() -> usize {
    World::here().expect("there is a world").state.borrow().timers.len()
}

/// Makes what somebody was told a part of the trace.
pub fn note(told: impl Hash) {
    let mut hasher = DefaultHasher::new();
    told.hash(&mut hasher);
    let world = World::here().expect("there is a world");
    world.state.borrow_mut().trace.add(hasher.finish());
}

pub fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> Running<T> {
    let of = World::here().expect("there is a world").state.borrow().of;
    begin(of, task)
}

/// Begins what ends when the power goes, with everything that it begins.
pub fn on_machine<T: 'static>(task: impl Future<Output = T> + 'static) -> Running<T> {
    begin(Of::Machine, task)
}

/// Begins what goes on without the machine; elsewhere a task like any.
pub fn outside(task: impl Future<Output = ()> + Send + 'static) {
    match is_here() {
        true => drop(begin(Of::Outside, task)),
        false => drop(tokio::spawn(task)),
    }
}

fn begin<T: 'static>(of: Of, task: impl Future<Output = T> + 'static) -> Running<T> {
    let (tell, told) = oneshot::channel();
    let run = async move { drop(tell.send(task.await)) };
    let who = World::here().expect("there is a world").begin(of, run.boxed_local());
    Running { who, told }
}

/// A task or a job of this world.
pub struct Running<T> {
    who: u64,
    told: oneshot::Receiver<T>,
}

impl<T> Running<T> {
    pub fn abort(&self) {
        let Some(world) = World::here() else { return };
        let task = world.state.borrow_mut().tasks.remove(&self.who);
        drop(task);
    }
}

impl<T> Future for Running<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.told.poll_unpin(context).map_err(io::Error::other)
    }
}

/// Lets what was begun on the machine run until it ends, or for so many turns at most: then the
/// power goes. True if it has gone.
pub async fn runs_for(turns: u64, running: Running<()>) -> bool {
    let world = World::here().expect("there is a world");
    world.state.borrow_mut().power = Some(turns);
    let is_cut = running.await.is_err();
    world.state.borrow_mut().power = None;
    is_cut
}

/// A thread of this world.
pub struct Thread(u64);

pub fn thread(run: impl Future<Output = ()> + 'static) -> Thread {
    Thread(spawn(run).who)
}

impl Thread {
    /// Lets it come to its end, if it is there: whoever waits for that does nothing else.
    pub fn join(self) {
        let Some(world) = World::here().filter(|_| !std::thread::panicking()) else { return };
        let task = world.state.borrow_mut().tasks.remove(&self.0);
        let Some(mut task) = task else { return };
        world.state.borrow_mut().ends = true;
        let mut context = Context::from_waker(Waker::noop());
        let mut turns = 0..LAST_TURNS_MAX;
        while task.run.as_mut().poll(&mut context).is_pending() {
            turns.next().expect("it ends when it is told to");
        }
        world.state.borrow_mut().ends = false;
    }
}

/// What is told to a thread of this world.
pub async fn received<T>(rx: &Receiver<T>, bell: &AtomicWaker) -> Result<T, RecvError> {
    poll_fn(|context| {
        bell.register(context.waker());
        match rx.try_recv() {
            Ok(told) => Poll::Ready(Ok(told)),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => Poll::Ready(Err(RecvError)),
        }
    })
    .await
}

/// A step, unless only requests are.
pub async fn step() {
    if World::here().is_some_and(|world| world.is_fine) {
        Step(None).await;
    }
}

/// A step before a request for an object.
pub async fn request() {
    if is_here() {
        Step(None).await;
    }
}

/// Waits until it is chosen.
struct Step(Option<u64>);

impl Future for Step {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(world) = World::here() else { return Poll::Ready(()) };
        let mut state = world.state.borrow_mut();
        let waker = context.waker().clone();
        match self.0 {
            _ if state.ends => return Poll::Ready(()),
            None => {
                let number = state.next_number();
                self.0 = Some(number);
                state.steps.push((number, waker));
            }
            Some(number) => match state.steps.iter_mut().find(|(step, _)| *step == number) {
                Some((_, known)) => *known = waker,
                None => return Poll::Ready(()),
            },
        }
        Poll::Pending
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let (Some(number), Some(world)) = (self.0, World::here()) {
            world.state.borrow_mut().steps.retain(|(step, _)| *step != number);
        }
    }
}

pub async fn sleep(duration: Duration) {
    let at = World::here().expect("there is a world").state.borrow().now + duration;
    Sleep { at, number: None }.await;
}

pub async fn timeout<F: Future>(patience: Duration, wanted: F) -> Result<F::Output, Late> {
    match select(pin!(wanted), pin!(sleep(patience))).await {
        Either::Left((there, _)) => Ok(there),
        Either::Right(_) => Err(Late),
    }
}

struct Sleep {
    at: Duration,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(world) = World::here() else { return Poll::Ready(()) };
        let mut state = world.state.borrow_mut();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| state.next_number());
        self.number = Some(number);
        state.timers.insert((self.at, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(number), Some(world)) = (self.number, World::here()) {
            world.state.borrow_mut().timers.remove(&(self.at, number));
        }
    }
}

mod tests;
