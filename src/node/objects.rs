//! How a node's store is opened, and the bucket with its objects: what `[objects]` says, and the
//! keys to it, which stand in no configuration.

use std::path::Path;

use anyhow::{Context as _, Result};
use bus::TierPath;
use store::{Bucket, BucketKeys};

use super::Settings;

/// The folder of the keys, beside the secrets of apps; no app has this name.
const FOLDER: &str = "secrets/@objects";

/// How the store of a node is opened.
pub fn store_config(settings: &Settings) -> Result<store::Config> {
    let mut config = store::Config::new(settings.data.join("store"), settings.site.as_str());
    config.former = settings.former.iter().map(TierPath::to_string).collect();
    config.objects = bucket(settings)?;
    Ok(config)
}

/// The bucket of a node, with its keys: files of the node's data, or the variables that other
/// programs read as well.
pub fn bucket(settings: &Settings) -> Result<Option<Bucket>> {
    let Some(bucket) = settings.objects.clone() else { return Ok(None) };
    let folder = settings.data.join(FOLDER);
    let key = |name: &str| key(&folder, name);
    let needed = |name: &str| {
        key(name)?.with_context(|| {
            format!(
                "{bucket} wants a key: write it to {}, or set AWS_{name}",
                folder.join(name).display()
            )
        })
    };
    let keys = BucketKeys {
        access_key_id: needed("ACCESS_KEY_ID")?,
        secret_access_key: needed("SECRET_ACCESS_KEY")?,
        session_token: key("SESSION_TOKEN")?,
    };
    Ok(Some(Bucket { keys, ..bucket.clone() }))
}

fn key(folder: &Path, name: &str) -> Result<Option<String>> {
    let file = folder.join(name);
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Ok(std::env::var(format!("AWS_{name}")).ok())
        }
        Err(e) => Err(e).with_context(|| format!("{} cannot be read", file.display())),
    }
}
