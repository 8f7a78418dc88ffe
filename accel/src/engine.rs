//! [`EdgeAccelerate`]: a thread and a bounded queue for each device, and what is shared between
//! them: learned costs, histories, and the health of the devices.

mod batch;
mod changes;
mod circuits;
mod encoders;
mod jobs;
mod moving;
mod taking;
mod unit;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hw::Device;
use kernels::h264::ENCODERS;
use tokio::sync::{broadcast, oneshot};

use self::jobs::{history_key, waiting};
use self::unit::{LOAD_US, Unit};
use self::watch::{HUNG_AFTER, Reply};
use crate::encoders::{Make, Program, Worker};
use crate::history::Histories;
use crate::plan::{Plan, plan};
use crate::plans::Plans;
use crate::queue::Rank;
use crate::schedule::batch::{BATCH_LEN_MAX, Batch, Waiting};
use crate::schedule::circuits::Worths;
use crate::schedule::{Costs, Decision, DeviceView, JobView, Prefer, fallback, schedule};
use crate::share::{Seat, Turns};
use crate::status::{DeviceChange, DeviceStatus};
use crate::worker::Scratch;
use crate::{Error, Job, Output, Result};

/// Bytes that move from one device to another in a microsecond: a cautious guess.
const MOVED_BYTES_PER_US: u64 = 2000;
/// How often it is looked whether a device's thread has ended.
const ENDED_LOOK: Duration = Duration::from_millis(1);
/// Most changes of devices that wait for who is told of them.
const CHANGES_MAX: usize = 64;

/// How to start.
#[derive(Debug, Clone)]
pub struct Config {
    pub prefer: Prefer,
    /// Use OpenCL devices where there are some.
    pub opencl: bool,
    /// How FPGA cards are reached; `None` looks for none.
    pub xrt: Option<hw::xrt::Setup>,
    /// The child that looks for accelerators; `None` looks in this process.
    pub probe: Option<hw::Probe>,
    /// The child that looks for encoders of others and has them code; `None` offers none.
    pub encoders: Option<Program>,
    /// Threads of one kernel on the CPU device; `None` for as many as there are cores.
    pub cpu_threads: Option<usize>,
    /// Where compiled kernels are kept between runs.
    pub cache_dir: Option<PathBuf>,
    /// How this process comes to its turns, where others use the devices as well.
    pub turns: Turns,
    /// How long a device may take for what it was given before it counts as hung.
    pub hung_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prefer: Prefer::default(),
            opencl: true,
            xrt: None,
            probe: None,
            encoders: None,
            cpu_threads: None,
            cache_dir: None,
            turns: Turns::Alone,
            hung_after: HUNG_AFTER,
        }
    }
}

/// Runs jobs on the devices of this machine. Dropping it stops its threads; jobs that still wait
/// then end with [`Error::Stopped`].
pub struct EdgeAccelerate {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    devices: Vec<Arc<dyn Device>>,
    /// One for each device: whose encoder it has, where that is not ours.
    workers: Vec<Option<Arc<Worker>>>,
    prefer: Prefer,
    turns: Turns,
    limits: Limits,
    started: Instant,
    state: Mutex<State>,
    plans: Mutex<Plans>,
    /// One for each device: there is work, or it is time to stop.
    wake: Vec<Condvar>,
    /// The same for the watch.
    wake_watch: Condvar,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    batch_len_max: usize,
    hung_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { batch_len_max: BATCH_LEN_MAX, hung_after: HUNG_AFTER }
    }
}

struct State {
    units: Vec<Unit>,
    costs: Costs,
    worths: Worths,
    histories: Histories,
    /// Of the job that came last.
    last: Option<Arc<Plan>>,
    changes: broadcast::Sender<DeviceChange>,
    /// Somebody has, or will soon have, a job.
    awake: bool,
    stopping: bool,
    /// No device has a thread any more that could hang.
    unwatched: bool,
}

/// A job on its way to a device.
struct Work {
    job: Job,
    plan: Arc<Plan>,
    submitted: Instant,
    cost_us: u64,
    /// Devices that are not for it.
    excluded: Vec<usize>,
    /// The circuit that its device has then.
    circuit: usize,
    reply: Reply,
}

/// What a device's thread does next.
enum Turn {
    Jobs(Vec<Work>),
    Load(usize),
}

type Answer = std::result::Result<Output, Failure>;

enum Failure {
    /// Another device may do it.
    Device { device: usize, error: hw::Error },
    /// Nobody will do it.
    Refused(Error),
}

impl EdgeAccelerate {
    /// Finds the devices of this machine and starts a thread for each. With the first job, or
    /// [`EdgeAccelerate::wake`], kernels are compiled there in the background.
    pub fn start(config: Config) -> Result<Self> {
        let defaults = hw::Config::default();
        let cpu_threads = config.cpu_threads.unwrap_or(defaults.cpu_threads);
        let look = move |program: Program| program.look(cpu_threads);
        let looking = config.encoders.map(|program| std::thread::spawn(move || look(program)));
        let devices = hw::discover(&hw::Config {
            cpu_threads,
            opencl: config.opencl,
            xrt: config.xrt,
            probe: config.probe,
            cache_dir: config.cache_dir,
            ..defaults
        });
        let workers = looking.and_then(|looking| looking.join().ok()).unwrap_or_default();
        let limits = Limits { hung_after: config.hung_after, ..Limits::default() };
        Self::start_sharing(devices, workers, config.prefer, config.turns, limits)
    }

    /// Starts with these devices, for tests with devices that fail on purpose.
    pub fn start_with(devices: Vec<Arc<dyn Device>>, prefer: Prefer) -> Result<Self> {
        Self::start_sharing(devices, Vec::new(), prefer, Turns::Alone, Limits::default())
    }

    fn start_sharing(
        mut devices: Vec<Arc<dyn Device>>,
        encoders: Vec<Worker>,
        prefer: Prefer,
        turns: Turns,
        limits: Limits,
    ) -> Result<Self> {
        let mut workers: Vec<Option<Arc<Worker>>> = vec![None; devices.len()];
        for worker in encoders {
            devices.push(worker.device.clone());
            workers.push(Some(Arc::new(worker)));
        }
        let units = devices.iter().map(|_| Unit { is_cold: true, ..Unit::default() }).collect();
        let state = State {
            units,
            costs: Costs::default(),
            worths: Worths::default(),
            histories: Histories::default(),
            last: None,
            changes: broadcast::channel(CHANGES_MAX).0,
            awake: false,
            stopping: false,
            unwatched: false,
        };
        let shared = Arc::new(Shared {
            wake: devices.iter().map(|_| Condvar::new()).collect(),
            devices,
            workers,
            prefer,
            turns,
            limits,
            started: Instant::now(),
            state: Mutex::new(state),
            plans: Mutex::default(),
            wake_watch: Condvar::new(),
        });
        let mut engine = Self { shared, threads: Vec::new() };
        for index in 0..engine.shared.devices.len() {
            let id = engine.shared.devices[index].info().id.clone();
            engine.start_thread(&id, move |shared| shared.work(index))?;
        }
        engine.start_thread("watch", Shared::watch)?;
        Ok(engine)
    }

    fn start_thread(
        &mut self,
        name: &str,
        life: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<()> {
        let (shared, name) = (self.shared.clone(), format!("accel-{name}"));
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || life(&shared));
        self.threads.push(thread.map_err(|e| Error::NoDevice(format!("no thread {name}: {e}")))?);
        Ok(())
    }

    /// The devices, in order of discovery.
    pub fn devices(&self) -> Vec<DeviceStatus> {
        let plan = self.shared.state().last.clone();
        let (signature, order) = self.shared.fallback(plan.as_deref());
        let state = self.shared.state();
        let now = Instant::now();
        let devices = self.shared.devices.iter().zip(&state.units).enumerate();
        let status = |(index, (device, unit)): (usize, (&Arc<dyn Device>, &Unit))| DeviceStatus {
            encoder: self.shared.make(index).map_or(ENCODERS[0], Make::name).to_string(),
            order: order.iter().position(|device| *device == index).map(|place| place + 1),
            cost_us: signature.and_then(|signature| state.costs.cost_us(signature, index)),
            ..unit.status(device.info(), state.awake, now)
        };
        devices.map(status).collect()
    }

    /// Gets the devices ready for jobs that will come soon.
    pub fn wake(&self) {
        self.shared.wake_all(&mut self.shared.state());
    }

    /// Runs a job on the device that suits it best, and on others if that one fails.
    ///
    /// Dropping the future withdraws a job that has not begun.
    pub async fn run(&self, job: Job) -> Result<Output> {
        job.input.check()?;
        let plan = self.shared.planned(&job)?;
        self.shared.check_encoders(&plan)?;
        if plan.is_remembering() && job.history.is_none() {
            return Err(Error::Invalid(
                "job: the pipeline uses a value of the previous frame: give a history key"
                    .to_string(),
            ));
        }
        let submitted = Instant::now();
        let (mut excluded, lacking) = self.shared.unfit(&plan);
        let mut last_error = lacking.unwrap_or_else(|| "there is none".to_string());
        loop {
            let sent = self.shared.submit(&job, &plan, submitted, &excluded)?;
            let Some(answer) = sent else { return Err(Error::NoDevice(last_error)) };
            match answer.await {
                Ok(Ok(output)) => return Ok(output),
                Ok(Err(Failure::Refused(error))) => return Err(error),
                Ok(Err(Failure::Device { error, .. })) if error.is_callers() => {
                    return Err(Error::NoDevice(error.to_string()));
                }
                Ok(Err(Failure::Device { device, error })) => {
                    tracing::warn!(%error, "job goes to another device");
                    last_error = error.to_string();
                    excluded.push(device);
                }
                Err(_) => return Err(Error::Stopped),
            }
        }
    }

    /// Forgets what a history key remembers, and frees it.
    pub fn close_history(&self, key: &str) {
        let closed = self.shared.state().histories.close(key);
        self.shared.free(closed);
    }
}

impl Drop for EdgeAccelerate {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.wake.iter().for_each(Condvar::notify_all);
        let devices = self.shared.devices.len().min(self.threads.len());
        for (index, thread) in self.threads.drain(..devices).enumerate() {
            while !thread.is_finished() && !self.shared.is_hung(index) {
                std::thread::sleep(ENDED_LOOK);
            }
            // One that hangs in a driver ends with the process.
            if thread.is_finished() {
                // A thread that panicked has said so already.
                let _ = thread.join();
            }
        }
        self.shared.state().unwatched = true;
        self.shared.wake_watch.notify_all();
        for watch in self.threads.drain(..) {
            let _ = watch.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan for a job, made where it is not remembered.
    fn planned(&self, job: &Job) -> Result<Arc<Plan>> {
        let known = self.plans().find(&job.pipeline, job.input.shape());
        if let Some(plan) = known {
            return Ok(plan);
        }
        let made = Arc::new(plan(&job.pipeline, job.input.shape())?);
        self.plans().add(&job.pipeline, made.clone());
        Ok(made)
    }

    fn wake_all(&self, state: &mut State) {
        if !state.awake {
            state.awake = true;
            self.wake.iter().chain([&self.wake_watch]).for_each(Condvar::notify_all);
        }
    }

    /// The devices that hang, or lack a kernel or the encoder of the plan, and what is wrong with
    /// the last of them.
    fn unfit(&self, plan: &Plan) -> (Vec<usize>, Option<String>) {
        let (mut unfit, mut lacking) = (Vec::new(), None);
        let state = self.state();
        for (index, (device, unit)) in self.devices.iter().zip(&state.units).enumerate() {
            let info = device.info();
            let has_all = |circuit: &hw::Circuit| circuit.has(plan.kernels());
            if let Some(why) = self.lacks_encoder(index, plan) {
                unfit.push(index);
                lacking.get_or_insert(why);
            } else if unit.is_hung {
                unfit.push(index);
                lacking = unit.last_error.clone();
            } else if let Some(kernel) = plan.kernels().find(|kernel| !info.runs(kernel)) {
                unfit.push(index);
                lacking = Some(format!("{} has no kernel {}", info.id, kernel.stem));
            } else if !info.circuits.is_empty() && !info.circuits.iter().any(has_all) {
                unfit.push(index);
                lacking = Some(format!("no circuit of {} has all its kernels", info.id));
            }
        }
        (unfit, lacking)
    }

    /// Queues a job on the device chosen for it; `None` when all have failed on it.
    fn submit(
        &self,
        job: &Job,
        plan: &Arc<Plan>,
        submitted: Instant,
        excluded: &[usize],
    ) -> Result<Option<oneshot::Receiver<Answer>>> {
        let mut state = self.state();
        if state.stopping {
            return Err(Error::Stopped);
        }
        self.wake_all(&mut state);
        state.last = Some(plan.clone());
        let (mut excluded, not_for) = (excluded.to_vec(), excluded.to_vec());
        let given = excluded.len();
        self.fit_circuits(&mut state, plan, &mut excluded);
        self.stay(&state, job, plan, &mut excluded);
        let (device, cost_us) = match self.choose(&state, job, plan, &excluded) {
            Decision::Run { device, cost_us } => (device, cost_us),
            Decision::Overloaded { retry_after_ms } => {
                return Err(Error::Overloaded { retry_after_ms });
            }
            // A card that is about to change, for others, can change again.
            Decision::NoDevice if excluded.len() > given => {
                return Err(Error::Overloaded { retry_after_ms: LOAD_US.div_ceil(1000) });
            }
            Decision::NoDevice => return Ok(None),
        };
        let (reply, answer) = oneshot::channel();
        let work = Work {
            job: job.clone(),
            plan: plan.clone(),
            submitted,
            cost_us,
            excluded: not_for,
            circuit: state.units[device].circuit,
            reply: Reply::new(reply),
        };
        let rank = self.rank(job);
        let unit = &mut state.units[device];
        if unit.queue.push(rank, work).is_err() {
            return Err(Error::Overloaded { retry_after_ms: unit.queued_us.div_ceil(1000).max(1) });
        }
        unit.queued_us += cost_us;
        if let Some(pace) = state.costs.pace(plan.signature, device) {
            pace.arrived(self.us(Instant::now()));
        }
        let evicted = match history_key(job, plan) {
            Some(key) => state.histories.sent(key, device),
            None => Vec::new(),
        };
        self.wake[device].notify_one();
        self.offer(&mut state);
        drop(state);
        self.free(evicted);
        Ok(Some(answer))
    }

    /// By what a job is ranked among those that wait.
    fn rank(&self, job: &Job) -> Rank {
        Rank {
            priority: job.priority,
            tenant: job.tenant.clone(),
            deadline_us: job.deadline.map_or(u64::MAX, |at| self.us(at)),
        }
    }

    /// The kind of a job, and the devices in the order in which it would go to them. Without one,
    /// of any whose kernels and encoder are ours.
    fn fallback(&self, plan: Option<&Plan>) -> (Option<u64>, Vec<usize>) {
        let others = || (0..self.devices.len()).filter(|index| self.make(*index).is_some());
        let excluded = plan.map_or_else(|| others().collect(), |plan| self.unfit(plan).0);
        let signature = plan.map(|plan| plan.signature);
        let view = JobView {
            signature: signature.unwrap_or_default(),
            excluded: &excluded,
            ..JobView::default()
        };
        let state = self.state();
        let prefer = plan.map_or(self.prefer, |plan| self.prefer(plan));
        let views = self.views(&state, 0, Instant::now());
        (signature, fallback(&views, &state.costs, &view, prefer))
    }

    fn views(&self, state: &State, priority: u8, now: Instant) -> Vec<DeviceView> {
        let devices = self.devices.iter().zip(&state.units);
        devices.map(|(device, unit)| unit.view(device.info(), priority, now)).collect()
    }

    fn choose(&self, state: &State, job: &Job, plan: &Plan, excluded: &[usize]) -> Decision {
        let now = Instant::now();
        let views = self.views(state, job.priority, now);
        let (resident_on, is_bound, bytes) =
            history_key(job, plan).map_or((None, false, 0), |key| state.histories.residence(key));
        let slack = job.deadline.map(|at| at.saturating_duration_since(now).as_micros() as u64);
        let view = JobView {
            signature: plan.signature,
            slack_us: slack,
            resident_on,
            is_bound,
            move_us: 2 * bytes as u64 / MOVED_BYTES_PER_US,
            excluded,
        };
        schedule(&views, &state.costs, &view, self.prefer(plan))
    }

    /// The life of a device's thread.
    fn work(&self, index: usize) {
        self.warm(index);
        let scratch = Scratch::default();
        let mut seat = Seat::new(self.turns.clone(), self.devices[index].info().id.clone());
        while let Some(turn) = self.next(index) {
            match turn {
                Turn::Jobs(works) => self.serve(index, works, &mut seat, &scratch),
                Turn::Load(circuit) => self.load(index, circuit, &mut seat),
            }
        }
    }

    /// Waits until somebody needs the device, then compiles its kernels.
    fn warm(&self, index: usize) {
        let asleep = |state: &mut State| !state.awake && !state.stopping;
        let woken = self.wake[index].wait_while(self.state(), asleep);
        let mut state = woken.unwrap_or_else(PoisonError::into_inner);
        if state.stopping {
            return;
        }
        state.units[index].in_hand = Some(self.to_warm());
        drop(state);
        let device = &self.devices[index];
        let mut kernels = kernels::common();
        kernels.retain(|kernel| device.info().runs_with(device.circuit(), [*kernel]));
        let prepared = device.prepare(&kernels);
        let mut state = self.state();
        // No job was done here yet, so there is nothing to be freed.
        let _ = state.units[index].came_back();
        state.units[index].is_cold = false;
        if let Err(error) = prepared {
            tracing::warn!(%error, "kernels are not ready");
            self.failed(&mut state, index, &error, Instant::now());
        }
    }

    /// Waits for jobs to do together, or another circuit; `None` when it is time to stop. What
    /// waits then is dropped.
    fn next(&self, index: usize) -> Option<Turn> {
        let mut state = self.state();
        loop {
            if state.stopping {
                state.units[index].queue.retain(|_| false);
                return None;
            }
            let (now, woken) = (Instant::now(), &self.wake[index]);
            let unit = &state.units[index];
            let is_other = unit.circuit != unit.loaded;
            let circuit = unit.circuit;
            state = match self.batch(&mut state, index, now) {
                None if is_other => return Some(Turn::Load(circuit)),
                None if self.take_over(&mut state, index) => state,
                None => woken.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Batch { places, wait_us: 0 }) => {
                    let works = state.units[index].take(&places, now);
                    self.offer(&mut state);
                    return Some(Turn::Jobs(works));
                }
                Some(Batch { wait_us, .. }) => {
                    state.units[index].held_since.get_or_insert(now);
                    let woken = woken.wait_timeout(state, Duration::from_micros(wait_us));
                    woken.map_or_else(|error| error.into_inner().0, |(state, _)| state)
                }
            };
        }
    }

    /// Which jobs a device does next, by where they are kept in its queue.
    fn batch(&self, state: &mut State, index: usize, now: Instant) -> Option<Batch> {
        let State { units, costs, .. } = state;
        let unit = &units[index];
        let mut order = unit.queue.ordered();
        order.retain(|(_, work)| work.circuit == unit.loaded);
        let (_, first) = order.first()?;
        let batch = match costs.pace(first.plan.signature, index) {
            None => Batch::first(),
            Some(pace) => {
                let jobs = order.iter().map(|(_, work)| waiting(work, first, unit, now));
                let jobs: Vec<Waiting<'_>> = jobs.collect();
                let len_max = self.limits.batch_len_max.min(first.plan.together_max());
                pace.next(&jobs, self.us(now), len_max)
            }
        };
        let places = batch.places.iter().map(|place| order[*place].0).collect();
        Some(Batch { places, ..batch })
    }

    /// A time on the engine's clock.
    fn us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_micros() as u64
    }
}

#[cfg(test)]
mod tests;
