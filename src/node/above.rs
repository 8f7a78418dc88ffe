//! The tier above, asked over the bus for apps and compiled code.

use std::time::Duration;

use async_trait::async_trait;
use bus::{Bus, Headers, RefusalKind};
use handlers::Digest;
use handlers::deploy::{Above, Offer, Registered};
use handlers::execute::Machine;

use super::code;

/// How long it may take to name an app.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The tier above, over the bus.
pub struct BusAbove {
    bus: Bus,
}

impl BusAbove {
    /// The tier above the bus's site.
    pub fn new(bus: Bus) -> Self {
        Self { bus }
    }
}

#[async_trait]
impl Above for BusAbove {
    async fn app(&self, name: &str) -> Result<Option<Registered>, handlers::deploy::Error> {
        let Some(parent) = self.bus.site().parent() else { return Ok(None) };
        let subject = format!("ctl.{parent}._.apps.get");
        let answer = self.bus.request(&subject, &Headers::new(), name.to_owned(), TIMEOUT).await;
        match answer {
            Ok(response) => serde_json::from_slice(&response.payload)
                .map(Some)
                .map_err(|e| handlers::deploy::Error::Away(format!("app {name}: {e}"))),
            Err(bus::Error::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => Ok(None),
            Err(e) => Err(handlers::deploy::Error::Away(format!("app {name}: {e}"))),
        }
    }

    async fn compiled(
        &self,
        code: &Digest,
        machine: Machine,
    ) -> Result<Option<Offer>, handlers::deploy::Error> {
        let site = self.bus.site();
        let Some(parent) = site.parent() else { return Ok(None) };
        let subject = format!("ctl.{parent}._.site.{}.compiled", site.name());
        let away = |e: &dyn std::fmt::Display| {
            handlers::deploy::Error::Away(format!("compiled code {code}: {e}"))
        };
        let wanted = code::Wanted { code: code.clone(), machine };
        let wanted = serde_json::to_vec(&wanted).map_err(|e| away(&e))?;
        match self.bus.request(&subject, &Headers::new(), wanted, TIMEOUT).await {
            Ok(response) => {
                serde_json::from_slice(&response.payload).map(Some).map_err(|e| away(&e))
            }
            Err(bus::Error::Refused(refusal)) if refusal.kind == RefusalKind::NotFound => Ok(None),
            Err(e) => Err(away(&e)),
        }
    }

    async fn moved_on(&self, revision: u64) {
        let subject = format!("sync.{}._.apps", self.bus.site());
        let _ = self.bus.publish(&subject, &Headers::new(), revision.to_string()).await;
    }
}
