//! HTTP routes: `GET /things/{id}`, and which of an app's routes takes a request.
//!
//! A route's path is within its app; where the app itself stands is the gateway's business. A
//! literal segment goes before `{name}`, and that before `{name+}`, which takes all that is left.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Handler, Manifest, Trigger};

/// Methods a route may name; `ANY` takes them all.
pub const METHODS: [&str; 8] = ["ANY", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Longest route.
const ROUTE_BYTES_MAX: usize = 256;
/// Most segments of a route.
const SEGMENTS_MAX: usize = 16;

/// A method and a path with parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Route {
    method: String,
    segments: Vec<Segment>,
}

/// One part of a path. The order is the order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    One(String),
    Rest(String),
}

/// A route that takes a request, and what it read from the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched<'a> {
    pub handler: &'a Handler,
    pub route: &'a Route,
    /// Values of `{name}` and `{name+}`, decoded.
    pub parameters: Vec<(String, String)>,
}

/// Why no route takes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// The path is not percent-encoded UTF-8.
    BadPath,
    /// No route has this path.
    NotFound,
    /// The path is there, for these methods only.
    Method(Vec<String>),
}

impl Route {
    /// Reads a route; an error is the mistake and its mend.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > ROUTE_BYTES_MAX {
            return Err(format!("{} bytes; at most {ROUTE_BYTES_MAX} go", text.len()));
        }
        let (method, path) = text
            .split_once(' ')
            .ok_or("no route; write a method and a path, \"GET /things/{id}\"")?;
        if !METHODS.contains(&method) {
            return Err(format!("unknown method \"{method}\"; use one of {}", METHODS.join(", ")));
        }
        let path = path.trim_start();
        let rest = path.strip_prefix('/').ok_or("the path must start with /")?;
        let parts: Vec<&str> = if rest.is_empty() { vec![] } else { rest.split('/').collect() };
        if parts.len() > SEGMENTS_MAX {
            return Err(format!("{} segments; at most {SEGMENTS_MAX} go", parts.len()));
        }
        let segments =
            parts.iter().map(|part| Segment::parse(part)).collect::<Result<Vec<_>, _>>()?;
        if segments.iter().rev().skip(1).any(|s| matches!(s, Segment::Rest(_))) {
            return Err("\"{…+}\" takes all that is left; it can only stand last".into());
        }
        let names: Vec<&str> = segments.iter().filter_map(Segment::name).collect();
        if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
            return Err("a parameter stands twice; give one another name".into());
        }
        Ok(Self { method: method.to_owned(), segments })
    }

    /// True when both take the same requests.
    pub fn collides(&self, other: &Self) -> bool {
        let alike = |(a, b): (&Segment, &Segment)| match (a, b) {
            (Segment::Literal(a), Segment::Literal(b)) => a == b,
            (Segment::One(_), Segment::One(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
            _ => false,
        };
        self.method == other.method
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(alike)
    }

    /// Names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    fn takes_method(&self, method: &str) -> bool {
        self.method == "ANY" || self.method == method
    }

    /// The values of the parameters, when the path is of this form.
    fn read(&self, path: &[String]) -> Option<Vec<(String, String)>> {
        let mut values = Vec::new();
        let mut parts = path.iter();
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) if parts.next() == Some(text) => {}
                Segment::Literal(_) => return None,
                Segment::One(name) => match parts.next() {
                    Some(part) if !part.is_empty() => values.push((name.clone(), part.clone())),
                    _ => return None,
                },
                Segment::Rest(name) => {
                    let rest: Vec<&str> = parts.by_ref().map(String::as_str).collect();
                    if rest.is_empty() {
                        return None;
                    }
                    values.push((name.clone(), rest.join("/")));
                }
            }
        }
        parts.next().is_none().then_some(values)
    }

    /// What decides between two routes that take the same request.
    fn precedence(&self) -> (Vec<u8>, bool) {
        let rank = |segment: &Segment| match segment {
            Segment::Literal(_) => 0,
            Segment::One(_) => 1,
            Segment::Rest(_) => 2,
        };
        (self.segments.iter().map(rank).collect(), self.method == "ANY")
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.method)?;
        if self.segments.is_empty() {
            return write!(f, "/");
        }
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::One(name) => write!(f, "/{{{name}}}")?,
                Segment::Rest(name) => write!(f, "/{{{name}+}}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Route {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Route> for String {
    fn from(route: Route) -> Self {
        route.to_string()
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, String> {
        let is_word = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return match name.strip_suffix('+') {
                Some(name) if is_word(name) => Ok(Self::Rest(name.to_owned())),
                None if is_word(name) => Ok(Self::One(name.to_owned())),
                _ => Err(format!("\"{text}\" is no parameter; write {{name}} or {{name+}}")),
            };
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~!$&'()*,;=:@".contains(c);
        match text {
            "" => Err("an empty segment; write single slashes, and none at the end".into()),
            text if text.chars().all(is_plain) => Ok(Self::Literal(text.to_owned())),
            _ => {
                Err(format!("\"{text}\" is no segment; use letters, digits and -_.~, or {{name}}"))
            }
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::One(name) | Self::Rest(name) => Some(name),
        }
    }
}

impl Manifest {
    /// True when any handler has a route.
    pub fn has_routes(&self) -> bool {
        self.routes().next().is_some()
    }

    fn routes(&self) -> impl Iterator<Item = (&Handler, &Route)> {
        self.handlers.iter().flat_map(|handler| {
            handler.triggers.iter().filter_map(move |trigger| match trigger {
                Trigger::Http(route) => Some((handler, route)),
                _ => None,
            })
        })
    }

    /// The route that takes a request. `path` is within the app and as it came: `/things/a%20b`.
    /// A `HEAD` is answered by the route for `GET` where there is none of its own.
    pub fn route(&self, method: &str, path: &str) -> Result<Matched<'_>, NoRoute> {
        let path = segments(path).ok_or(NoRoute::BadPath)?;
        let mut fitting: Vec<Matched<'_>> = self
            .routes()
            .filter_map(|(handler, route)| {
                Some(Matched { handler, route, parameters: route.read(&path)? })
            })
            .collect();
        fitting.sort_by_key(|matched| matched.route.precedence());
        if fitting.is_empty() {
            return Err(NoRoute::NotFound);
        }
        let of = |method: &str| fitting.iter().position(|m| m.route.takes_method(method));
        let found = of(method).or_else(|| if method == "HEAD" { of("GET") } else { None });
        match found {
            Some(at) => Ok(fitting.swap_remove(at)),
            None => {
                let allowed: BTreeSet<String> =
                    fitting.iter().map(|matched| matched.route.method.clone()).collect();
                Err(NoRoute::Method(allowed.into_iter().collect()))
            }
        }
    }
}

/// The decoded segments of a path; the app's own root, `/` or nothing, has none.
fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path {
        "" => Some(vec![]),
        path => path.split('/').map(decode).collect(),
    }
}

/// Percent-decoding (RFC 3986, section 2.1); `None` when it is not well-formed or not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
