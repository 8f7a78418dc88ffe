//! One entry of `[grants] hosts`: a name, all names below one, or a network; and a port. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most entries of an app.
pub const GRANTS_MAX: usize = 64;
/// Ports that an entry means when it names none.
const USUAL_PORTS: [u16; 2] = [80, 443];
/// Longest name that the domain name system knows.
const NAME_BYTES_MAX: usize = 253;

/// What may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostGrant {
    to: To,
    /// None means the usual ones.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    /// This name.
    Name(String),
    /// Every name that ends with a dot and this.
    Below(String),
    /// Addresses that begin with as many bits of this one.
    Net(IpAddr, u8),
}

impl HostGrant {
    /// Whether it names `host`, at `port`.
    pub fn names(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let is_named = match &self.to {
            To::Name(name) => host.eq_ignore_ascii_case(name),
            To::Below(name) => {
                let head = host.len().checked_sub(name.len() + 1);
                head.is_some_and(|at| {
                    at > 0
                        && host.as_bytes()[at] == b'.'
                        && host.as_bytes()[at + 1..].eq_ignore_ascii_case(name.as_bytes())
                })
            }
            To::Net(..) => false,
        };
        is_named && self.has_port(port)
    }

    /// Whether it names the network of `address`, at `port`.
    pub fn holds(&self, address: IpAddr, port: u16) -> bool {
        let To::Net(network, bits) = self.to else { return false };
        let is_inside = match (network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            _ => false,
        };
        is_inside && self.has_port(port)
    }

    fn has_port(&self, port: u16) -> bool {
        match self.port {
            Some(own) => own == port,
            None => USUAL_PORTS.contains(&port),
        }
    }
}

/// The address that a host of a URL is, if it is one and no name.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<IpAddr>().ok(),
    }
}

impl FromStr for HostGrant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("//") {
            return Err(no_host(text));
        }
        let (host, port) = split_port(text)?;
        if let Some((network, bits)) = host.split_once('/') {
            return Ok(Self { to: net(network, bits)?, port });
        }
        if let Some(address) = literal(host) {
            let address = address.to_canonical();
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return Ok(Self { to: To::Net(address, bits), port });
        }
        let to = match host.strip_prefix("*.") {
            Some(name) => To::Below(name_of(name)?),
            None => To::Name(name_of(host)?),
        };
        Ok(Self { to, port })
    }
}

/// `host`, `host:8080`, `[::1]:8080`, `::1`.
fn split_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let is_bare_v6 = text.matches(':').count() > 1 && !text.contains(']');
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !is_bare_v6) else {
        return Ok((text, None));
    };
    if port.ends_with(']') {
        return Ok((text, None));
    }
    match port.parse() {
        Ok(port @ 1..) => Ok((host, Some(port))),
        _ => Err(format!("\"{port}\" is no port; use 1 to 65535")),
    }
}

fn net(network: &str, bits: &str) -> Result<To, String> {
    let address =
        literal(network).ok_or_else(|| format!("\"{network}\" is no address of a network"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    match bits.parse() {
        Ok(bits) if bits <= most => Ok(To::Net(address, bits)),
        _ => Err(format!("/{bits} is no length of a prefix; use 0 to {most}")),
    }
}

/// A last label of digits alone is a number for some resolvers, `0x7f000001` too: no name.
fn name_of(text: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(is_part);
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with(|c: char| c.is_ascii_digit());
    if text.len() > NAME_BYTES_MAX || !text.split('.').all(is_label) || is_number {
        return Err(no_host(text));
    }
    Ok(text.to_ascii_lowercase())
}

fn no_host(text: &str) -> String {
    format!(
        "\"{text}\" is no host; write a name, *.name, an address or a network, and a port \
         behind it unless 80 and 443 are meant: \"api.example.com:8443\", \"10.1.0.0/16:5432\""
    )
}

impl fmt::Display for HostGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            To::Name(name) => f.write_str(name)?,
            To::Below(name) => write!(f, "*.{name}")?,
            To::Net(IpAddr::V4(network), 32) => network.fmt(f)?,
            To::Net(IpAddr::V4(network), bits) => write!(f, "{network}/{bits}")?,
            To::Net(IpAddr::V6(network), 128) => write!(f, "[{network}]")?,
            To::Net(IpAddr::V6(network), bits) => write!(f, "[{network}]/{bits}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl TryFrom<String> for HostGrant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HostGrant> for String {
    fn from(grant: HostGrant) -> Self {
        grant.to_string()
    }
}
