//! Apps of a tree: listed, registered, removed, brought back to an earlier revision.

use std::path::Path;

use anyhow::Result;
use bus::{Headers, Kind, Subject};
use clap::Args;
use serde_json::{Value, json};

use super::output::{Output, plain, table};
use crate::context::Site;
use crate::node::client;
use crate::node::report::{AppReport, NextReport};
use crate::upload::{self, TIMEOUT};

#[derive(Args)]
pub struct Rollback {
    /// The app's name
    app: String,
    /// The revision to go back to; unless said, the last one that was another than the present
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
}

/// `edgescale ls`
pub async fn list(site: &Site, out: Output) -> Result<()> {
    let report = client::report(&site.connect().await?).await?;
    out.show(&report.apps, |apps| {
        let rows = apps.iter().flat_map(|app| {
            app.handlers.iter().map(|handler| {
                let revision = app.revision.to_string();
                let (name, version) = (app.name.clone(), app.version.clone());
                vec![
                    name,
                    version,
                    revision,
                    handler.name.clone(),
                    handler.kind.clone(),
                    handler.state.clone(),
                ]
            })
        });
        let rows: Vec<_> = rows.collect();
        match rows.is_empty() {
            true => format!("{} knows no app yet; apps come on first demand", report.brief.path),
            false => {
                let heading = ["APP", "VERSION", "REVISION", "HANDLER", "KIND", "STATE"];
                let next = apps.iter().filter_map(next_text).collect::<String>();
                format!("{}{next}", table(&heading, rows))
            }
        }
    })
}

/// What is known of the revision that is to take the place of the one that serves.
fn next_text(app: &AppReport) -> Option<String> {
    let NextReport { version, revision, refused } = app.next.as_ref()?;
    let becomes = match refused {
        None => "waits for its code".to_owned(),
        Some(why) => format!("is refused: {}", plain(why)),
    };
    Some(format!("\n{} {version}, revision {revision}, {becomes}", app.name))
}

/// `edgescale deploy`
pub async fn deploy(site: &Site, manifest: &Path, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    let answer = upload::deploy(&bus, manifest).await?;
    out.show(&answer, |answer| {
        let app = answer["app"].as_str().unwrap_or_default();
        format!("app {app} is registered, revision {}", answer["revision"])
    })
}

/// `edgescale undeploy`
pub async fn undeploy(site: &Site, app: &str, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    let answer = client::control(&bus, "apps.delete", app.to_owned()).await?;
    out.show(&client::json::<Value>(&answer)?, |_| format!("app {app} is removed"))
}

/// `edgescale history`
pub async fn history(site: &Site, app: &str, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    let answer = client::control(&bus, "apps.history", app.to_owned()).await?;
    out.show(&client::json::<Vec<Value>>(&answer)?, |revisions| {
        let row = |one: &Value| {
            let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            let state = match (one["serves"] == true, one["removed"] == true) {
                (true, _) => "registered",
                (false, true) => "removed",
                (false, false) => "",
            };
            let time = text("time").get(..19).unwrap_or_default().to_owned();
            vec![one["revision"].to_string(), plain(&text("version")), time, state.to_owned()]
        };
        table(&["REVISION", "VERSION", "TIME", "STATE"], revisions.iter().map(row))
    })
}

/// `edgescale rollback`
pub async fn rollback(site: &Site, asked: Rollback, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    let subject = Subject::new(Kind::Ctl, bus.site(), "apps.rollback").to_string();
    let body = json!({"app": asked.app, "revision": asked.to}).to_string();
    let answer = bus.request(&subject, &Headers::new(), body, TIMEOUT).await?;
    out.show(&client::json::<Value>(&answer)?, |answer| {
        let (app, to, now) = (&asked.app, &answer["to"], &answer["revision"]);
        format!("app {app} is as revision {to} was, registered as revision {now}")
    })
}
