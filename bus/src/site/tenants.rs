//! Who shares a site: tenants, each with an account of its own at the site's server. Pure: the time
//! comes in, and no secret does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::path::is_token;
use crate::pki::is_user;
use crate::tree::ACCOUNT;
use crate::{Error, TierPath};

/// How many tenants a site may have beside its owner.
pub const TENANTS_MAX: usize = 16;
/// The longest that a former key stays good.
pub const GRACE_S_MAX: u64 = 30 * 24 * 3600;
/// How many former keys of one tenant are good at once.
pub const FORMER_MAX: usize = 4;

/// The tenants of one site. Its owner is one of them, and always there: [`ACCOUNT`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenants {
    tenants: BTreeMap<String, Tenant>,
}

/// One tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Keys that its clients had before the present one.
    #[serde(default)]
    former: Vec<Former>,
    /// How often its clients were given another key.
    #[serde(default)]
    rotations: u32,
    /// The public nkeys of the links of the site's children, by the child's name. The owner's are
    /// in the roster.
    #[serde(default)]
    links: BTreeMap<String, String>,
}

/// A key that is still good for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    pub public: String,
    pub until_s: u64,
    /// The number of rotations before its own, by which the user of MQTT clients is named that
    /// ends with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<u32>,
}

/// What a child's node asks of its parent's for a tenant, under the child's own name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    pub tenant: String,
    /// The public nkey of the tenant's link; nothing: the tenant has left the child.
    pub link: Option<String>,
}

impl Tenants {
    /// Those beside the owner, by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tenants.keys().map(String::as_str).filter(|name| *name != ACCOUNT)
    }

    /// True for the owner as well.
    pub fn has(&self, name: &str) -> bool {
        name == ACCOUNT || self.tenants.contains_key(name)
    }

    /// Keys that a tenant's clients had before, and may still use.
    pub fn former(&self, name: &str) -> &[Former] {
        self.tenants.get(name).map_or(&[], |tenant| &tenant.former)
    }

    /// How often a tenant's clients were given another key.
    pub fn rotations(&self, name: &str) -> u32 {
        self.tenants.get(name).map_or(0, |tenant| tenant.rotations)
    }

    /// The links of a tenant's children: name and public nkey.
    pub fn links(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        let links = self.tenants.get(name).into_iter().flat_map(|tenant| &tenant.links);
        links.map(|(child, public)| (child.as_str(), public.as_str()))
    }

    /// Takes a tenant in.
    pub fn add(&mut self, name: &str) -> Result<(), Error> {
        if !is_token(name) || name == ACCOUNT {
            return Err(Error::Bad(format!(
                "a tenant's name is [a-z0-9-]{{1,32}}, and not {ACCOUNT:?}, which is the site's \
                 owner; not {name:?}"
            )));
        }
        if self.has(name) {
            return Err(Error::Bad(format!("there is a tenant {name:?} already")));
        }
        if self.names().count() >= TENANTS_MAX {
            return Err(Error::Bad(format!("a site has at most {TENANTS_MAX} tenants")));
        }
        self.tenants.insert(name.to_owned(), Tenant::default());
        Ok(())
    }

    /// Forgets a tenant, its keys and its links.
    pub fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.check(name)?;
        if name == ACCOUNT {
            return Err(Error::Bad(format!("{ACCOUNT:?} owns the site, and stays")));
        }
        self.tenants.remove(name);
        Ok(())
    }

    /// Refuses a name that no tenant has.
    pub fn check(&self, name: &str) -> Result<(), Error> {
        if self.has(name) {
            return Ok(());
        }
        let names: Vec<&str> = std::iter::once(ACCOUNT).chain(self.names()).collect();
        Err(Error::Bad(format!("no tenant {name:?}; there are {}", names.join(", "))))
    }

    /// Notes that a tenant's clients have a new key, and how long the old one is still good.
    pub fn rotate(&mut self, name: &str, old: &str, now_s: u64, until_s: u64) -> Result<(), Error> {
        self.check(name)?;
        if until_s < now_s || until_s - now_s > GRACE_S_MAX {
            let days = GRACE_S_MAX / (24 * 3600);
            return Err(Error::Bad(format!("an old key is good for {days} days at most")));
        }
        self.expire(now_s);
        let Tenant { former, rotations, .. } = self.tenants.entry(name.to_owned()).or_default();
        if former.len() >= FORMER_MAX {
            return Err(Error::Bad(format!(
                "{FORMER_MAX} former keys of {name:?} are still good; rotate again when one of \
                 them has expired"
            )));
        }
        if until_s > now_s {
            former.push(Former { public: old.to_owned(), until_s, mqtt: Some(*rotations) });
        }
        *rotations = rotations.saturating_add(1);
        Ok(())
    }

    /// Forgets keys whose time is over, and returns them with the names of their tenants.
    pub fn expire(&mut self, now_s: u64) -> Vec<(String, Former)> {
        let mut all = vec![];
        for (name, tenant) in &mut self.tenants {
            let over = tenant.former.extract_if(.., |former| former.until_s <= now_s);
            all.extend(over.map(|former| (name.clone(), former)));
        }
        all
    }

    /// Lets a child link up for a tenant, or no more.
    pub fn link(&mut self, child: &TierPath, request: &LinkRequest) -> Result<(), Error> {
        let LinkRequest { tenant: name, link } = request;
        let parent = child.parent().map_or_else(String::new, |parent| parent.to_string());
        let unknown = || {
            Error::Bad(format!(
                "{parent} has no tenant {name:?}; add it there first: edgescale --at {parent} \
                 tenant add {name}"
            ))
        };
        let public = match link {
            Some(public) if !is_user(public) => {
                return Err(Error::Bad(format!("the link of {child} is no public nkey")));
            }
            Some(public) if self.is_linked_elsewhere(name, child.name(), public) => {
                return Err(Error::Bad(format!("the key of {child} for {name:?} is another's")));
            }
            link => link,
        };
        let tenant = self.tenants.get_mut(name).filter(|_| name != ACCOUNT).ok_or_else(unknown)?;
        match public {
            Some(public) => tenant.links.insert(child.name().to_owned(), public.clone()),
            None => tenant.links.remove(child.name()),
        };
        Ok(())
    }

    /// One key in two places would make the server refuse its whole configuration.
    fn is_linked_elsewhere(&self, name: &str, child: &str, public: &str) -> bool {
        self.tenants.iter().any(|(tenant, found)| {
            found.links.iter().any(|(of, key)| key == public && (tenant != name || of != child))
                || found.former.iter().any(|former| former.public == public)
        })
    }

    /// Forgets the links of a child that was removed.
    pub fn forget_child(&mut self, child: &str) {
        self.tenants.values_mut().for_each(|tenant| drop(tenant.links.remove(child)));
    }
}

#[cfg(test)]
mod tests;
