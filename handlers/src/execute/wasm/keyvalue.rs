//! `wasi:keyvalue` over the app's tables. A bucket is a table with the columns `key` (utf8, its
//! key) and `value` (binary); a bucket that counts has `count` (int64, a counter) too, of which
//! `get` gives the decimal text as long as the key has no value. The bucket without a name is the
//! table `default`.
//!
//! Both drafts are served: they differ in cursors, in the sign of counts, and in compare-and-swap,
//! which is decided at the owner of the table.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use wasmtime::component::{
    ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
};

use super::guest::Guest;
use crate::execute::{HostError, Row, Scan};

/// The bucket that is opened without a name.
const USUAL: &str = "default";
/// Keys of one answer to `list-keys`.
const KEYS_MAX: u32 = 1_000;
/// Keys of one call of `wasi:keyvalue/batch`.
const BATCH_MAX: usize = 1_000;

/// A table in a guest's hands.
pub(super) struct Bucket {
    table: String,
}

/// What a guest saw under a key, and wants to replace.
pub(super) struct Cas {
    table: String,
    key: String,
    seen: Option<Vec<u8>>,
}

#[derive(ComponentType, Lower, Lift, Debug)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

#[derive(ComponentType, Lower, Lift)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    Store(Error),
    #[component(name = "cas-failed")]
    Failed(Resource<Cas>),
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct Keys {
    keys: Vec<String>,
    cursor: Option<String>,
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct NumberedKeys {
    keys: Vec<String>,
    cursor: Option<u64>,
}

/// A trap of the host's making on the outside, the guest's own error inside.
type Answer<T> = wasmtime::Result<Result<T, Error>>;
type Pair = (String, Vec<u8>);

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        match error {
            HostError::NotFound(_) => Self::NoSuchStore,
            HostError::Denied(_) => Self::AccessDenied,
            HostError::Invalid(text)
            | HostError::Unavailable(text)
            | HostError::TooMuch(text)
            | HostError::Failed(text) => Self::Other(text),
        }
    }
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for version in ["0.2.0-draft", "0.2.0-draft2"] {
        let name = |interface: &str| format!("wasi:keyvalue/{interface}@{version}");
        let is_second = version.ends_with('2');
        store(&mut linker.instance(&name("store"))?, is_second)?;
        atomics(&mut linker.instance(&name("atomics"))?, is_second)?;
        batch(&mut linker.instance(&name("batch"))?)?;
    }
    Ok(())
}

fn store(instance: &mut LinkerInstance<'_, Guest>, is_second: bool) -> wasmtime::Result<()> {
    instance.resource("bucket", ResourceType::host::<Bucket>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Bucket>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap_async("open", |mut store, (name,): (String,)| {
        Box::new(async move { Ok((store.data_mut().kv_open(name).await?,)) })
    })?;
    instance.func_wrap_async(
        "[method]bucket.get",
        |mut store, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move { Ok((store.data_mut().kv_get(&bucket, &key).await?,)) })
        },
    )?;
    instance.func_wrap_async(
        "[method]bucket.set",
        |mut store, (bucket, key, value): (Resource<Bucket>, String, Vec<u8>)| {
            let pairs = vec![(key, value)];
            Box::new(async move { Ok((store.data_mut().kv_set(&bucket, pairs).await?,)) })
        },
    )?;
    instance.func_wrap_async(
        "[method]bucket.delete",
        |mut store, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move { Ok((store.data_mut().kv_delete(&bucket, vec![key]).await?,)) })
        },
    )?;
    instance.func_wrap_async(
        "[method]bucket.exists",
        |mut store, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let found = store.data_mut().kv_get(&bucket, &key).await?;
                Ok((found.map(|value| value.is_some()),))
            })
        },
    )?;
    if is_second {
        return instance.func_wrap_async(
            "[method]bucket.list-keys",
            |mut store, (bucket, cursor): (Resource<Bucket>, Option<String>)| {
                Box::new(async move { Ok((store.data_mut().kv_keys(&bucket, cursor).await?,)) })
            },
        );
    }
    instance.func_wrap_async(
        "[method]bucket.list-keys",
        |mut store, (bucket, cursor): (Resource<Bucket>, Option<u64>)| {
            Box::new(async move { Ok((store.data_mut().kv_keys_from(&bucket, cursor).await?,)) })
        },
    )
}

fn atomics(instance: &mut LinkerInstance<'_, Guest>, is_second: bool) -> wasmtime::Result<()> {
    if !is_second {
        return instance.func_wrap_async(
            "increment",
            |mut store, (bucket, key, delta): (Resource<Bucket>, String, u64)| {
                Box::new(async move {
                    let Ok(delta) = i64::try_from(delta) else {
                        return Ok((Err(Error::Other(format!("{delta} is too much"))),));
                    };
                    let count = store.data_mut().kv_increment(&bucket, key, delta).await?;
                    Ok((count.map(|count| count.max(0).unsigned_abs()),))
                })
            },
        );
    }
    instance.func_wrap_async(
        "increment",
        |mut store, (bucket, key, delta): (Resource<Bucket>, String, i64)| {
            Box::new(
                async move { Ok((store.data_mut().kv_increment(&bucket, key, delta).await?,)) },
            )
        },
    )?;
    instance.resource("cas", ResourceType::host::<Cas>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Cas>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap_async(
        "[static]cas.new",
        |mut store, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move { Ok((store.data_mut().kv_cas(&bucket, key).await?,)) })
        },
    )?;
    instance.func_wrap_async("[method]cas.current", |mut store, (cas,): (Resource<Cas>,)| {
        Box::new(async move {
            let seen = store.data_mut().table.get(&cas)?.seen.clone();
            Ok((Ok::<_, Error>(seen),))
        })
    })?;
    instance.func_wrap_async("swap", |mut store, (cas, value): (Resource<Cas>, Vec<u8>)| {
        Box::new(async move { Ok((store.data_mut().kv_swap(cas, value).await?,)) })
    })
}

fn batch(instance: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    instance.func_wrap_async(
        "get-many",
        |mut store, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move { Ok((store.data_mut().kv_get_many(&bucket, keys).await?,)) })
        },
    )?;
    instance.func_wrap_async(
        "set-many",
        |mut store, (bucket, pairs): (Resource<Bucket>, Vec<Pair>)| {
            Box::new(async move { Ok((store.data_mut().kv_set(&bucket, pairs).await?,)) })
        },
    )?;
    instance.func_wrap_async(
        "delete-many",
        |mut store, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move { Ok((store.data_mut().kv_delete(&bucket, keys).await?,)) })
        },
    )
}

fn key_row(key: &str) -> Row {
    Row::from_iter([("key".to_owned(), json!(key))])
}

fn value_row(value: &[u8]) -> Row {
    Row::from_iter([("value".to_owned(), json!(BASE64.encode(value)))])
}

fn whole_row(key: &str, value: &[u8]) -> Row {
    key_row(key).into_iter().chain(value_row(value)).collect()
}

fn key_of(row: &Row) -> Option<String> {
    row.get("key").and_then(Value::as_str).map(str::to_owned)
}

fn value_of(row: &Row) -> Result<Option<Vec<u8>>, HostError> {
    match (row.get("value"), row.get("count").and_then(Value::as_i64)) {
        (Some(Value::String(text)), _) => {
            let bytes = BASE64.decode(text);
            let bad = |e| HostError::Invalid(format!("column \"value\" is not binary: {e}"));
            bytes.map(Some).map_err(bad)
        }
        (_, Some(count)) => Ok(Some(count.to_string().into_bytes())),
        _ => Ok(None),
    }
}

fn check_batch(len: usize) -> Result<(), Error> {
    match len {
        0..=BATCH_MAX => Ok(()),
        _ => Err(Error::Other(format!("{len} keys at once; at most {BATCH_MAX} go"))),
    }
}

impl Guest {
    fn kv_table(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<String> {
        Ok(self.table.get(bucket)?.table.clone())
    }

    async fn kv_open(&mut self, name: String) -> Answer<Resource<Bucket>> {
        let table = if name.is_empty() { USUAL.to_owned() } else { name };
        // A table that is not there, or is no bucket, is told at once.
        match self.host.store_get(&self.caller, &table, key_row("")).await {
            Ok(_) => Ok(Ok(self.table.push(Bucket { table })?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn kv_read(&mut self, table: &str, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        match self.host.store_get(&self.caller, table, key_row(key)).await? {
            Some(row) => value_of(&row),
            None => Ok(None),
        }
    }

    async fn kv_get(&mut self, bucket: &Resource<Bucket>, key: &str) -> Answer<Option<Vec<u8>>> {
        let table = self.kv_table(bucket)?;
        Ok(self.kv_read(&table, key).await.map_err(Error::from))
    }

    async fn kv_get_many(
        &mut self,
        bucket: &Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<Pair>>> {
        let table = self.kv_table(bucket)?;
        if let Err(error) = check_batch(keys.len()) {
            return Ok(Err(error));
        }
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            match self.kv_read(&table, &key).await {
                Ok(value) => found.push(value.map(|value| (key, value))),
                Err(error) => return Ok(Err(error.into())),
            }
        }
        Ok(Ok(found))
    }

    async fn kv_set(&mut self, bucket: &Resource<Bucket>, pairs: Vec<Pair>) -> Answer<()> {
        let table = self.kv_table(bucket)?;
        if let Err(error) = check_batch(pairs.len()) {
            return Ok(Err(error));
        }
        let rows = pairs.iter().map(|(key, value)| whole_row(key, value)).collect();
        Ok(self.host.store_put(&self.caller, &table, rows).await.map_err(Error::from))
    }

    async fn kv_delete(&mut self, bucket: &Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let table = self.kv_table(bucket)?;
        if let Err(error) = check_batch(keys.len()) {
            return Ok(Err(error));
        }
        let keys = keys.iter().map(|key| key_row(key)).collect();
        Ok(self.host.store_delete(&self.caller, &table, keys).await.map_err(Error::from))
    }

    async fn kv_scan(
        &mut self,
        bucket: &Resource<Bucket>,
        after: Row,
        limit: u32,
    ) -> Answer<Vec<String>> {
        let table = self.kv_table(bucket)?;
        let scan = Scan { after, limit: Some(limit), ..Scan::default() };
        let rows = self.host.store_scan(&self.caller, &table, scan).await;
        Ok(rows.map(|rows| rows.iter().filter_map(key_of).collect()).map_err(Error::from))
    }

    async fn kv_keys(&mut self, bucket: &Resource<Bucket>, cursor: Option<String>) -> Answer<Keys> {
        let after = cursor.as_deref().map(key_row).unwrap_or_default();
        let keys = self.kv_scan(bucket, after, KEYS_MAX).await?;
        Ok(keys.map(|keys| {
            let cursor = keys.last().filter(|_| keys.len() == KEYS_MAX as usize).cloned();
            Keys { keys, cursor }
        }))
    }

    /// The first draft's cursor is a number: how many keys were told before.
    async fn kv_keys_from(
        &mut self,
        bucket: &Resource<Bucket>,
        cursor: Option<u64>,
    ) -> Answer<NumberedKeys> {
        let told = cursor.and_then(|told| u32::try_from(told).ok()).unwrap_or(0);
        let limit = told.saturating_add(KEYS_MAX);
        let keys = self.kv_scan(bucket, Row::new(), limit).await?;
        Ok(keys.map(|keys| {
            let cursor = (keys.len() == limit as usize).then_some(u64::from(limit));
            NumberedKeys { keys: keys.into_iter().skip(told as usize).collect(), cursor }
        }))
    }

    async fn kv_increment(
        &mut self,
        bucket: &Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> Answer<i64> {
        let table = self.kv_table(bucket)?;
        let counted = async {
            let deltas = Row::from_iter([("count".to_owned(), json!(delta))]);
            let (host, caller) = (&self.host, &self.caller);
            host.store_increment(caller, &table, key_row(&key), deltas).await?;
            let row = host.store_get(caller, &table, key_row(&key)).await?;
            Ok(row.and_then(|row| row.get("count").and_then(Value::as_i64)).unwrap_or(delta))
        };
        Ok(counted.await.map_err(|error: HostError| error.into()))
    }

    async fn kv_cas(&mut self, bucket: &Resource<Bucket>, key: String) -> Answer<Resource<Cas>> {
        let table = self.kv_table(bucket)?;
        match self.kv_read(&table, &key).await {
            Ok(seen) => Ok(Ok(self.table.push(Cas { table, key, seen })?)),
            Err(error) => Ok(Err(error.into())),
        }
    }

    async fn kv_swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let Cas { table, key, seen } = self.table.delete(cas)?;
        let expected = seen.as_deref().map(value_row);
        let row = whole_row(&key, &value);
        let (host, caller) = (&self.host, &self.caller);
        match host.store_put_if(caller, &table, key_row(&key), expected, row).await {
            Ok(true) => Ok(Ok(())),
            Err(error) => Ok(Err(CasError::Store(error.into()))),
            Ok(false) => match self.kv_read(&table, &key).await {
                Ok(seen) => {
                    let cas = self.table.push(Cas { table, key, seen })?;
                    Ok(Err(CasError::Failed(cas)))
                }
                Err(error) => Ok(Err(CasError::Store(error.into()))),
            },
        }
    }
}
