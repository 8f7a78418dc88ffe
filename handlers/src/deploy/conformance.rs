//! What every [`Above`] must do, as one suite that each implementation runs in its tests.
//!
//! The tier above knows one app. The suite panics at the first difference, naming it.

use super::{Above, Registered};
use crate::Digest;
use crate::execute::Machine;

/// Runs the whole suite against a tier above that knows `app` and no other.
pub async fn check(above: &dyn Above, app: &Registered) {
    for _ in 0..2 {
        let found = above.app(&app.name).await;
        let found = found.unwrap_or_else(|e| panic!("the app {:?}: {e}", app.name));
        assert_eq!(found.as_ref(), Some(app), "the app comes as it was registered");
    }
    for name in ["nobody-knows", "", "a b", ">"] {
        let found = above.app(name).await;
        assert!(matches!(found, Ok(None)), "{name:?}: {found:?}");
    }
    let compiled = above.compiled(&Digest::of(b"code that nobody has"), Machine::Aarch64).await;
    assert!(matches!(compiled, Ok(None)), "{compiled:?}");
    above.moved_on(app.revision).await;
}
