//! `edgescale store salvage`: mends the log of a store whose node does not start for it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bus::site::{RECORD_FILE, SiteFolder};
use bus::tree::ACCOUNT;
use serde_json::json;

use crate::cli::Global;
use crate::cli::output::Output;
use crate::node::{self, objects};

/// Sets aside what is damaged in the log of a site that does not run, and says what it was.
pub async fn run(config: Option<PathBuf>, global: &Global, out: Output) -> Result<()> {
    let file = match config {
        Some(file) => file,
        None => {
            let folder = site_folder(&global.dir, global.at.as_deref())?;
            folder.tenant_file(global.tenant.as_deref().unwrap_or(ACCOUNT), node::CONFIG_FILE)
        }
    };
    let config = objects::store_config(&node::Settings::load(&file)?)?;
    let folder = config.dir.clone();
    let mended = store::salvage(config).await.context("stop the node, if it runs")?;
    out.show(&json!({"store": folder, "set_aside": mended}), |_| {
        let line = |salvaged: &store::Salvaged| {
            let store::Salvaged { file, kept, left_out } = salvaged;
            let lost = match left_out {
                0 => String::new(),
                count => format!(", and {count} that build on what is lost are left out"),
            };
            let file = folder.join("wal").join(file);
            format!("{} is set aside; {kept} of its entries are kept{lost}\n", file.display())
        };
        match mended.is_empty() {
            true => format!("the log of {} is sound", folder.display()),
            false => mended.iter().map(line).collect(),
        }
    })
}

/// The folder of the site of `--dir`, or of one of the sites that `edgescale up` keeps in it.
fn site_folder(dir: &Path, at: Option<&str>) -> Result<SiteFolder> {
    let mut dirs = vec![];
    if dir.join(RECORD_FILE).exists() {
        dirs.push(dir.to_owned());
    } else if let Ok(entries) = std::fs::read_dir(dir) {
        dirs.extend(entries.flatten().map(|entry| entry.path()));
        dirs.retain(|dir| dir.join(RECORD_FILE).exists());
    }
    let folders = dirs.iter().map(|dir| SiteFolder::open(dir)).collect::<Result<Vec<_>, _>>()?;
    let is_named = |folder: &SiteFolder| {
        let site = &folder.record.site;
        at.is_none_or(|name| site.as_str() == name || site.name() == name)
    };
    let (mut named, others): (Vec<_>, Vec<_>) = folders.into_iter().partition(is_named);
    match (named.pop(), named.is_empty()) {
        (Some(folder), true) => Ok(folder),
        (Some(_), false) => {
            bail!("there are several such sites in {}; name one with --at", dir.display())
        }
        (None, _) => {
            let names: Vec<&str> =
                others.iter().map(|folder| folder.record.site.as_str()).collect();
            bail!("no such site in {}; there are [{}]", dir.display(), names.join(", "))
        }
    }
}
