//! `wasi:blobstore` over the app's tables and the site's blobs. A container is a table with the
//! columns `key` (utf8, its key), `blob` (utf8), `size` and `created` (int64; bytes, and seconds
//! since 1970). A row is an object; its bytes lie in blobs of [`PART_BYTES`], whose keys `blob`
//! names one after the other. So an object appears whole or not at all, bytes are written and read
//! a part at a time, and whoever reads an object keeps its bytes when another takes its place.
//! Blobs that are written here are of one object each, and go with it (`change`).

mod change;
mod incoming;
mod outgoing;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{
    ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use self::incoming::Reader;
use self::outgoing::{Body, Upload};
use super::guest::Guest;
use crate::execute::{HostError, Row, Scan};

/// Bytes of one part of an object; the last has what is left.
const PART_BYTES: usize = 1 << 20;
/// Longest object: that of a blob.
const OBJECT_BYTES_MAX: u64 = store::BLOB_BYTES_MAX;
/// Bodies that one instance may have open, each with a part or two in memory.
pub(super) const BODIES_MAX: usize = 16;
/// Names of one answer to `read-stream-object-names`.
const NAMES_MAX: u64 = 256;
/// Objects of one call of `delete-objects`, and names that one value is written under.
const BATCH_MAX: usize = 1_000;

/// A table in a guest's hands.
pub(super) struct Container {
    table: String,
}

/// The names of a container's objects, as far as they were told.
pub(super) struct Names {
    table: String,
    after: Option<String>,
}

/// Bytes on their way out, and where they go when they are all there.
#[derive(Default)]
pub(super) struct OutgoingValue {
    upload: Option<Arc<tokio::sync::Mutex<Upload>>>,
    /// Tables and names.
    to: Vec<(String, String)>,
}

/// An object, or a part of one, that was not read yet.
pub(super) struct IncomingValue(Reader);

/// What a row says of an object.
#[derive(Clone)]
struct Object {
    /// Keys of its blobs.
    parts: Vec<String>,
    size: u64,
    created: u64,
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct ContainerMetadata {
    name: String,
    #[component(name = "created-at")]
    created_at: u64,
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct ObjectMetadata {
    name: String,
    container: String,
    #[component(name = "created-at")]
    created_at: u64,
    size: u64,
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct ObjectId {
    container: String,
    object: String,
}

/// A trap of the host's making on the outside, the guest's own error inside: a text.
type Answer<T> = wasmtime::Result<Result<T, String>>;

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let name = |interface: &str| format!("wasi:blobstore/{interface}@0.2.0-draft");
    values(&mut linker.instance(&name("types"))?)?;
    container(&mut linker.instance(&name("container"))?)?;
    names(&mut linker.instance(&name("container"))?)?;
    blobstore(&mut linker.instance(&name("blobstore"))?)
}

fn values(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Out = (Resource<OutgoingValue>,);
    type In = (Resource<IncomingValue>,);
    instance.resource("outgoing-value", ResourceType::host::<OutgoingValue>(), |mut s, rep| {
        // Without `finish` nothing becomes of it.
        s.data_mut().table.delete(Resource::<OutgoingValue>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("[static]outgoing-value.new-outgoing-value", |mut store, (): ()| {
        Ok((store.data_mut().table.push(OutgoingValue::default())?,))
    })?;
    instance.func_wrap(
        "[method]outgoing-value.outgoing-value-write-body",
        |mut store, (value,): Out| Ok((store.data_mut().bs_body(&value)?,)),
    )?;
    instance.func_wrap_async("[static]outgoing-value.finish", |mut store, (value,): Out| {
        Box::new(async move { Ok((store.data_mut().bs_finish(value).await?,)) })
    })?;
    instance.resource("incoming-value", ResourceType::host::<IncomingValue>(), |mut s, rep| {
        s.data_mut().table.delete(Resource::<IncomingValue>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap_async(
        "[static]incoming-value.incoming-value-consume-sync",
        |mut store, (value,): In| {
            Box::new(async move { Ok((store.data_mut().bs_whole(value).await?,)) })
        },
    )?;
    instance.func_wrap(
        "[static]incoming-value.incoming-value-consume-async",
        |mut store, (value,): In| Ok((store.data_mut().bs_stream(value)?,)),
    )?;
    instance.func_wrap("[method]incoming-value.size", |store, (value,): In| {
        Ok((store.data().table.get(&value)?.0.len(),))
    })
}

fn container(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    type Of = (Resource<Container>,);
    type Named = (Resource<Container>, String);
    instance.resource("container", ResourceType::host::<Container>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Container>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("[method]container.name", |store, (container,): Of| {
        Ok((Ok::<_, String>(store.data().bs_table(&container)?),))
    })?;
    // Tables do not say since when they are there.
    instance.func_wrap("[method]container.info", |store, (container,): Of| {
        let name = store.data().bs_table(&container)?;
        Ok((Ok::<_, String>(ContainerMetadata { name, created_at: 0 }),))
    })?;
    instance.func_wrap_async(
        "[method]container.get-data",
        |mut store, (container, name, start, end): (Resource<Container>, String, u64, u64)| {
            Box::new(
                async move { Ok((store.data_mut().bs_get(&container, &name, start, end).await?,)) },
            )
        },
    )?;
    instance.func_wrap(
        "[method]container.write-data",
        |mut store, (container, name, value): (Resource<Container>, String, Resource<_>)| {
            Ok((store.data_mut().bs_write(&container, name, &value)?,))
        },
    )?;
    instance.func_wrap_async(
        "[method]container.delete-object",
        |mut store, (container, name): Named| {
            let names = vec![name];
            Box::new(async move { Ok((store.data_mut().bs_delete(&container, names).await?,)) })
        },
    )?;
    instance.func_wrap_async(
        "[method]container.delete-objects",
        |mut store, (container, names): (Resource<Container>, Vec<String>)| {
            Box::new(async move { Ok((store.data_mut().bs_delete(&container, names).await?,)) })
        },
    )?;
    instance.func_wrap_async(
        "[method]container.has-object",
        |mut store, (container, name): Named| {
            Box::new(async move {
                let found = store.data_mut().bs_find(&container, &name).await?;
                Ok((found.map(|object| object.is_some()),))
            })
        },
    )?;
    instance.func_wrap_async(
        "[method]container.object-info",
        |mut store, (container, name): Named| {
            Box::new(async move { Ok((store.data_mut().bs_info(&container, name).await?,)) })
        },
    )?;
    instance.func_wrap_async("[method]container.clear", |mut store, (container,): Of| {
        Box::new(async move { Ok((store.data_mut().bs_clear(&container).await?,)) })
    })
}

fn names(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    instance.resource("stream-object-names", ResourceType::host::<Names>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Names>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap(
        "[method]container.list-objects",
        |mut store, (container,): (Resource<Container>,)| {
            let table = store.data().bs_table(&container)?;
            let names = store.data_mut().table.push(Names { table, after: None })?;
            Ok((Ok::<_, String>(names),))
        },
    )?;
    instance.func_wrap_async(
        "[method]stream-object-names.read-stream-object-names",
        |mut store, (names, len): (Resource<Names>, u64)| {
            Box::new(async move { Ok((store.data_mut().bs_names(&names, len).await?,)) })
        },
    )?;
    instance.func_wrap_async(
        "[method]stream-object-names.skip-stream-object-names",
        |mut store, (names, count): (Resource<Names>, u64)| {
            Box::new(async move { Ok((store.data_mut().bs_skip(&names, count).await?,)) })
        },
    )
}

fn blobstore(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    for name in ["create-container", "get-container"] {
        instance.func_wrap_async(name, |mut store, (name,): (String,)| {
            Box::new(async move { Ok((store.data_mut().bs_open(name).await?,)) })
        })?;
    }
    instance.func_wrap_async("delete-container", |mut store, (name,): (String,)| {
        Box::new(async move {
            let opened = store.data_mut().bs_check(&name).await;
            let kept = || format!("container \"{name}\" is a table of the manifest, and stays");
            Ok((opened.and_then(|()| Err::<(), _>(kept())),))
        })
    })?;
    instance.func_wrap_async("container-exists", |mut store, (name,): (String,)| {
        Box::new(
            async move { Ok((Ok::<_, String>(store.data_mut().bs_check(&name).await.is_ok()),)) },
        )
    })?;
    instance.func_wrap_async("copy-object", |mut store, (from, to): (ObjectId, ObjectId)| {
        Box::new(async move { Ok((store.data_mut().bs_copy(&from, to).await,)) })
    })?;
    instance.func_wrap_async("move-object", |mut store, (from, to): (ObjectId, ObjectId)| {
        Box::new(async move {
            let is_same = from.container == to.container && from.object == to.object;
            let copied = store.data_mut().bs_copy(&from, to).await;
            let guest = store.data_mut();
            Ok((match copied {
                Ok(()) if !is_same => {
                    let removed = guest.bs_remove(&from.container, &[from.object]).await;
                    removed.map_err(text)
                }
                other => other,
            },))
        })
    })
}

fn key_row(key: &str) -> Row {
    Row::from_iter([("key".to_owned(), json!(key))])
}

fn name_of(row: &Row) -> String {
    row.get("key").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn text(error: HostError) -> String {
    error.to_string()
}

impl Object {
    /// Of a row of `table`; says what is wrong with it.
    fn of(table: &str, row: &Row) -> Result<Self, String> {
        let key = row.get("key").and_then(Value::as_str).unwrap_or_default();
        let number =
            |name: &str| row.get(name).and_then(Value::as_i64).and_then(|n| u64::try_from(n).ok());
        let blobs = row.get("blob").and_then(Value::as_str);
        let (Some(blobs), Some(size)) = (blobs, number("size")) else {
            return Err(format!(
                "object \"{key}\": table \"{table}\" wants the columns \"blob\" (utf8) and \
                 \"size\" (int64)"
            ));
        };
        let parts: Vec<String> = blobs.split_whitespace().map(str::to_owned).collect();
        // One blob may hold all of an object: a row that the app wrote itself.
        let wanted = size.div_ceil(PART_BYTES as u64);
        if parts.len() as u64 != wanted && parts.len() != 1 {
            let found = parts.len();
            return Err(format!("object \"{key}\": {found} blobs for its {size} bytes"));
        }
        Ok(Self { parts, size, created: number("created").unwrap_or(0) })
    }

    fn row(&self, key: &str) -> Row {
        let mut row = key_row(key);
        row.insert("blob".to_owned(), json!(self.parts.join(" ")));
        row.insert("size".to_owned(), json!(self.size));
        row.insert("created".to_owned(), json!(self.created));
        row
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Guest {
    fn bs_table(&self, container: &Resource<Container>) -> wasmtime::Result<String> {
        Ok(self.table.get(container)?.table.clone())
    }

    /// Whether there is such a container.
    async fn bs_check(&mut self, name: &str) -> Result<(), String> {
        let found = self.host.store_get(&self.caller, name, key_row("")).await;
        found.map(drop).map_err(|error| format!("container \"{name}\": {error}"))
    }

    /// A container is there from when its app is deployed: made and opened are the same.
    async fn bs_open(&mut self, name: String) -> Answer<Resource<Container>> {
        match self.bs_check(&name).await {
            Ok(()) => Ok(Ok(self.table.push(Container { table: name })?)),
            Err(problem) => Ok(Err(problem)),
        }
    }

    async fn bs_object(&mut self, table: &str, name: &str) -> Result<Option<Object>, String> {
        let row = self.host.store_get(&self.caller, table, key_row(name)).await;
        row.map_err(text)?.map(|row| Object::of(table, &row)).transpose()
    }

    async fn bs_find(
        &mut self,
        container: &Resource<Container>,
        name: &str,
    ) -> Answer<Option<Object>> {
        let table = self.bs_table(container)?;
        Ok(self.bs_object(&table, name).await)
    }

    async fn bs_must(&mut self, table: &str, name: &str) -> Result<Object, String> {
        let found = self.bs_object(table, name).await?;
        found.ok_or_else(|| format!("container \"{table}\" has no object \"{name}\""))
    }

    async fn bs_info(
        &mut self,
        container: &Resource<Container>,
        name: String,
    ) -> Answer<ObjectMetadata> {
        let container = self.bs_table(container)?;
        Ok(self.bs_must(&container, &name).await.map(|object| {
            let Object { created: created_at, size, .. } = object;
            ObjectMetadata { name, container, created_at, size }
        }))
    }

    /// Bytes `start` to `end`, both included, as far as there are any.
    async fn bs_get(
        &mut self,
        container: &Resource<Container>,
        name: &str,
        start: u64,
        end: u64,
    ) -> Answer<Resource<IncomingValue>> {
        if start > end {
            return Ok(Err(format!("object \"{name}\": bytes {start} to {end} are none")));
        }
        let table = self.bs_table(container)?;
        match self.bs_must(&table, name).await {
            Ok(object) => {
                let (host, caller) = (Arc::clone(&self.host), self.caller.clone());
                let reader = Reader::new(host, caller, object, start..end.saturating_add(1));
                Ok(Ok(self.table.push(IncomingValue(reader))?))
            }
            Err(problem) => Ok(Err(problem)),
        }
    }

    async fn bs_whole(&mut self, value: Resource<IncomingValue>) -> Answer<Vec<u8>> {
        let IncomingValue(reader) = self.table.delete(value)?;
        let limit_mb = self.caller.target.limits.memory_mb;
        if reader.len() > u64::from(limit_mb) << 20 {
            let len = reader.len();
            return Ok(Err(format!(
                "{len} bytes are more than the handler's {limit_mb} MiB of memory; read them as \
                 a stream, or by ranges"
            )));
        }
        Ok(reader.whole().await.map_err(text))
    }

    fn bs_stream(&mut self, value: Resource<IncomingValue>) -> Answer<Resource<DynInputStream>> {
        let IncomingValue(reader) = self.table.delete(value)?;
        let Some(place) = self.bs_place() else { return Ok(Err(too_many())) };
        let stream: DynInputStream = Box::new(reader.holding(place));
        Ok(Ok(self.table.push(stream)?))
    }

    fn bs_place(&mut self) -> Option<OwnedSemaphorePermit> {
        let places = self.bodies.get_or_insert_with(|| Arc::new(Semaphore::new(BODIES_MAX)));
        Arc::clone(places).try_acquire_owned().ok()
    }

    fn bs_body(
        &mut self,
        value: &Resource<OutgoingValue>,
    ) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
        let place = self.bs_place();
        let upload = place.map(|place| {
            let upload = Upload::new(Arc::clone(&self.host), self.caller.clone(), place);
            Arc::new(tokio::sync::Mutex::new(upload))
        });
        if upload.is_none() {
            self.log.write(crate::execute::Level::Warn, &too_many());
        }
        let value = self.table.get_mut(value)?;
        let (None, Some(upload)) = (&value.upload, upload) else { return Ok(Err(())) };
        let stream: DynOutputStream = Box::new(Body::new(&upload));
        value.upload = Some(upload);
        Ok(Ok(self.table.push(stream)?))
    }

    /// Notes where a value goes; it may be written before and after.
    fn bs_write(
        &mut self,
        container: &Resource<Container>,
        name: String,
        value: &Resource<OutgoingValue>,
    ) -> Answer<()> {
        let table = self.bs_table(container)?;
        let value = self.table.get_mut(value)?;
        if value.to.len() >= BATCH_MAX {
            return Ok(Err(format!("one value goes to {BATCH_MAX} objects at most")));
        }
        value.to.push((table, name));
        Ok(Ok(()))
    }

    /// Some rows after a name, and whether they are the last.
    async fn bs_page(
        &mut self,
        table: &str,
        after: Option<&str>,
        len: u64,
    ) -> Result<(Vec<Row>, bool), String> {
        let after = after.map(key_row).unwrap_or_default();
        let len = len.min(NAMES_MAX) as usize;
        let scan = Scan { after, limit: Some(len as u32 + 1), ..Scan::default() };
        let mut rows = self.host.store_scan(&self.caller, table, scan).await.map_err(text)?;
        let is_end = rows.len() <= len;
        rows.truncate(len);
        Ok((rows, is_end))
    }

    async fn bs_names(&mut self, names: &Resource<Names>, len: u64) -> Answer<(Vec<String>, bool)> {
        let Names { table, after } = self.table.get(names)?;
        let (table, after) = (table.clone(), after.clone());
        let page = self.bs_page(&table, after.as_deref(), len).await;
        let page = page.map(|(rows, is_end)| (rows.iter().map(name_of).collect(), is_end));
        let page: Result<(Vec<String>, bool), String> = page;
        if let Ok((told, _)) = &page
            && let Some(last) = told.last()
        {
            self.table.get_mut(names)?.after = Some(last.clone());
        }
        Ok(page)
    }

    async fn bs_skip(&mut self, names: &Resource<Names>, count: u64) -> Answer<(u64, bool)> {
        let mut skipped = 0;
        loop {
            let (told, is_end) = match self.bs_names(names, count - skipped).await? {
                Ok(page) => page,
                Err(problem) => return Ok(Err(problem)),
            };
            skipped += told.len() as u64;
            if is_end || skipped == count {
                return Ok(Ok((skipped, is_end)));
            }
        }
    }
}

fn too_many() -> String {
    format!("{BODIES_MAX} bodies of objects are open; finish one, or drop it")
}
