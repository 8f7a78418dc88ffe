//! Devices of one host among the nodes of a site's tenants: the owner's node says whose turn it is,
//! the others ask it. What fair means is in [`accel::share`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use accel::Prefer;
use accel::share::{Door, Member, Referee, SHARE_MAX, Turns};
use bus::tree::ACCOUNT;
use handlers::manifest::DeviceClass;
use serde::{Deserialize, Serialize};

/// The socket within a site's folder at which the owner's node gives turns.
pub const SOCKET: &str = "devices.sock";

/// `[devices]` of a node's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How much device time the node gets beside those of other tenants, 1 to 100; an operator's
    /// own to say.
    pub share: u32,
    /// Whose node it is.
    pub tenant: String,
    /// Where turns are given; without it, the node uses devices as if it were alone.
    pub socket: Option<PathBuf>,
    /// `fastest`: a job goes where it is expected to be done first. `accelerator`: the CPU has jobs
    /// only while no accelerator works or has room, so that it is left to handlers.
    pub prefer: Prefer,
    /// Classes that handlers with `needs` do not find here, though there are such devices: what
    /// the site keeps for its streams and for handlers that need none.
    pub withhold: BTreeSet<DeviceClass>,
}

impl Default for Settings {
    fn default() -> Self {
        let (tenant, prefer) = (ACCOUNT.to_owned(), Prefer::default());
        Self { share: 1, tenant, socket: None, prefer, withhold: BTreeSet::new() }
    }
}

impl Settings {
    /// The same for the node of a tenant at the site of a folder.
    pub fn of(mut self, tenant: &str, folder: &Path) -> Self {
        self.tenant = tenant.to_owned();
        self.socket = Some(folder.join(SOCKET));
        self
    }
}

/// The referee and its door, at the owner's node.
pub struct Open {
    pub referee: Arc<Referee>,
    _door: Door,
}

/// How this node comes to its turns, and what it opens for others. Where that cannot be opened,
/// devices are shared as their drivers share them.
pub fn open(settings: &Settings) -> (Turns, Option<Open>) {
    let Some(socket) = settings.socket.clone() else { return (Turns::Alone, None) };
    let share = settings.share.clamp(1, SHARE_MAX);
    let member = Member { name: settings.tenant.clone(), share };
    if settings.tenant != ACCOUNT {
        return (Turns::Asked(socket, member), None);
    }
    let referee = Referee::new();
    match Door::open(referee.clone(), &socket) {
        Ok(door) => {
            let turns = Turns::Own(referee.clone(), member);
            (turns, Some(Open { referee, _door: door }))
        }
        Err(e) => {
            tracing::warn!(socket = %socket.display(), "devices are shared without turns: {e}");
            (Turns::Alone, None)
        }
    }
}

#[cfg(test)]
mod tests;
