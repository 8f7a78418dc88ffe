//! `edgescale tenant`: who shares a site, and by which keys.

use std::time::Duration;

use anyhow::{Result, ensure};
use bus::site::MQTT_FILE;
use bus::site::tenants::Tenants;
use bus::{Bus, Headers, TierPath};
use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{Output, by_reason, table};
use crate::context::Site;
use crate::node::client;
use crate::node::tenants::{About, TenantReport, WAIT_MAX};
use crate::tree::now_s;

/// How long a site may take: its parent may be asked first, and a node may have to start.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Subcommand)]
pub enum Tenant {
    /// Take a tenant in, at the site of --at and at every site below it
    Add {
        /// Its name: [a-z0-9-], at most 32
        name: String,
        /// At this site alone
        #[arg(long)]
        here: bool,
    },
    /// Shut a tenant out and erase what it kept, at the site of --at and at every site below it
    Rm {
        /// Its name
        name: String,
        /// At this site alone
        #[arg(long)]
        here: bool,
    },
    /// Give a tenant's clients at the site of --at a new key, and its MQTT clients a new name and
    /// password; the old ones stay good for a while
    Rotate {
        /// Its name; `tenant` is the site's owner
        name: String,
        /// How long the old key stays good, in minutes
        #[arg(long, default_value_t = 24 * 60)]
        grace_minutes: u64,
    },
    /// List the tenants of the site of --at
    Ls,
}

/// Carries out a command of `edgescale tenant`.
pub async fn run(site: &Site, command: Tenant, out: Output) -> Result<()> {
    let bus = site.connect().await?;
    match command {
        Tenant::Add { name, here } => add(&bus, &name, sites(&bus, here).await?, out).await,
        // A child first: its link is of no use without its parent's.
        Tenant::Rm { name, here } => {
            let sites = sites(&bus, here).await?.into_iter().rev().collect();
            remove(&bus, &name, sites, out).await
        }
        Tenant::Rotate { name, grace_minutes } => {
            let grace_s = Some(grace_minutes.saturating_mul(60));
            let body = json!(About { tenant: name, grace_s }).to_string();
            let answer = client::control(&bus, "tenant.rotate", body).await?;
            out.show(&client::json::<Value>(&answer)?, |answer| {
                let file = answer["key_file"].as_str().unwrap_or_default();
                let mqtt = std::path::Path::new(file).with_file_name(MQTT_FILE);
                let user = answer["mqtt_user"].as_str().unwrap_or_default();
                format!(
                    "the new key is in {file}\n\
                     MQTT clients log in as {user}, with the password in {}\n\
                     what they had is good for {grace_minutes} minutes",
                    mqtt.display()
                )
            })
        }
        Tenant::Ls => {
            let answer = client::control(&bus, "tenant.ls", "").await?;
            out.show(&client::json::<Vec<TenantReport>>(&answer)?, |tenants| list(tenants))
        }
    }
}

/// The site itself and those below it, parents first.
async fn sites(bus: &Bus, here: bool) -> Result<Vec<TierPath>> {
    if here {
        return Ok(vec![bus.site().clone()]);
    }
    let brief = client::tree(bus).await?;
    let all = std::iter::once(&brief).chain(brief.below());
    Ok(all.map(|site| site.path.clone()).collect())
}

/// What the sites said that did it, and what those said that did not.
type Outcome = (Vec<Value>, Vec<(TierPath, String)>);

/// Asks the sites one after the other, and goes on at the others when one refuses.
async fn ask(bus: &Bus, verb: &str, name: &str, sites: Vec<TierPath>) -> Result<Outcome> {
    let (mut done, mut refused) = (vec![], vec![]);
    for site in sites {
        match bus.request(&subject(&site, verb), &Headers::new(), body(name), TIMEOUT).await {
            Ok(answer) => done.push(client::json::<Value>(&answer)?),
            // Its message without the site, which is told anyway.
            Err(bus::Error::Refused(refusal)) => refused.push((site, refusal.message)),
            Err(e) => refused.push((site, e.to_string())),
        }
    }
    Ok((done, refused))
}

fn subject(site: &TierPath, verb: &str) -> String {
    format!("ctl.{site}._.tenant.{verb}")
}

fn body(name: &str) -> String {
    json!(About { tenant: name.to_owned(), grace_s: None }).to_string()
}

async fn add(bus: &Bus, name: &str, sites: Vec<TierPath>, out: Output) -> Result<()> {
    // A bad name is wrong at every site alike.
    Tenants::default().add(name)?;
    let (mut done, refused) = ask(bus, "add", name, sites).await?;
    let nodes = done.iter_mut().map(|added| wait(bus, name, added));
    futures::future::join_all(nodes).await;
    out.show(&done, |done| {
        let line = |answer: &Value| {
            let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
            let node = match answer["answers"].as_bool() {
                Some(true) => "answers".to_owned(),
                _ => format!("none after {} s: see its node.log", WAIT_MAX.as_secs()),
            };
            vec![text("site"), node, text("key_file")]
        };
        table(&["SITE", "ITS NODE", "KEY OF ITS CLIENTS"], done.iter().map(line))
    })?;
    all_done("add", name, &refused)
}

/// Notes in a site's answer whether the tenant's node there has come up.
async fn wait(bus: &Bus, name: &str, added: &mut Value) {
    let site: Option<TierPath> = added["site"].as_str().and_then(|site| site.parse().ok());
    let answers = match site {
        Some(site) => {
            let subject = subject(&site, "wait");
            let waited = bus.request(&subject, &Headers::new(), body(name), TIMEOUT).await;
            waited.is_ok_and(|w| client::json::<Value>(&w).is_ok_and(|w| w["answers"] == true))
        }
        None => false,
    };
    added["answers"] = answers.into();
}

async fn remove(bus: &Bus, name: &str, sites: Vec<TierPath>, out: Output) -> Result<()> {
    let (done, refused) = ask(bus, "rm", name, sites).await?;
    out.show(&done, |done| format!("{name} has left {} sites", done.len()))?;
    all_done("rm", name, &refused)
}

/// Fails in the end when a site refused.
fn all_done(verb: &str, name: &str, refused: &[(TierPath, String)]) -> Result<()> {
    ensure!(refused.is_empty(), "tenant {verb} {name}: {}", by_reason(refused));
    Ok(())
}

fn list(tenants: &[TenantReport]) -> String {
    let now_s = now_s();
    let row = |tenant: &TenantReport| {
        let left = |until_s: u64| format!("{} min", until_s.saturating_sub(now_s).div_ceil(60));
        let former: Vec<String> = tenant.former.iter().map(|key| left(key.until_s)).collect();
        let (name, key, mqtt) = (&tenant.tenant, &tenant.key, &tenant.mqtt_user);
        vec![name.clone(), key.clone(), mqtt.clone(), former.join(", ")]
    };
    let titles = ["TENANT", "KEY", "MQTT USER", "FORMER ONES GOOD FOR"];
    table(&titles, tenants.iter().map(row))
}

#[cfg(test)]
mod tests;
