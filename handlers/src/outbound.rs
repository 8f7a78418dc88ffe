//! What handlers may reach beyond the tree: hosts that the app's grants name. The decision is made
//! about the address that is then connected to, so that no answer of a name server, whenever it
//! comes, leads anywhere else; addresses that are not public want a grant of their own.
//!
//! Knows no HTTP: whoever asks gets a connection, or a [`Refusal`].

mod address;
mod grant;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

pub use self::address::is_public;
pub use self::grant::{GRANTS_MAX, HostGrant};

/// Requests of one invocation.
pub const REQUESTS_MAX: u32 = 64;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// How long one of them may take to accept.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a handler was not connected, by what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// Nothing in the grants names it.
    #[error("{host}:{port} is not granted; write \"{host}\" under [grants] hosts")]
    NotGranted {
        /// As the handler wrote it.
        host: String,
        /// The port asked for.
        port: u16,
    },
    /// The grants name the host, but not the place in a private network that it stands for.
    #[error(
        "{host} is at {address}, which is no public address; \
         write \"{address}\" under [grants] hosts as well"
    )]
    Private {
        /// As the handler wrote it.
        host: String,
        /// Where it is.
        address: IpAddr,
    },
    /// No address is known for the name.
    #[error("{host}: no address: {reason}")]
    Unresolved {
        /// As the handler wrote it.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// It is granted, and does not answer.
    #[error("{address} ({host}): {reason}")]
    Unreachable {
        /// As the handler wrote it.
        host: String,
        /// The last address tried.
        address: SocketAddr,
        /// The system's words.
        reason: String,
    },
    /// The invocation has made all the requests it may.
    #[error("the invocation made {limit} requests to other hosts; no more go")]
    TooMany {
        /// The limit.
        limit: u32,
    },
}

impl Refusal {
    /// A word per kind, to count them by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotGranted { .. } => "not granted",
            Self::Private { .. } => "private address",
            Self::Unresolved { .. } => "unresolved",
            Self::Unreachable { .. } => "unreachable",
            Self::TooMany { .. } => "too many",
        }
    }
}

/// Finds the addresses of names.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of `host`, the best first.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The machine's own resolver.
pub struct System;

#[async_trait]
impl Resolver for System {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect())
    }
}

/// Connects to `host`, if the grants allow it, at an address that they allow.
pub async fn connect(
    grants: &[HostGrant],
    resolver: &dyn Resolver,
    host: &str,
    port: u16,
    deadline: Instant,
) -> Result<TcpStream, Refusal> {
    let found = match grant::literal(host) {
        Some(address) => vec![address],
        None if grants.iter().any(|grant| grant.names(host, port)) => {
            resolve(resolver, host, deadline).await?
        }
        None => return Err(Refusal::NotGranted { host: host.to_owned(), port }),
    };
    let addresses = allowed(grants, host, port, &found)?;
    let mut refusal = None;
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        let until = deadline.min(Instant::now() + ACCEPT_TIMEOUT);
        let reason = match tokio::time::timeout_at(until.into(), TcpStream::connect(address)).await
        {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it did not accept in time".to_owned(),
        };
        refusal = Some(Refusal::Unreachable { host: host.to_owned(), address, reason });
    }
    Err(refusal.unwrap_or_else(|| no_address(host, "the name has none")))
}

/// Those of a host's addresses that may be connected to; why not, if there are none.
fn allowed(
    grants: &[HostGrant],
    host: &str,
    port: u16,
    found: &[IpAddr],
) -> Result<Vec<SocketAddr>, Refusal> {
    let is_literal = grant::literal(host).is_some();
    let may = |address: &IpAddr| {
        grants.iter().any(|grant| grant.holds(*address, port))
            || (!is_literal && is_public(*address))
    };
    let place = |address: &IpAddr| SocketAddr::new(address.to_canonical(), port);
    let allowed: Vec<SocketAddr> = found.iter().filter(|a| may(a)).map(place).collect();
    match (allowed.is_empty(), found.first()) {
        (false, _) => Ok(allowed),
        (true, None) => Err(no_address(host, "the name has none")),
        (true, Some(_)) if is_literal => Err(Refusal::NotGranted { host: host.to_owned(), port }),
        (true, Some(address)) => {
            Err(Refusal::Private { host: host.to_owned(), address: address.to_canonical() })
        }
    }
}

async fn resolve(
    resolver: &dyn Resolver,
    host: &str,
    deadline: Instant,
) -> Result<Vec<IpAddr>, Refusal> {
    match tokio::time::timeout_at(deadline.into(), resolver.resolve(host)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(no_address(host, &error.to_string())),
        Err(_) => Err(no_address(host, "the resolver did not answer in time")),
    }
}

fn no_address(host: &str, reason: &str) -> Refusal {
    Refusal::Unresolved { host: host.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
pub(crate) mod tests;
