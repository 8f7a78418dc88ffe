//! Carries a plan out on a device, for one job or for several at once: allocates their buffers,
//! does the plan's actions in order, and frees what nobody keeps. What reaches the device between
//! two works of the host is one submission for all jobs. No thread and no queue here;
//! [`crate::engine`] has those.

mod submission;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hw::{BufferId, Device};
use kernels::{boxes as draw, jpeg};

use self::submission::{stretch, submit};
use crate::encoders::{By, Coder, Worker};
use crate::h264::{Encoder, Settings};
use crate::plan::{Action, Encoding, FRAME, First, HostWork, Plan, Returned, Slot, Source};
use crate::{Frame, Rect, Shape, Timing, Value, grid, jfif};

/// Where plans are carried out: a device, and whose encoder it has where that is not ours.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub device: &'a dyn Device,
    pub worker: Option<&'a Arc<Worker>>,
}

/// What a job brings to its plan.
pub(crate) struct Given {
    pub frame: Frame,
    /// What the last job of the same history kept on this device. It stays as it is, and stays the
    /// caller's.
    pub previous: Option<Vec<BufferId>>,
    /// That job's too, or none.
    pub coders: Vec<Coder>,
}

/// What a plan gave.
pub(crate) struct Carried {
    pub values: BTreeMap<String, Value>,
    /// Without the time spent in a queue.
    pub timing: Timing,
    /// Microseconds of each step.
    pub steps_us: Vec<u64>,
    /// Buffers for the next job of the same history, in the order of the plan's `kept`.
    pub kept: Vec<BufferId>,
    /// Who codes its streams, by their numbers.
    pub coders: Vec<Coder>,
}

/// Does what a plan says to each job's frame, until the device is no longer needed;
/// [`Run::finish`] does the rest. After an error nothing is left of any of them.
pub(crate) fn carry_out<'a>(
    place: Place<'a>,
    plan: &'a Plan,
    jobs: Vec<Given>,
    scratch: &'a Scratch,
) -> hw::Result<Vec<Run<'a>>> {
    let begin = |given| Run::new(place, plan, given, scratch);
    let mut runs = jobs.into_iter().map(begin).collect::<hw::Result<Vec<_>>>()?;
    let mut actions = &plan.actions[..last_on_device(plan)];
    while let Some(first) = actions.first() {
        let len = match first {
            Action::Host { .. } => {
                runs.iter_mut().try_for_each(|run| run.host(first))?;
                1
            }
            _ => {
                let len = stretch(actions);
                submit(place.device, &mut runs, &actions[..len])?;
                len
            }
        };
        actions = &actions[len..];
    }
    Ok(runs)
}

/// How many actions there are to the last one that needs the device.
fn last_on_device(plan: &Plan) -> usize {
    let last = plan.actions.iter().rposition(|action| !matches!(action, Action::Host { .. }));
    last.map_or(0, |last| last + 1)
}

/// Most bytes of host memory that are kept for the next job.
const SCRATCH_BYTES_MAX: usize = 64 << 20;

/// Host memory that goes from job to job: fresh pages would cost more than the copy into them.
#[derive(Default)]
pub(crate) struct Scratch {
    free: RefCell<Vec<Vec<u8>>>,
}

impl Scratch {
    /// Memory of this length, content unspecified.
    fn take(&self, bytes: usize) -> Vec<u8> {
        let mut free = self.free.borrow_mut();
        let fits = free.iter().position(|memory| memory.capacity() >= bytes);
        let mut memory = fits.map(|at| free.swap_remove(at)).unwrap_or_default();
        memory.resize(bytes, 0);
        memory
    }

    fn give(&self, memory: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        let held: usize = free.iter().map(Vec::capacity).sum();
        if held + memory.capacity() <= SCRATCH_BYTES_MAX {
            free.push(memory);
        }
    }
}

/// A value on the host.
enum Host {
    /// The content of a buffer, where it lies.
    Shared(Bytes),
    Bytes(Vec<u8>),
    Number(f64),
    Boxes(Vec<Rect>),
    Blob(Bytes),
}

/// One job that is carried out.
pub(crate) struct Run<'a> {
    device: &'a dyn Device,
    worker: Option<&'a Arc<Worker>>,
    plan: &'a Plan,
    frame: Frame,
    /// The real buffer of each buffer of the plan.
    bound: Vec<BufferId>,
    /// Which of them to free at the end.
    owned: Vec<BufferId>,
    /// The frame is a buffer as it is.
    is_lent: bool,
    slots: Vec<Option<Host>>,
    coders: Vec<Coder>,
    scratch: &'a Scratch,
    spent: Spent,
}

/// Nanoseconds, by kind and by step.
struct Spent {
    copy_ns: u64,
    compute_ns: u64,
    host_ns: u64,
    steps_ns: Vec<u64>,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        for buffer in self.owned.drain(..) {
            // A device that is lost has freed everything already.
            let _ = self.device.free(buffer);
        }
        for slot in self.slots.drain(..) {
            if let Some(Host::Bytes(memory)) = slot {
                self.scratch.give(memory);
            }
        }
    }
}

impl<'a> Run<'a> {
    fn new(
        Place { device, worker }: Place<'a>,
        plan: &'a Plan,
        given: Given,
        scratch: &'a Scratch,
    ) -> hw::Result<Self> {
        let Given { frame, previous, coders } = given;
        let steps = plan.actions.iter().filter_map(last_step).max().map_or(0, |last| last + 1);
        let spent = Spent { copy_ns: 0, compute_ns: 0, host_ns: 0, steps_ns: vec![0; steps] };
        let slots = (0..plan.slots).map(|_| None).collect();
        let mut run = Self {
            device,
            worker,
            plan,
            frame,
            bound: Vec::new(),
            owned: Vec::new(),
            is_lent: false,
            slots,
            coders,
            scratch,
            spent,
        };
        for (index, bytes) in plan.buffers.iter().enumerate() {
            let id = BufferId(index as u64);
            let buffer = match plan.kept.iter().position(|kept| kept.previous == id) {
                None if id == FRAME => run.input(*bytes)?,
                Some(at) => match &previous {
                    Some(previous) => previous[at],
                    None if plan.kept[at].first == First::Zeros => run.zeros(*bytes)?,
                    None => run.bound[plan.kept[at].current.0 as usize],
                },
                None => run.alloc(*bytes)?,
            };
            run.bound.push(buffer);
        }
        Ok(run)
    }

    fn alloc(&mut self, bytes: usize) -> hw::Result<BufferId> {
        let buffer = self.device.alloc(bytes)?;
        self.owned.push(buffer);
        Ok(buffer)
    }

    /// The buffer of the frame: itself where the device takes that, else one to be filled.
    fn input(&mut self, bytes: usize) -> hw::Result<BufferId> {
        let Some(lent) = self.device.lend(&self.frame.data)? else { return self.alloc(bytes) };
        self.owned.push(lent);
        self.is_lent = true;
        Ok(lent)
    }

    fn zeros(&mut self, bytes: usize) -> hw::Result<BufferId> {
        let buffer = self.alloc(bytes)?;
        self.device.write(buffer, 0, &vec![0; bytes])?;
        Ok(buffer)
    }

    fn bind(&self, id: BufferId) -> BufferId {
        self.bound[id.0 as usize]
    }

    /// Does a work of the host.
    fn host(&mut self, action: &Action) -> hw::Result<()> {
        let Action::Host { step, work, to } = action else { return Ok(()) };
        let start = Instant::now();
        self.slots[*to] = Some(match work {
            HostWork::Encode(encoding) => self.encode(encoding)?,
            HostWork::Numbers { shape, settings, encoder } => {
                Host::Bytes(self.ours(*shape, *settings, *encoder).numbers())
            }
            HostWork::Write { levels, field, encoder, .. } => self.write(*levels, *field, *encoder),
            work => self.work(work),
        });
        self.spent.host(*step, start);
        Ok(())
    }

    /// The bytes to upload; none where the buffer has them already.
    fn source<'b>(&'b self, from: &'b Source) -> Option<&'b [u8]> {
        match from {
            Source::Input if self.is_lent => None,
            Source::Input => Some(&self.frame.data),
            Source::Constant(bytes) => Some(bytes),
            Source::Slot(slot) => Some(self.bytes(*slot)),
        }
    }

    /// Codes a picture. A stream that is new here, or another encoder's, begins.
    fn encode(&mut self, encoding: &Encoding) -> hw::Result<Host> {
        let Encoding { picture, shape, settings, by, encoder } = *encoding;
        let worker = self.worker.filter(|_| by != By::Edgescale);
        let mut coders = std::mem::take(&mut self.coders);
        let begin = || Coder::begin(worker, shape, settings);
        if encoder == coders.len() {
            coders.push(begin());
        } else if !coders[encoder].is_of(worker) {
            coders[encoder] = begin();
        }
        let coded = coders[encoder].code(self.bytes(picture), self.frame.pts_us)?;
        self.coders = coders;
        Ok(Host::Blob(coded.into()))
    }

    /// Our encoder of a number. A stream that is new, or was another's, begins.
    fn ours(&mut self, shape: Shape, settings: Settings, number: usize) -> &mut Encoder {
        if number == self.coders.len() {
            self.coders.push(Coder::begin(None, shape, settings));
        } else if !self.coders[number].is_of(None) {
            self.coders[number] = Coder::begin(None, shape, settings);
        }
        self.coders[number].ours()
    }

    /// Writes a picture that the device coded.
    fn write(&mut self, levels: Slot, field: Slot, number: usize) -> Host {
        let mut coders = std::mem::take(&mut self.coders);
        let (levels, field) = (self.bytes(levels), self.bytes(field));
        let written = coders[number].ours().write(levels, field, self.frame.pts_us);
        self.coders = coders;
        Host::Blob(written.into())
    }

    fn work(&self, work: &HostWork) -> Host {
        match work {
            HostWork::Encode(_) | HostWork::Numbers { .. } | HostWork::Write { .. } => {
                unreachable!("encoders change by their work")
            }
            HostWork::Number { from, reduce, of } => {
                Host::Number((reduce.run)(self.bytes(*from), *of))
            }
            HostWork::Boxes { grid, mask, min_count } => {
                Host::Boxes(grid::boxes(self.bytes(*grid), mask, *min_count))
            }
            HostWork::ComponentBoxes { table, mask, min_area } => {
                Host::Boxes(grid::component_boxes(self.bytes(*table), mask, *min_area))
            }
            HostWork::List { rects } => {
                let rects: Vec<draw::Rect> = self.boxes(*rects).iter().map(to_kernel).collect();
                Host::Bytes(draw::encode_list(&rects))
            }
            HostWork::Jfif { levels, width, height, quality } => {
                let steps = jpeg::steps(*quality);
                let file = jfif::encode(self.bytes(*levels), *width, *height, &steps);
                Host::Blob(file.into())
            }
        }
    }

    fn bytes(&self, slot: Slot) -> &[u8] {
        match &self.slots[slot] {
            Some(Host::Bytes(bytes)) => bytes,
            Some(Host::Shared(bytes)) => bytes,
            _ => unreachable!("a plan fills slot {slot} with bytes before it is read"),
        }
    }

    fn boxes(&self, slot: Slot) -> &[Rect] {
        match &self.slots[slot] {
            Some(Host::Boxes(boxes)) => boxes,
            _ => unreachable!("a plan fills slot {slot} with boxes before it is read"),
        }
    }

    /// Does what is left for the host, and collects what the plan returns.
    pub(crate) fn finish(mut self) -> hw::Result<Carried> {
        let plan = self.plan;
        let left = &plan.actions[last_on_device(plan)..];
        left.iter().try_for_each(|action| self.host(action))?;
        let kept: Vec<BufferId> = self.plan.kept.iter().map(|k| self.bind(k.current)).collect();
        self.owned.retain(|buffer| !kept.contains(buffer));
        let values = self.plan.returns.iter();
        let values = values.map(|(name, r)| (name.clone(), self.returned(r))).collect();
        let us = |ns: u64| ns / 1000;
        let timing = Timing {
            queue_us: 0,
            copy_us: us(self.spent.copy_ns),
            compute_us: us(self.spent.compute_ns),
            host_us: us(self.spent.host_ns),
        };
        let steps_us = self.spent.steps_ns.iter().map(|ns| us(*ns)).collect();
        let coders = std::mem::take(&mut self.coders);
        Ok(Carried { values, timing, steps_us, kept, coders })
    }

    fn returned(&self, returned: &Returned) -> Value {
        match *returned {
            Returned::Input => Value::Frame(self.frame.clone()),
            Returned::Picture { slot, shape } => Value::Frame(Frame {
                width: shape.width,
                height: shape.height,
                format: shape.format,
                range: shape.range,
                matrix: shape.matrix,
                pts_us: self.frame.pts_us,
                index: self.frame.index,
                data: match &self.slots[slot] {
                    Some(Host::Shared(bytes)) => bytes.clone(),
                    _ => Bytes::copy_from_slice(self.bytes(slot)),
                },
            }),
            Returned::Number(slot) | Returned::Boxes(slot) | Returned::Blob(slot) => {
                match &self.slots[slot] {
                    Some(Host::Number(number)) => Value::Number(*number),
                    Some(Host::Boxes(boxes)) => Value::Boxes(boxes.clone()),
                    Some(Host::Blob(blob)) => Value::Blob(blob.clone()),
                    _ => unreachable!("a plan fills slot {slot} before it is returned"),
                }
            }
        }
    }
}

impl Spent {
    fn copy(&mut self, step: Option<usize>, ns: u64) {
        self.copy_ns += ns;
        if let Some(step) = step {
            self.steps_ns[step] += ns;
        }
    }

    fn host(&mut self, step: usize, start: Instant) {
        let ns = start.elapsed().as_nanos() as u64;
        self.host_ns += ns;
        self.steps_ns[step] += ns;
    }

    fn compute(&mut self, steps: &[usize], times_ns: &[u64]) {
        for (step, ns) in steps.iter().zip(times_ns) {
            self.compute_ns += ns;
            self.steps_ns[*step] += ns;
        }
    }
}

fn last_step(action: &Action) -> Option<usize> {
    match action {
        Action::Upload { step, .. } | Action::Download { step, .. } => *step,
        Action::Run { steps, .. } => steps.iter().copied().max(),
        Action::Host { step, .. } => Some(*step),
    }
}

fn to_kernel(rect: &Rect) -> draw::Rect {
    draw::Rect { x: rect.x, y: rect.y, width: rect.width, height: rect.height }
}
