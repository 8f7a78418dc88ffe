//! Changes that a scan has read, column by column, kept for the next one.
//!
//! A scan of a whole partition turns all changes into a run. As long as few of them have changed
//! again, the next one takes that run and makes another of those few: merged, they say what memory
//! says, because what is known of a row only grows.

use std::sync::{Arc, Mutex};

use crate::columns::Columns;
use crate::error::Result;
use crate::lock;
use crate::run::{Run, Slice};
use crate::schema::Schema;

use super::{End, Memtable};

/// The run is made anew when more than this part of its rows has changed.
const CHANGED_PART: usize = 4;

/// What was read last. It takes about as much memory as the changes themselves, and goes with them.
#[derive(Default)]
pub struct Seen(Mutex<Option<Last>>);

struct Last {
    run: Arc<Run>,
    /// What the run has.
    columns: Columns,
    /// Places of rows that were changed or came since, some of them more than once.
    since: Vec<u32>,
}

impl Seen {
    /// Notes that a row was changed or came.
    pub fn note(&mut self, place: u32) {
        let last = self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(last) = last {
            last.since.push(place);
            if last.since.len() > last.run.len() / CHANGED_PART {
                self.0 = Mutex::default();
            }
        }
    }
}

impl Memtable {
    /// The rows in `[from, to)`, in as many slices as it takes, whose rows may be of the same keys;
    /// only these of their columns are sure.
    pub fn slices(
        &self,
        schema: &Arc<Schema>,
        columns: &Columns,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Vec<Slice>> {
        let mut seen = lock(&self.seen.0);
        let fits = |last: &&mut Last| last.run.schema.is(schema) && last.columns.cover(columns);
        if let Some(last) = seen.as_mut().filter(fits) {
            last.since.sort_unstable();
            last.since.dedup();
            let key = |at: &u32| self.key_at(*at);
            let is_inside = |at: &u32| key(at) >= from && to.is_none_or(|to| key(at) < to);
            let mut changed: Vec<u32> = last.since.iter().copied().filter(is_inside).collect();
            changed.sort_unstable_by(|a, b| key(a).cmp(key(b)));
            let run = last.run.clone();
            drop(seen);
            let changed = Arc::new(self.run(schema, columns, &changed)?);
            return Ok(vec![Slice::range(run, from, to), Slice::whole(changed)]);
        }
        let places = self.range(from, to, End::First, usize::MAX);
        if places.len() < self.len() {
            drop(seen);
            return Ok(vec![Slice::whole(Arc::new(self.run(schema, columns, &places)?))]);
        }
        let run = Arc::new(self.run(schema, columns, &places)?);
        *seen = Some(Last { run: run.clone(), columns: columns.clone(), since: Vec::new() });
        Ok(vec![Slice::whole(run)])
    }
}
