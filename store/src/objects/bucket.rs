//! Objects in a bucket that speaks S3, and the proof that its conditional writes are honest.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::limit::LimitStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig, UpdateVersion,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

use super::{Objects, object_error};

/// Requests to a bucket that are under way at once; more wait.
const REQUESTS_MAX: usize = 32;
/// How long a request may take, and how long it is tried again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
const RETRIES_MAX: usize = 3;
/// Writers that race for one name to prove a bucket, and how often.
const RACERS: usize = 16;
const RACES: usize = 4;

/// A bucket in which a store keeps its segments, manifests and blobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// `https://host:port`; none is AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Its name.
    pub bucket: String,
    /// What the names of objects begin with.
    #[serde(default)]
    pub prefix: String,
    /// Where it is.
    #[serde(default = "usual_region")]
    pub region: String,
    /// Who asks.
    #[serde(skip)]
    pub keys: BucketKeys,
}

/// What a bucket knows its user by. Not shown by anything.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BucketKeys {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl fmt::Debug for BucketKeys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("BucketKeys(…)")
    }
}

fn usual_region() -> String {
    "us-east-1".into()
}

impl fmt::Display for Bucket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.as_deref().unwrap_or("AWS");
        write!(out, "bucket {} at {endpoint}", self.bucket)?;
        match self.prefix.is_empty() {
            true => Ok(()),
            false => write!(out, ", under {}", self.prefix),
        }
    }
}

impl Bucket {
    /// Refuses a bucket whose conditional writes are not what manifests need; says why.
    pub async fn prove(&self) -> Result<()> {
        self.objects("probe")?.prove(&self.to_string()).await
    }

    /// The objects of one store.
    pub fn objects(&self, store: &str) -> Result<Objects> {
        let mut s3 = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_access_key_id(&self.keys.access_key_id)
            .with_secret_access_key(&self.keys.secret_access_key)
            .with_retry(RetryConfig {
                max_retries: RETRIES_MAX,
                retry_timeout: RETRY_TIMEOUT,
                ..RetryConfig::default()
            });
        let mut options = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT);
        if let Some(endpoint) = &self.endpoint {
            options = options.with_allow_http(endpoint.starts_with("http://"));
            s3 = s3.with_endpoint(endpoint);
        }
        if let Some(token) = &self.keys.session_token {
            s3 = s3.with_token(token);
        }
        let s3 = s3.with_client_options(options).build();
        let s3 = s3.map_err(|e| object_error(&self.to_string(), e))?;
        let prefix = Path::from(format!("{}/{store}", self.prefix));
        Ok(Objects::shared(Arc::new(LimitStore::new(PrefixStore::new(s3, prefix), REQUESTS_MAX))))
    }
}

impl Objects {
    /// Finds out whether a name that is taken stays taken, one after the other and at once, and
    /// whether a changed object is told from the one that was read. `place` is for the error.
    pub async fn prove(&self, place: &str) -> Result<()> {
        let names: Vec<Path> = (0..=RACES)
            .map(|i| Path::from(format!("proof/{:016x}-{i}", crate::entropy())))
            .collect();
        let proved = self.prove_with(place, &names).await;
        for name in &names {
            // What stays behind of a proof harms nobody.
            let _ = self.store.delete(name).await;
        }
        proved
    }

    async fn prove_with(&self, place: &str, names: &[Path]) -> Result<()> {
        let lies = |what: &str| {
            Error::BadRequest(format!(
                "{place} cannot keep manifests: {what}, so two writers could both believe that a \
                 change is theirs; use a server with conditional writes (AWS, SeaweedFS from 4.17, \
                 MinIO), or leave [objects] out to keep objects on this disk"
            ))
        };
        let failed = |e| object_error(place, e);
        let (first, raced) = names.split_first().expect("there are names");
        let made = self.put(first, "one", PutMode::Create).await.map_err(failed)?;
        let Some(made) = made else { return Err(lies("a name that nobody took counts as taken")) };
        if self.put(first, "two", PutMode::Create).await.map_err(failed)?.is_some() {
            return Err(lies("it lets a name be taken twice (If-None-Match is ignored)"));
        }
        let matching = self.put(first, "three", PutMode::Update(made.clone())).await;
        if matching.map_err(failed)?.is_none() {
            return Err(lies("it refuses a change of what was read (If-Match)"));
        }
        if self.put(first, "four", PutMode::Update(made)).await.map_err(failed)?.is_some() {
            return Err(lies(
                "it lets an object be changed that has changed (If-Match is ignored)",
            ));
        }
        // All races are under way together, as far as the limit of requests lets them.
        let race = |name| (0..RACERS).map(move |_| self.put(name, "mine", PutMode::Create).boxed());
        let racing: Vec<BoxFuture<'_, _>> = raced.iter().flat_map(race).collect();
        let outcomes = futures::stream::iter(racing).buffered(RACERS * RACES);
        let outcomes: Vec<_> = outcomes.try_collect().await.map_err(failed)?;
        for outcomes in outcomes.chunks(RACERS) {
            let winners = outcomes.iter().flatten().count();
            // None can mean a lost answer, which is no lie.
            if winners > 1 {
                let what = format!("{winners} of {RACERS} writers at once got the same name");
                return Err(lies(&what));
            }
        }
        Ok(())
    }

    /// Writes if the condition holds; none if it does not.
    async fn put(
        &self,
        name: &Path,
        bytes: &'static str,
        mode: PutMode,
    ) -> Result<Option<UpdateVersion>, object_store::Error> {
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.store.put_opts(name, Bytes::from(bytes).into(), options).await {
            Ok(made) => Ok(Some(made.into())),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. }
                | object_store::Error::NotFound { .. },
            ) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests;
