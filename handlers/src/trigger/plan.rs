//! Which of an event's handlers run at this site, and where the others do. Pure.

use bus::route::View;
use bus::route::policy::{Fit, ParentView};
use bus::{Event, TierPath};

use crate::deploy::App;

/// Where the handlers of one event run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The handlers that run here.
    pub here: Vec<String>,
    /// Some handler runs further up, or whoever is there knows more.
    pub above: bool,
    /// The handlers that run at a site below, because it has the device.
    pub below: Vec<(String, TierPath)>,
    /// The handlers that can run at no site that the event reaches, and why.
    pub nowhere: Vec<(String, String)>,
}

impl Plan {
    /// For an event of an app that is not known here.
    pub fn unknown() -> Self {
        Self { above: true, ..Self::default() }
    }

    /// For an event of a known app.
    pub fn of(app: &App, event: &Event, view: &View) -> Self {
        let mut plan = Self::default();
        // One that is for a handler or for this site alone goes no further.
        let stays = event.only().is_some() || event.to().is_some();
        if let Some(only) = event.only().filter(|only| app.manifest.handler(only).is_none()) {
            plan.nowhere.push((only.to_owned(), format!("there is no handler {only:?} any more")));
        }
        for handler in app.on_event(event.topic()) {
            let name = handler.name.as_str();
            let wanted = event.only().is_none_or(|only| only == name);
            if wanted && event.done().all(|done| done != name) {
                plan.place(app, name, view, stays);
            }
        }
        plan
    }

    /// The handlers that who is further up must not run.
    pub fn settled(&self) -> impl Iterator<Item = &str> {
        let below = self.below.iter().map(|(name, _)| name);
        let nowhere = self.nowhere.iter().map(|(name, _)| name);
        self.here.iter().chain(below).chain(nowhere).map(String::as_str)
    }

    fn place(&mut self, app: &App, name: &str, view: &View, stays: bool) {
        let Some(placement) = app.placement(name) else { return };
        let (here, name) = (&view.here, name.to_owned());
        let fit = placement.fit(here);
        let better = |site: &&bus::route::Site| placement.fit(site) == Fit::Here;
        let root = view.parent == ParentView::None;
        match fit {
            Fit::Here => self.here.push(name),
            Fit::Rather if !stays && view.above.iter().any(|site| better(&site)) => {
                self.above = true;
            }
            Fit::Rather => self.here.push(name),
            Fit::Above if !stays && !root => self.above = true,
            Fit::NoDevice if !stays => self.place_by_device(placement, name, view, root),
            Fit::Above | Fit::Below | Fit::NoDevice => {
                let reason = match fit {
                    Fit::NoDevice => "it needs a device that is not here",
                    Fit::Below => "it belongs further down; name the site in Es-To",
                    _ => "it belongs further up",
                };
                self.nowhere.push((name, format!("not placed at {}: {reason}", here.path)));
            }
        }
    }

    fn place_by_device(
        &mut self,
        placement: &bus::route::Placement,
        name: String,
        view: &View,
        root: bool,
    ) {
        let able = |site: &&bus::route::Site| placement.allows(site);
        let below = view.below.iter().filter(able).min_by_key(|site| site.rtt);
        match below {
            _ if view.above.iter().any(|site| able(&site)) => self.above = true,
            Some(site) => self.below.push((name, site.path.clone())),
            None if !root => self.above = true,
            None => self.nowhere.push((name, "no site within reach has the device".into())),
        }
    }
}

#[cfg(test)]
mod tests;
