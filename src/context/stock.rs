//! A context of the stock `nats` client as the way to a site whose folder is not here.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bus::{ClientTls, TierPath};
use serde::Deserialize;

use super::Site;

/// The variable that names a context, or its file, for the stock client too.
pub const VARIABLE: &str = "NATS_CONTEXT";

/// What of a context is read; a file leaves out or empties what it does not say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Stock {
    url: String,
    nkey: String,
    inbox_prefix: String,
    cert: String,
    key: String,
    ca: String,
    creds: String,
    user: String,
    token: String,
    user_jwt: String,
}

/// Where the stock client keeps what is configured.
pub fn config_home() -> Option<PathBuf> {
    let own = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty());
    own.map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".config")))
}

/// The file of the context that is wanted, by its name or its path, or else of the one that
/// `nats context select` has chosen.
pub fn file(wanted: Option<&str>, config_home: &Path) -> Option<PathBuf> {
    let nats = config_home.join("nats");
    let named = |name: &str| nats.join("context").join(format!("{name}.json"));
    if let Some(wanted) = wanted {
        let is_path = wanted.contains('/') || wanted.ends_with(".json");
        return Some(if is_path { wanted.into() } else { named(wanted) });
    }
    let selected = std::fs::read_to_string(nats.join("context.txt")).ok()?;
    Some(selected.trim()).filter(|name| !name.is_empty()).map(named)
}

/// The site that a context leads to.
pub fn site(file: &Path) -> Result<Site> {
    read(file).with_context(|| format!("the nats context {}", file.display()))
}

fn read(file: &Path) -> Result<Site> {
    let text = std::fs::read(file)?;
    let stock: Stock = serde_json::from_slice(&text)?;
    let others = [
        ("creds", &stock.creds),
        ("user", &stock.user),
        ("token", &stock.token),
        ("user_jwt", &stock.user_jwt),
    ];
    if let Some((word, _)) = others.iter().find(|(_, value)| !value.is_empty()) {
        bail!("logs in by {word:?}; a site knows its clients by \"nkey\" alone");
    }
    let Some(nkey) = path(&stock.nkey) else {
        bail!("has no \"nkey\", the file with the key of a client of the site");
    };
    if stock.url.is_empty() {
        bail!("has no \"url\" of a server");
    }
    let prefix = &stock.inbox_prefix;
    let of_site = prefix.strip_prefix("rp.").and_then(|rest| rest.strip_suffix("._"));
    let Some(site) = of_site.and_then(|site| site.parse::<TierPath>().ok()) else {
        bail!("leads to no site: its \"inbox_prefix\" is {prefix:?}, not \"rp.<site>._\"");
    };
    let pair = match (path(&stock.cert), path(&stock.key)) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => bail!("has only one of \"cert\" and \"key\""),
    };
    Ok(Site {
        class: site.default_class(),
        path: site,
        server: stock.url,
        monitor: String::new(),
        http: Default::default(),
        websocket: String::new(),
        mqtt: String::new(),
        log: nkey.with_file_name("node.log"),
        nkey,
        tls: ClientTls { authority: path(&stock.ca), pair },
        via: None,
    })
}

/// A file, with `~` for the user's folder; none where nothing is said.
fn path(text: &str) -> Option<PathBuf> {
    match text.strip_prefix("~/").zip(std::env::home_dir()) {
        Some((rest, home)) => Some(home.join(rest)),
        None => Some(PathBuf::from(text)).filter(|_| !text.is_empty()),
    }
}

#[cfg(test)]
mod tests;
