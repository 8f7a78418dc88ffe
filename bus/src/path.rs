//! The place of a site in the tree: `cloud`, `cloud.east`, `cloud.east.cell7`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The deepest tree that is supported, in tokens.
pub const DEPTH_MAX: usize = 8;
/// The longest token of a path or a name, in bytes.
pub const TOKEN_BYTES_MAX: usize = 32;

/// A site's place: its tokens from the root, each `[a-z0-9-]{1,32}`, one to eight of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TierPath(String);

impl TierPath {
    /// The path as text, tokens joined by dots.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tokens from the root.
    pub fn tokens(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// The number of tokens: 1 at the root.
    pub fn depth(&self) -> usize {
        self.tokens().count()
    }

    /// The site above, or `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('.').map(|(parent, _)| Self(parent.to_owned()))
    }

    /// The sites above, nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// The top of the tree.
    pub fn root(&self) -> Self {
        Self(self.tokens().next().unwrap_or(&self.0).to_owned())
    }

    /// The last token: the site's own name.
    pub fn name(&self) -> &str {
        self.tokens().next_back().unwrap_or(&self.0)
    }

    /// The site below this one with the given name.
    pub fn child(&self, name: &str) -> Result<Self, Error> {
        format!("{}.{name}", self.0).parse()
    }

    /// True for this site and everything below it.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The neighbour to which a message for `target` goes next: a child, or the parent.
    pub fn next_hop(&self, target: &Self) -> Option<Self> {
        if self == target {
            return None;
        }
        if !self.contains(target) {
            return self.parent();
        }
        let next = target.tokens().nth(self.depth())?;
        Some(Self(format!("{}.{next}", self.0)))
    }

    /// The JetStream domain of the site: the path with `-` for `.`.
    pub fn domain(&self) -> String {
        self.0.replace('.', "-")
    }

    /// The class a site has when its configuration does not say: by depth.
    pub fn default_class(&self) -> TierClass {
        match self.depth() {
            1 => TierClass::Cloud,
            2 => TierClass::Region,
            3 => TierClass::Edge,
            _ => TierClass::Device,
        }
    }
}

impl FromStr for TierPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let depth = text.split('.').count();
        if depth > DEPTH_MAX {
            return Err(Error::Bad(format!(
                "tier path {text:?} is {depth} deep; the deepest is {DEPTH_MAX}"
            )));
        }
        match text.split('.').find(|token| !is_token(token)) {
            None => Ok(Self(text.to_owned())),
            Some(token) => Err(Error::Bad(format!(
                "tier path {:?}: token {:?} is not [a-z0-9-]{{1,{TOKEN_BYTES_MAX}}}",
                clip(text),
                clip(token)
            ))),
        }
    }
}

impl TryFrom<String> for TierPath {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<TierPath> for String {
    fn from(path: TierPath) -> Self {
        path.0
    }
}

impl fmt::Display for TierPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of place a site is, from the smallest to the largest; placement words name these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TierClass {
    Device,
    Edge,
    Region,
    Cloud,
}

/// True for `[a-z0-9-]{1,32}`.
pub fn is_token(token: &str) -> bool {
    (1..=TOKEN_BYTES_MAX).contains(&token.len())
        && token.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Shortens text for an error message, on a character boundary.
pub(crate) fn clip(text: &str) -> &str {
    match text.char_indices().nth(64) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests;
