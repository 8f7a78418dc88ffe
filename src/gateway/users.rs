//! Where the user of a request is: at the site that it names, or at the one that its network
//! belongs to. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;
use bus::TierPath;
use serde::{Deserialize, Serialize};

use super::{Problem, line};

/// The header by which a request names the site where its user is.
const HEADER: &str = "es-user-at";

/// Addresses that begin alike: `10.1.0.0/16`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// Without the bits that do not count.
    first: IpAddr,
    bits: u8,
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        cut(address, self.bits) == Some(self.first)
    }
}

/// The first bits of an address; `None` where it has not so many.
fn cut(address: IpAddr, bits: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let rest = 32_u32.checked_sub(bits.into())?;
            let kept = u32::MAX.checked_shl(rest).unwrap_or(0);
            Some(Ipv4Addr::from(u32::from(address) & kept).into())
        }
        IpAddr::V6(address) => {
            let rest = 128_u32.checked_sub(bits.into())?;
            let kept = u128::MAX.checked_shl(rest).unwrap_or(0);
            Some(Ipv6Addr::from(u128::from(address) & kept).into())
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (address, bits) = text.split_once('/')?;
            let (address, bits) = (address.parse().ok()?, bits.parse().ok()?);
            let first = cut(address, bits)?;
            (first == address).then_some(Self { first, bits })
        };
        read().ok_or_else(|| {
            format!("{text:?} is no network; write it as 10.1.0.0/16, without bits behind the 16th")
        })
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// The site where the user of a request is, as far as that is known: what the request says counts
/// before its network, and of several networks the smallest.
pub(super) fn user_at(
    headers: &HeaderMap,
    client: SocketAddr,
    networks: &BTreeMap<Network, TierPath>,
) -> Result<Option<TierPath>, Problem> {
    if let Some(site) = line(headers, HEADER) {
        let site = site.trim().parse();
        return site.map(Some).map_err(|e: bus::Error| {
            Problem::bad(format!("header {HEADER}: {e}; write the path of a site"))
        });
    }
    let address = client.ip().to_canonical();
    let around = networks.iter().filter(|(network, _)| network.contains(address));
    Ok(around.max_by_key(|(network, _)| network.bits).map(|(_, site)| site.clone()))
}

#[cfg(test)]
mod tests;
