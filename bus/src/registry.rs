//! The root's registry as stock clients see it: key-value buckets `apps` and `apps-status`, and
//! the object bucket `code`.

use async_nats::jetstream::{self, kv, object_store};
use bytes::Bytes;
use futures::StreamExt;
use tokio::io::AsyncReadExt;

use crate::event::{replicas, rfc3339};
use crate::{Bus, Error};

/// The largest code object, in bytes.
pub const CODE_BYTES_MAX: usize = 256 << 20;
/// The largest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 256 << 10;

/// The buckets of one domain.
#[derive(Clone)]
pub struct Registry {
    apps: kv::Store,
    status: kv::Store,
    code: object_store::ObjectStore,
}

/// An entry of the `apps` bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub app: String,
    /// The manifest's text; `None` when the entry was deleted.
    pub manifest: Option<String>,
    pub revision: u64,
    /// When it was written, RFC 3339.
    pub time: String,
}

impl Entry {
    fn of(entry: kv::Entry) -> Self {
        let live = entry.operation == kv::Operation::Put;
        let text = || String::from_utf8_lossy(&entry.value).into_owned();
        let manifest = live.then(text);
        let time = rfc3339(entry.created);
        Self { app: entry.key, manifest, revision: entry.revision, time }
    }
}

impl Registry {
    /// Opens the buckets of the bus's own site, making what is missing.
    pub async fn open(bus: &Bus) -> Result<Self, Error> {
        let patience = bus.patience();
        loop {
            match Self::try_open(bus).await {
                Err(e) if patience.more(&e).await => {}
                done => return done,
            }
        }
    }

    async fn try_open(bus: &Bus) -> Result<Self, Error> {
        let js = jetstream::new(bus.nats().clone());
        let bucket = |name: &str, history, num_replicas| kv::Config {
            bucket: name.into(),
            history,
            max_value_size: MANIFEST_BYTES_MAX as i32,
            num_replicas,
            ..Default::default()
        };
        let copies = replicas(&js, "KV_apps", bus).await;
        let fail =
            |name: &str, e: &dyn std::fmt::Display| Error::local(format!("bucket {name}"), e);
        let apps = js.create_or_update_key_value(bucket("apps", 16, copies)).await;
        let status = js.create_or_update_key_value(bucket("apps-status", 1, copies)).await;
        let config = object_store::Config {
            bucket: "code".into(),
            num_replicas: bus.replicas(),
            ..Default::default()
        };
        let code = match js.get_object_store("code").await {
            Ok(code) => Ok(code),
            Err(_) => js.create_object_store(config).await,
        };
        Ok(Self {
            apps: apps.map_err(|e| fail("apps", &e))?,
            status: status.map_err(|e| fail("apps-status", &e))?,
            code: code.map_err(|e| fail("code", &e))?,
        })
    }

    /// Writes a manifest; returns its revision.
    pub async fn put_app(&self, app: &str, manifest: &str) -> Result<u64, Error> {
        let put = self.apps.put(app, manifest.to_owned().into()).await;
        put.map_err(|e| Error::local(format!("manifest of {app}"), e))
    }

    /// Removes a manifest.
    pub async fn delete_app(&self, app: &str) -> Result<(), Error> {
        let done = self.apps.delete(app).await;
        done.map_err(|e| Error::local(format!("manifest of {app}"), e))
    }

    /// Writes what became of a manifest, for those who wrote it to the bucket themselves.
    pub async fn put_status(&self, app: &str, status: String) -> Result<(), Error> {
        let put = self.status.put(app, status.into()).await;
        put.map(|_| ()).map_err(|e| Error::local(format!("status of {app}"), e))
    }

    /// Every entry as it is now, then every change, until the stream ends.
    pub async fn watch(&self) -> Result<impl futures::Stream<Item = Result<Entry, Error>>, Error> {
        let watch = self.apps.watch_with_history(">").await;
        let watch = watch.map_err(|e| Error::local("bucket apps", e))?;
        Ok(watch.map(|entry| Ok(Entry::of(entry.map_err(|e| Error::local("bucket apps", e))?))))
    }

    /// The last entries of an app, the oldest first; none where there never was one.
    pub async fn history(&self, app: &str) -> Result<Vec<Entry>, Error> {
        let fail = |e: &dyn std::fmt::Display| Error::local(format!("history of {app}"), e);
        let mut entries = self.apps.history(app).await.map_err(|e| fail(&e))?;
        let mut all = vec![];
        while let Some(entry) = entries.next().await {
            all.push(Entry::of(entry.map_err(|e| fail(&e))?));
        }
        Ok(all)
    }

    /// The bytes of a code object; `None` when there is none of that name.
    pub async fn code(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let fail = |e: &dyn std::fmt::Display| Error::local(format!("code object {name}"), e);
        let mut object = match self.code.get(name).await {
            Ok(object) => object,
            Err(e) if e.kind() == object_store::GetErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(&e)),
        };
        if object.info().size > CODE_BYTES_MAX {
            let size = object.info().size;
            return Err(fail(&format!("{size} bytes; the largest is {CODE_BYTES_MAX}")));
        }
        let mut bytes = Vec::with_capacity(object.info().size);
        object.read_to_end(&mut bytes).await.map_err(|e| fail(&e))?;
        Ok(Some(bytes.into()))
    }

    /// Stores a code object, as `nats obj put code FILE --name NAME` does.
    pub async fn put_code(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let mut reader = std::io::Cursor::new(bytes);
        let put = self.code.put(name, &mut reader).await;
        put.map(|_| ()).map_err(|e| Error::local(format!("code object {name}"), e))
    }
}
