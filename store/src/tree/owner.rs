//! Conditional commits travel to the owner of the table, which alone decides them: today the
//! root, because it has every row (`docs/decisions/0050-conditions-are-decided-at-the-root.md`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::commit::Commit;
use crate::engine::{Ack, KeepEmpty, Level, Unit, Work};
use crate::error::{Error, Result};
use crate::record::{self, Batch, Body, Source};

use super::wire::{self, op};
use super::{Backoff, Tree};

/// Answers that the owner remembers, so that a request that comes twice is carried out once.
const ANSWERS_KEPT: usize = 4_096;

/// A commit on its way to the owner.
#[derive(Debug, Serialize, Deserialize)]
pub struct CommitRequest {
    /// Drawn by the site that asks; the same again when the request is repeated.
    pub id: u64,
    /// The table.
    pub table: String,
    /// What to do.
    pub commit: Commit,
}

/// What the owner did.
#[derive(Debug, Serialize, Deserialize)]
pub struct Committed {
    /// The owner's store and its entry.
    pub store: u64,
    /// Its acknowledgement.
    pub ack: Ack,
    /// The rows as they were written, so that the one who asked sees them at once.
    pub rows: Batch,
}

type Answer = Arc<OnceCell<Bytes>>;

/// The owner's latest answers by request.
#[derive(Default)]
pub struct Answers {
    kept: Mutex<VecDeque<(u64, Answer)>>,
}

impl Answers {
    fn of(&self, id: u64) -> Answer {
        let mut kept = crate::lock(&self.kept);
        if let Some((_, answer)) = kept.iter().rev().find(|(known, _)| *known == id) {
            return answer.clone();
        }
        if kept.len() >= ANSWERS_KEPT {
            kept.pop_front();
        }
        let answer = Answer::default();
        kept.push_back((id, answer.clone()));
        answer
    }
}

impl Tree {
    /// Has a commit to a table that is known here decided by the owner; its rows are seen here when
    /// this returns. The owner may not have heard of the table yet, which then is on its way up:
    /// it is asked again until the request time-out.
    pub async fn commit_at_owner(&self, table: &str, commit: &Commit) -> Result<Ack> {
        let deadline = Instant::now() + self.request_timeout();
        let mut backoff = Backoff::new();
        loop {
            // Another number each time, since the owner gives a request the answer that it gave it.
            let (id, table) = (crate::entropy(), table.to_owned());
            let asking = self.pass_on(CommitRequest { id, table, commit: commit.clone() });
            match asking.await {
                Err(Error::UnknownTable(_)) if Instant::now() < deadline => {
                    let _ = timeout_at(deadline, backoff.pause()).await;
                }
                committed => return Ok(committed?.ack),
            }
        }
    }

    /// Answers a site below.
    pub async fn take_commit(&self, request: CommitRequest) -> Result<Bytes> {
        if !self.engine.is_root() {
            return Ok(record::encode(&self.pass_on(request).await?).into());
        }
        let answer = self.answers.of(request.id);
        let answered = answer.get_or_init(|| async {
            let committed = self.decide(&request).await;
            wire::seal(committed.map(|committed| record::encode(&committed).into()))
        });
        wire::open(answered.await.clone())
    }

    async fn decide(&self, request: &CommitRequest) -> Result<Committed> {
        let CommitRequest { table, commit, .. } = request;
        commit.check()?;
        let work = Work {
            table,
            conditions: &commit.conditions,
            changes: &commit.changes(),
            unit: Unit::Commit,
        };
        let (ack, rows) = self.engine.change(&work, Level::LocalSync).await?;
        Ok(Committed { store: self.engine.id, ack: Ack { level: Level::Root, ..ack }, rows })
    }

    async fn pass_on(&self, request: CommitRequest) -> Result<Committed> {
        let what = format!("commit to table {:?}: the owner did not answer", request.table);
        let answer = self.ask_parent::<Committed>(op::DECIDE, &request).await;
        let committed = answer.map_err(|error| match error {
            Error::Deadline(_) => Error::Unknown(what),
            other => other,
        })?;
        self.know_columns(&committed.rows).await?;
        let source = Source::Parent { store: committed.store, seq: 0 };
        let rows = Body::Rows(committed.rows.clone());
        self.engine.take_over(source, rows, KeepEmpty::No)?;
        Ok(committed)
    }
}
