//! Objects that come, go and take the place of others, and what becomes of their bytes. A part is a
//! private blob of the app, and of one object alone: copies have parts of their own. So whoever
//! removes an object's row lets its parts go, and asks nobody.
//!
//! Parts are let go after the row, and a row that changes meanwhile keeps its bytes: those of the
//! one before may then stay, which costs room and no object.

use wasmtime::component::Resource;

use super::{
    Answer, BATCH_MAX, Container, Guest, HostError, NAMES_MAX, Object, ObjectId, OutgoingValue,
    key_row, name_of, now, text,
};
use crate::execute::Level;

/// Parts that are let go at once.
const PARTS_MAX: usize = 4_096;

impl Guest {
    pub(super) async fn bs_finish(&mut self, value: Resource<OutgoingValue>) -> Answer<()> {
        let OutgoingValue { upload, mut to } = self.table.delete(value)?;
        to.sort();
        to.dedup();
        let done = async {
            let (parts, size) = match upload {
                Some(upload) => upload.lock().await.finish().await?,
                None => (Vec::new(), 0),
            };
            let object = Object { parts, size, created: now() };
            for (table, name) in to.iter().skip(1) {
                let twin = self.bs_twin(&object).await?;
                self.bs_put(table, name, &twin).await?;
            }
            match to.first() {
                Some((table, name)) => self.bs_put(table, name, &object).await,
                None => {
                    self.bs_let_go(object.parts).await;
                    Ok(())
                }
            }
        };
        Ok(done.await.map_err(text))
    }

    /// Puts an object in the place of the one of that name.
    async fn bs_put(&mut self, table: &str, name: &str, object: &Object) -> Result<(), HostError> {
        let before = self.bs_object(table, name).await;
        self.host.store_put(&self.caller, table, vec![object.row(name)]).await?;
        // Where it cannot be read its bytes stay.
        if let Ok(Some(mut before)) = before {
            before.parts.retain(|part| !object.parts.contains(part));
            self.bs_let_go(before.parts).await;
        }
        Ok(())
    }

    pub(super) async fn bs_delete(
        &mut self,
        container: &Resource<Container>,
        names: Vec<String>,
    ) -> Answer<()> {
        let table = self.bs_table(container)?;
        if names.len() > BATCH_MAX {
            return Ok(Err(format!("{} objects at once; at most {BATCH_MAX} go", names.len())));
        }
        Ok(self.bs_remove(&table, &names).await.map_err(text))
    }

    pub(super) async fn bs_remove(
        &mut self,
        table: &str,
        names: &[String],
    ) -> Result<(), HostError> {
        let mut parts = Vec::new();
        for name in names {
            if let Ok(Some(object)) = self.bs_object(table, name).await {
                parts.extend(object.parts);
            }
        }
        let keys = names.iter().map(|name| key_row(name)).collect();
        self.host.store_delete(&self.caller, table, keys).await?;
        self.bs_let_go(parts).await;
        Ok(())
    }

    pub(super) async fn bs_clear(&mut self, container: &Resource<Container>) -> Answer<()> {
        let table = self.bs_table(container)?;
        loop {
            let (rows, is_end) = match self.bs_page(&table, None, NAMES_MAX).await {
                Ok(page) => page,
                Err(problem) => return Ok(Err(problem)),
            };
            let objects = rows.iter().filter_map(|row| Object::of(&table, row).ok());
            let parts = objects.flat_map(|object| object.parts).collect();
            let keys = rows.iter().map(|row| key_row(&name_of(row))).collect();
            if let Err(error) = self.host.store_delete(&self.caller, &table, keys).await {
                return Ok(Err(text(error)));
            }
            self.bs_let_go(parts).await;
            if is_end {
                return Ok(Ok(()));
            }
        }
    }

    pub(super) async fn bs_copy(&mut self, from: &ObjectId, to: ObjectId) -> Result<(), String> {
        let object = self.bs_must(&from.container, &from.object).await?;
        let copied = async {
            let twin = Object { created: now(), ..self.bs_twin(&object).await? };
            self.bs_put(&to.container, &to.object, &twin).await
        };
        copied.await.map_err(text)
    }

    /// The same object with parts of its own. Blobs that are not private are everybody's.
    async fn bs_twin(&mut self, object: &Object) -> Result<Object, HostError> {
        let mut twin = object.clone();
        for part in twin.parts.iter_mut().filter(|part| is_private(part)) {
            let bytes = self.host.get_blob(&self.caller, part).await?;
            let gone = || HostError::NotFound(format!("blob {part} of the object is gone"));
            let bytes = bytes.ok_or_else(gone)?;
            *part = self.host.put_private_blob(&self.caller, bytes).await?;
        }
        Ok(twin)
    }

    /// The bytes of what is no object any more; its row is gone already, so this does not fail.
    async fn bs_let_go(&mut self, mut parts: Vec<String>) {
        parts.retain(|part| is_private(part));
        for parts in parts.chunks(PARTS_MAX) {
            if let Err(error) = self.host.let_go(&self.caller, parts.to_vec()).await {
                let text = format!("bytes of an object that is gone stay: {error}");
                self.log.write(Level::Warn, &text);
            }
        }
    }
}

/// True if a part was written here: of one object, and of one app.
fn is_private(part: &str) -> bool {
    part.parse::<store::BlobKey>().is_ok_and(|key| key.owner().is_some())
}
