//! Devices that are lost and come back: a line of the log, and an event for whoever listens on
//! `tel.<site>._.device`.

use std::sync::Arc;

use accel::DeviceChange;
use bus::Headers;
use tokio::sync::broadcast::error::RecvError;

use super::Node;

/// Tells every change as long as the node runs.
pub async fn tell(node: Arc<Node>) {
    let subject = format!("tel.{}._.device", node.bus.site());
    let mut changes = node.accelerate.changes();
    loop {
        let change = match changes.recv().await {
            Ok(change) => change,
            // Of many at once the last ones count.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let DeviceChange { device, lost } = &change;
        match lost {
            Some(why) => node.logs.add("warn", "devices", &format!("{device} is set aside: {why}")),
            None => node.logs.add("info", "devices", &format!("{device} works again")),
        }
        let Ok(body) = serde_json::to_vec(&change) else { continue };
        // Nobody may be listening, or the server may be away: the log has it.
        let _ = node.bus.publish(&subject, &Headers::new(), body).await;
    }
}
