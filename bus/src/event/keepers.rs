//! The servers that keep a tier's streams, where there are several.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use serde::{Deserialize, Serialize};

use super::{EventLog, STREAM};
use crate::{Bus, Error};

/// A server that was silent for so long is shown as away; they speak to each other every second.
const KEEPER_SILENT: Duration = Duration::from_secs(4);

/// One of the servers that keep a tier's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keeper {
    pub name: String,
    /// The others hear it.
    pub up: bool,
    /// It has everything that they have.
    pub current: bool,
}

/// How often a stream is to be kept: as often as now, when that is more often.
pub(crate) async fn replicas(js: &jetstream::Context, stream: &str, bus: &Bus) -> usize {
    let there = js.get_stream(stream).await.map_or(0, |s| s.cached_info().config.num_replicas);
    there.max(bus.replicas())
}

impl EventLog {
    /// The servers that keep the log, by name.
    pub async fn keepers(&self) -> Result<Vec<Keeper>, Error> {
        let stream = self.js.get_stream(STREAM).await.map_err(|e| self.bus.unreachable(e))?;
        let Some(cluster) = stream.cached_info().cluster.clone() else { return Ok(vec![]) };
        let leader = cluster.leader.filter(|name| !name.is_empty());
        let leader = leader.map(|name| Keeper { name, up: true, current: true });
        let other = |peer: stream::PeerInfo| Keeper {
            up: !peer.offline && peer.active < KEEPER_SILENT,
            current: peer.current,
            name: peer.name,
        };
        let mut keepers: Vec<Keeper> =
            leader.into_iter().chain(cluster.replicas.into_iter().map(other)).collect();
        keepers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(keepers)
    }
}
