//! The page at `/`: the sites of a subtree, and one of them closer. The page itself is a file and
//! tells nothing; what it shows it asks for at `/_/state`, which wants the site's token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, header};
use bus::TierPath;
use handlers::logs::Line;
use handlers::manifest::http::decode;
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::Mutex;

use super::{Answer, Door, Problem, only};
use crate::node::{Node, client};
use crate::watch::{self, Look, Row, rows};

const PAGE: &str = include_str!("dashboard/page.html");
/// Nothing comes from elsewhere, nothing goes elsewhere, and no page of an app may frame it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// How long a look is shown to all who ask.
const LOOK_KEPT: Duration = Duration::from_millis(900);
/// How many of a site's last log lines are shown.
const LINES: usize = 100;

/// The last look at the subtree; who asks meanwhile waits for the one that is under way.
#[derive(Default)]
pub(super) struct Looks {
    last: Mutex<Option<Arc<Seen>>>,
}

struct Seen {
    until: Instant,
    look: Look,
    rows: Vec<Row>,
}

impl Looks {
    async fn now(&self, node: &Node) -> Arc<Seen> {
        let mut last = self.last.lock().await;
        if let Some(seen) = last.as_ref().filter(|seen| Instant::now() < seen.until) {
            return seen.clone();
        }
        // What the node knows itself is there also while its server is away.
        let own = BTreeMap::from([(node.bus.site().clone(), node.report().await)]);
        let look = watch::look(&node.bus, node.brief().await, own).await;
        let rows = rows(last.as_ref().map_or(&look, |before| &before.look), &look);
        let seen = Arc::new(Seen { until: Instant::now() + LOOK_KEPT, look, rows });
        *last = Some(seen.clone());
        seen
    }
}

impl Door {
    pub(super) fn page(&self, request: &Request<Incoming>) -> Answer {
        if request.method() != Method::HEAD {
            only(request, Method::GET)?;
        }
        let mut response = Response::new(Body::from(PAGE));
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-cache"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Ok(response)
    }

    /// All sites, and of one of them, `?site=…` or this, its report and last lines.
    pub(super) async fn state(&self, request: Request<Incoming>) -> Answer {
        only(&request, Method::GET)?;
        self.check_token(request.headers())?;
        let _place = self.enter()?;
        let site = chosen(request.uri().query().unwrap_or_default())?;
        let site = site.unwrap_or_else(|| self.node.bus.site().clone());
        let seen = self.looks.now(&self.node).await;
        if !seen.rows.iter().any(|row| row.site == site) {
            let text = format!("{site} is not known at {} or below", self.site());
            return Err(Problem::not_found(text));
        }
        let state = json!({
            "site": self.site(),
            "sites": seen.rows,
            "chosen": seen.look.reports.get(&site),
            "lines": self.lines(site).await,
        });
        let mut response = Response::new(Body::from(state.to_string()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// The last lines of a site; none of one that does not answer.
    async fn lines(&self, site: TierPath) -> Vec<Line> {
        let node = &self.node;
        if site == *node.bus.site() {
            return node.logs.last(LINES);
        }
        let bus = node.bus.clone().speaking_to(site);
        let asked = client::control(&bus, "logs", LINES.to_string());
        match tokio::time::timeout(watch::TIMEOUT, asked).await {
            Ok(Ok(answer)) => client::json(&answer).unwrap_or_default(),
            _ => vec![],
        }
    }
}

/// The site that a query names.
fn chosen(query: &str) -> Result<Option<TierPath>, Problem> {
    let named = query.split('&').find_map(|pair| pair.strip_prefix("site="));
    let Some(named) = named else { return Ok(None) };
    let site = decode(named).unwrap_or_else(|| named.to_owned());
    site.parse().map(Some).map_err(|e| Problem::bad(format!("site: {e}; write the path of a site")))
}

#[cfg(test)]
mod tests;
