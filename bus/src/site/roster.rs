//! Who a site's children are, and who may become one. Pure: the time comes in.

use serde::{Deserialize, Serialize};

use super::join::JoinRequest;
use crate::path::is_token;
use crate::{Error, TierClass};

/// How many children a site may have.
pub const CHILDREN_MAX: usize = 1_024;
/// How many invitations may be open at once.
pub const INVITES_MAX: usize = 64;
/// The longest that an invitation may be open.
pub const INVITE_S_MAX: u64 = 7 * 24 * 3600;

/// The children of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    children: Vec<Child>,
    invites: Vec<Invite>,
}

/// A child that may connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The last token of its path.
    pub name: String,
    pub class: TierClass,
    /// The public nkey of its link.
    pub link: String,
    /// When it joined, in seconds since 1970.
    pub joined_s: u64,
}

/// Leave for one child to join; it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Invite {
    name: String,
    class: TierClass,
    /// The public half of the nkey in the token.
    public: String,
    expires_s: u64,
    /// The link that used it. Kept until it expires, so that a child whose answer was lost may ask
    /// again, and so that a second user is told why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used_by: Option<String>,
}

impl Roster {
    /// The children, in the order in which they joined.
    pub fn children(&self) -> impl Iterator<Item = &Child> {
        self.children.iter()
    }

    /// True when a child of the site's owner has that link.
    pub fn has_link(&self, link: &str) -> bool {
        self.children.iter().any(|child| child.link == link)
    }

    /// When the last invitation that may still be answered expires; `None` when there is none.
    pub fn open_until_s(&self, now_s: u64) -> Option<u64> {
        let live = self.invites.iter().filter(|invite| invite.expires_s > now_s);
        live.map(|invite| invite.expires_s).max()
    }

    /// Notes an invitation; an older one for the same name is taken back.
    pub fn invite(
        &mut self,
        name: &str,
        class: TierClass,
        public: &str,
        now_s: u64,
        expires_s: u64,
    ) -> Result<(), Error> {
        if !is_token(name) {
            return Err(Error::Bad(format!("a site's name is [a-z0-9-]{{1,32}}, not {name:?}")));
        }
        if self.children.iter().any(|child| child.name == name) {
            return Err(Error::Bad(format!(
                "there is a child {name:?} already; choose another name, or remove that one first \
                 with `edgescale tree rm {name}`"
            )));
        }
        if expires_s <= now_s || expires_s - now_s > INVITE_S_MAX {
            let days = INVITE_S_MAX / (24 * 3600);
            return Err(Error::Bad(format!(
                "an invitation is open for a second at least, {days} days at most"
            )));
        }
        self.invites.retain(|invite| invite.expires_s > now_s && invite.name != name);
        if self.invites.len() >= INVITES_MAX || self.children.len() >= CHILDREN_MAX {
            return Err(Error::Bad(format!(
                "a site has at most {CHILDREN_MAX} children and {INVITES_MAX} open invitations"
            )));
        }
        let (name, public) = (name.to_owned(), public.to_owned());
        self.invites.push(Invite { name, class, public, expires_s, used_by: None });
        Ok(())
    }

    /// Takes a child in, when it holds an open invitation; asked again by the same child, it
    /// answers the same.
    pub fn admit(&mut self, request: &JoinRequest, now_s: u64) -> Result<Child, Error> {
        let refuse = |why: &str| Err(Error::Bad(format!("join refused: {why}")));
        request.check()?;
        let found = self.invites.iter_mut().find(|invite| invite.public == request.invite);
        let Some(invite) = found else {
            return refuse("this site knows no such invitation; ask for a new one");
        };
        if invite.expires_s <= now_s {
            return refuse("the invitation has expired; ask for a new one");
        }
        if invite.used_by.as_ref().is_some_and(|user| *user != request.link) {
            return refuse("the invitation was used already; ask for a new one");
        }
        let known = self.children.iter().find(|child| child.name == invite.name);
        match known {
            Some(child) if child.link == request.link => return Ok(child.clone()),
            Some(_) => return refuse("another child has that name"),
            None => {}
        }
        if self.children.iter().any(|child| child.link == request.link) {
            return refuse("this key belongs to another child; each site has its own");
        }
        if self.children.len() >= CHILDREN_MAX {
            return refuse("this site has as many children as it may have");
        }
        invite.used_by = Some(request.link.clone());
        let (name, class) = (invite.name.clone(), invite.class);
        let child = Child { name, class, link: request.link.clone(), joined_s: now_s };
        self.children.push(child.clone());
        Ok(child)
    }

    /// Forgets a child and the open invitations of its name.
    pub fn remove(&mut self, name: &str) -> Result<(), Error> {
        let before = self.children.len() + self.invites.len();
        self.children.retain(|child| child.name != name);
        self.invites.retain(|invite| invite.name != name);
        if before == self.children.len() + self.invites.len() {
            let names: Vec<&str> = self.children.iter().map(|child| child.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Error::Bad(format!("no child {name:?}; there are {names}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
