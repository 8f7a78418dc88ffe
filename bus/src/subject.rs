//! The grammar of subjects: `<kind>.<path>._.<app>.<name…>`; `_` ends the path.

use std::fmt;

use crate::Error;
use crate::path::{TierPath, clip};

/// The longest subject that is accepted, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 512;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Events.
    Ev,
    /// Requests to handlers.
    Call,
    /// The store.
    St,
    /// Accelerator jobs.
    Ac,
    /// Stream connections.
    Sm,
    /// Control.
    Ctl,
    /// Replies.
    Rp,
    /// Replication, and events on their way up.
    Sync,
    /// Logs, metrics and lifecycle events.
    Tel,
    /// Never leaves the server.
    Local,
}

const KINDS: [(Kind, &str); 10] = [
    (Kind::Ev, "ev"),
    (Kind::Call, "call"),
    (Kind::St, "st"),
    (Kind::Ac, "ac"),
    (Kind::Sm, "sm"),
    (Kind::Ctl, "ctl"),
    (Kind::Rp, "rp"),
    (Kind::Sync, "sync"),
    (Kind::Tel, "tel"),
    (Kind::Local, "local"),
];

impl Kind {
    /// The first token of the kind's subjects.
    pub fn token(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("local", |(_, token)| token)
    }

    fn parse(token: &str) -> Option<Self> {
        KINDS.iter().find(|(_, known)| *known == token).map(|(kind, _)| *kind)
    }
}

/// A whole subject: kind, tier, and the name within the tier (`doorcam.motion`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    pub kind: Kind,
    pub path: TierPath,
    pub name: String,
}

impl Subject {
    /// A subject for a name that is already known to be sound.
    pub fn new(kind: Kind, path: &TierPath, name: impl Into<String>) -> Self {
        Self { kind, path: path.clone(), name: name.into() }
    }

    /// A subject for a name that came from outside: checked token by token.
    pub fn checked(kind: Kind, path: &TierPath, name: &str) -> Result<Self, Error> {
        check_name(name)?;
        let subject = Self::new(kind, path, name);
        let bytes = subject.to_string().len();
        if bytes > SUBJECT_BYTES_MAX {
            return Err(Error::Bad(format!(
                "subject {:?}… is {bytes} bytes; the longest is {SUBJECT_BYTES_MAX}",
                clip(name)
            )));
        }
        Ok(subject)
    }

    /// The wildcard over everything of a kind at one tier alone: `ev.cloud.east._.>`.
    pub fn all(kind: Kind, path: &TierPath) -> String {
        format!("{}.{path}._.>", kind.token())
    }

    /// The wildcard over a tier and everything below it: `ev.cloud.east.>`.
    pub fn subtree(kind: Kind, path: &TierPath) -> String {
        format!("{}.{path}.>", kind.token())
    }

    /// Reads a subject off the wire.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bad = |reason: &str| Error::Bad(format!("subject {:?}: {reason}", clip(text)));
        if text.len() > SUBJECT_BYTES_MAX {
            return Err(bad("is too long"));
        }
        let (kind, rest) = text.split_once('.').ok_or_else(|| bad("has one token only"))?;
        let kind = Kind::parse(kind).ok_or_else(|| bad("starts with no known kind"))?;
        let (path, name) = rest
            .split_once("._.")
            .ok_or_else(|| bad("has no `_` between the tier path and the name"))?;
        let path = path.parse()?;
        check_name(name)?;
        Ok(Self { kind, path, name: name.to_owned() })
    }

    /// The first token of the name: the app.
    pub fn app(&self) -> &str {
        self.name.split('.').next().unwrap_or(&self.name)
    }

    /// The name without the app: the event or function within it; may be empty.
    pub fn rest(&self) -> &str {
        self.name.split_once('.').map_or("", |(_, rest)| rest)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}._.{}", self.kind.token(), self.path, self.name)
    }
}

/// Refuses names that are empty, hold wildcards, spaces or control characters.
pub fn check_name(name: &str) -> Result<(), Error> {
    let bad = |reason: &str| Err(Error::Bad(format!("name {:?} {reason}", clip(name))));
    if name.len() > SUBJECT_BYTES_MAX {
        return bad("is too long");
    }
    for token in name.split('.') {
        if token.is_empty() {
            return bad("has an empty token");
        }
        if token == "_" {
            return bad("has the token `_`, which ends a tier path");
        }
        if !token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=@/:+".contains(&b)) {
            return bad("has a character outside [A-Za-z0-9-_=@/:+]");
        }
    }
    Ok(())
}

/// True when a name matches a NATS pattern (`*` for one token, `>` for the rest).
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut names = name.split('.');
    for want in pattern.split('.') {
        match (want, names.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (want, Some(token)) if want == token => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

#[cfg(test)]
mod tests;
