//! What the store must not lose though a client says so: the code of apps.

use std::sync::Arc;

use async_trait::async_trait;
use handlers::EdgeDeploy;
use store::BlobKeeper;
use tokio::sync::Mutex;

/// Keeps the code of a node's apps.
pub(super) struct Keeper {
    pub deploy: Arc<EdgeDeploy>,
    /// Held by whoever registers or removes an app.
    pub registering: Arc<Mutex<()>>,
}

#[async_trait]
impl BlobKeeper for Keeper {
    async fn let_go(&self, digest: &str) -> Result<Box<dyn Send>, String> {
        let permit = self.registering.clone().lock_owned().await;
        match self.deploy.needs(digest) {
            Some(who) => Err(who),
            None => Ok(Box::new(permit)),
        }
    }
}
