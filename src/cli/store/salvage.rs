//! `edgescale store salvage`: mends the log and the manifests of a store whose node does not start
//! for them, and gives segments up that stay damaged.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bus::site::{RECORD_FILE, SiteFolder};
use bus::tree::ACCOUNT;
use serde_json::json;

use crate::cli::Global;
use crate::cli::output::Output;
use crate::node::{self, objects};

/// Sets aside what is damaged in the store of a site that does not run, and says what it was.
pub async fn run(
    config: Option<PathBuf>,
    give_up: &[String],
    global: &Global,
    out: Output,
) -> Result<()> {
    let file = match config {
        Some(file) => file,
        None => {
            let folder = site_folder(&global.dir, global.at.as_deref())?;
            folder.tenant_file(global.tenant.as_deref().unwrap_or(ACCOUNT), node::CONFIG_FILE)
        }
    };
    let config = objects::store_config(&node::Settings::load(&file)?)?;
    let folder = config.dir.clone();
    let mended = store::salvage(config, give_up).await.context("stop the node, if it runs")?;
    let store::Mended { files, manifests, given_up } = &mended;
    let answer = json!({"store": folder, "set_aside": files, "manifests": manifests,
                        "given_up": given_up});
    out.show(&answer, |_| in_words(&folder, &mended))
}

fn in_words(folder: &Path, mended: &store::Mended) -> String {
    let mut lines: Vec<String> = Vec::new();
    for store::Salvaged { file, kept, left_out } in &mended.files {
        let lost = match left_out {
            0 => String::new(),
            count => format!(", and {count} that build on what is lost are left out"),
        };
        let file = folder.join("wal").join(file);
        lines
            .push(format!("{} is set aside; {kept} of its entries are kept{lost}", file.display()));
    }
    for store::Remade { manifest, reason, segments, rows, gone, set_aside } in &mended.manifests {
        lines.push(format!(
            "{manifest}: {reason}; there is a new one, of {segments} segments with {rows} rows"
        ));
        let gone = gone.iter().map(|name| format!("  {name} is gone: merged into others, or lost"));
        lines.extend(gone);
        let unread =
            set_aside.iter().map(|name| format!("  {name} does not read: its rows are lost"));
        lines.extend(unread);
    }
    for store::GivenUp { object, table, rows, first, last, .. } in &mended.given_up {
        lines.push(format!(
            "{object} is given up: {rows} rows of table {table} are lost, from {first} to {last}"
        ));
    }
    match lines.is_empty() {
        true => format!("the log and the manifests of {} are sound", folder.display()),
        false => lines.join("\n") + "\n",
    }
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
    if dirs.is_empty() {
        bail!("{} holds no site; name the folder of one with --dir", dir.display());
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
