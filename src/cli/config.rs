//! `edgescale config`: settings of an app that runs, shown and changed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::output::{Output, by_reason, causes, table};
use crate::context::{Context, Site};
use crate::node::client;

#[derive(Args)]
pub struct Config {
    /// The app's name; its settings are shown
    app: String,
    /// The handler whose settings are changed
    handler: Option<String>,
    /// What they are from the next invocation on, at the site of --at or at every site
    #[arg(value_name = "NAME=VALUE", requires = "handler")]
    set: Vec<String>,
    /// A setting that is the manifest's again
    #[arg(long, value_name = "NAME", requires = "handler")]
    unset: Vec<String>,
}

/// Shows the settings at one site or at all, changed as was asked.
pub async fn run(context: &Context, at: Option<&str>, asked: Config, out: Output) -> Result<()> {
    let (verb, body) = request(&asked)?;
    let sites: Vec<&Site> = match at {
        Some(_) => vec![context.site(at)?],
        None => context.sites.iter().collect(),
    };
    let (mut shown, mut failed) = (vec![], vec![]);
    for site in sites {
        match ask(site, verb, &body).await {
            Ok(answer) => shown.push(answer),
            Err(error) => failed.push((site.path.clone(), causes(&error))),
        }
    }
    if !shown.is_empty() {
        out.show(&Value::Array(shown), listing)?;
    }
    ensure!(failed.is_empty(), by_reason(&failed));
    Ok(())
}

fn request(asked: &Config) -> Result<(&'static str, String)> {
    let Some(handler) = &asked.handler else { return Ok(("config.get", asked.app.clone())) };
    let mut set = BTreeMap::new();
    for pair in &asked.set {
        let (name, value) =
            pair.split_once('=').with_context(|| format!("{pair:?} is not NAME=VALUE"))?;
        set.insert(name, value);
    }
    if set.is_empty() && asked.unset.is_empty() {
        bail!("say what to change: NAME=VALUE, or --unset NAME");
    }
    let body = json!({"app": asked.app, "handler": handler, "set": set, "unset": asked.unset});
    Ok(("config.set", body.to_string()))
}

async fn ask(site: &Site, verb: &str, body: &str) -> Result<Value> {
    let bus = site.connect().await?;
    client::json(&client::control(&bus, verb, body.to_owned()).await?)
}

fn listing(sites: &Value) -> String {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut rows = vec![];
    for site in sites.as_array().into_iter().flatten() {
        for handler in list(site, "handlers") {
            let start = [text(&site["site"]), text(&handler["handler"])];
            for setting in list(&handler, "settings") {
                let was = setting.get("manifest").map(|own| format!("changed from {}", text(own)));
                let end = [&setting["name"], &setting["value"]].map(text);
                rows.push([&start[..], &end, &[was.unwrap_or_default()]].concat());
            }
            for secret in list(&handler, "secrets") {
                let end = [text(&secret), String::new(), "a secret of the site".to_owned()];
                rows.push([&start[..], &end].concat());
            }
        }
    }
    match rows.is_empty() {
        true => "no settings".to_owned(),
        false => table(&["SITE", "HANDLER", "SETTING", "VALUE", ""], rows),
    }
}
