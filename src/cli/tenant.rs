//! `edgescale tenant`: who shares a site, and by which keys.

use anyhow::{Result, bail};
use bus::{Headers, TierPath};
use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{Output, table};
use crate::context::Site;
use crate::node::client;
use crate::node::report::Brief;
use crate::node::tenants::{About, TenantReport};
use crate::tree::now_s;

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
        name: String,
        /// At this site alone
        #[arg(long)]
        here: bool,
    },
    /// Give a tenant's clients at the site of --at a new key; the old one stays good for a while
    Rotate {
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
        Tenant::Add { name, here } => {
            everywhere(&bus, "add", &name, sites(&bus, here).await?, out).await
        }
        // A child first: its link is of no use without its parent's.
        Tenant::Rm { name, here } => {
            let sites = sites(&bus, here).await?.into_iter().rev().collect();
            everywhere(&bus, "rm", &name, sites, out).await
        }
        Tenant::Rotate { name, grace_minutes } => {
            let grace_s = Some(grace_minutes.saturating_mul(60));
            let body = json!(About { tenant: name, grace_s }).to_string();
            let answer = client::control(&bus, "tenant.rotate", body).await?;
            out.show(&client::json::<Value>(&answer)?, |answer| {
                let file = answer["key_file"].as_str().unwrap_or_default();
                format!("the new key is in {file}; the old one is good for {grace_minutes} minutes")
            })
        }
        Tenant::Ls => {
            let answer = client::control(&bus, "tenant.ls", "").await?;
            out.show(&client::json::<Vec<TenantReport>>(&answer)?, |tenants| list(tenants))
        }
    }
}

/// The site itself and those below it, parents first.
async fn sites(bus: &bus::Bus, here: bool) -> Result<Vec<TierPath>> {
    if here {
        return Ok(vec![bus.site().clone()]);
    }
    let brief: Brief = client::json(&client::control(bus, "tree", "").await?)?;
    let (mut sites, mut open) = (vec![], vec![&brief]);
    while let Some(next) = open.pop() {
        sites.push(next.path.clone());
        open.extend(next.children.iter().rev());
    }
    Ok(sites)
}

/// Goes on at the others when one site refuses, and fails in the end.
async fn everywhere(
    bus: &bus::Bus,
    verb: &str,
    name: &str,
    sites: Vec<TierPath>,
    out: Output,
) -> Result<()> {
    let body = json!(About { tenant: name.to_owned(), grace_s: None }).to_string();
    let (mut done, mut refused) = (vec![], vec![]);
    for site in sites {
        let subject = format!("ctl.{site}._.tenant.{verb}");
        let asked = bus.request(&subject, &Headers::new(), body.clone(), client::TIMEOUT * 3).await;
        match asked {
            Ok(answer) => done.push(client::json::<Value>(&answer)?),
            Err(e) => refused.push(format!("{site}: {e}")),
        }
    }
    out.show(&done, |done| {
        let line = |answer: &Value| {
            let site = answer["site"].as_str().unwrap_or_default().to_owned();
            vec![site, answer["key_file"].as_str().unwrap_or_default().to_owned()]
        };
        match verb {
            "add" => table(&["SITE", "KEY OF ITS CLIENTS"], done.iter().map(line)),
            _ => format!("{name} has left {} sites", done.len()),
        }
    })?;
    match refused.is_empty() {
        true => Ok(()),
        false => bail!("tenant {verb} {name}: {}", refused.join("; ")),
    }
}

fn list(tenants: &[TenantReport]) -> String {
    let now_s = now_s();
    let row = |tenant: &TenantReport| {
        let left = |until_s: u64| format!("{} min", until_s.saturating_sub(now_s).div_ceil(60));
        let former: Vec<String> = tenant.former.iter().map(|key| left(key.until_s)).collect();
        vec![tenant.tenant.clone(), tenant.key.clone(), former.join(", ")]
    };
    table(&["TENANT", "KEY", "FORMER KEYS GOOD FOR"], tenants.iter().map(row))
}
