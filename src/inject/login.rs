//! What a parent proxy is shown: the way out asks for it by the secret's id, and never sees the store.

use crate::net::parent::{Login, Logins, NoLogin};
use crate::store::Store;

/// Gives logins out of `store`, as they are when asked for.
pub fn logins(store: &Store) -> Logins {
    let store = store.clone();
    Logins::new(move |id| {
        let store = store.clone();
        Box::pin(async move {
            let held = store.get(id).await;
            let held = held.map_err(|e| NoLogin::Unavailable(Box::new(e)))?;
            held.secret.expose(Login::new)
        })
    })
}
