//! Keys of the kernel's keyrings (keyutils), as `keyctl` and other programs put them there.

use super::super::error::Cause;
use super::Whole;
use crate::base::secret::Secret;
use linux_keyutils::{KeyError, KeyRing, KeyRingIdentifier};

/// Reads a key by its description, in the session's keyring and those that it leads to.
pub(super) async fn read(description: &str) -> Result<Whole, Cause> {
    let at = format!("the kernel's keyring, under `{description}`,");
    let wanted = description.to_owned();
    let failed = |reason: String| Cause::Keyring {
        description: description.to_owned(),
        reason,
    };
    // The calls are short, but nothing of the kernel's is waited for where agents are served.
    let found = tokio::task::spawn_blocking(move || {
        let session = KeyRing::from_special_id(KeyRingIdentifier::Session, false)?;
        session.search(&wanted)?.read_to_vec()
    });
    let bytes = match found.await.map_err(|_| Cause::Stopping)? {
        Ok(bytes) => bytes,
        Err(KeyError::KeyDoesNotExist) => return Err(failed("there is no such key".to_owned())),
        Err(error) => return Err(failed(format!("{error:?}"))),
    };
    let secret = Secret::either(bytes).map_err(|why| failed(why.to_string()))?;
    Ok(Whole { secret, at })
}
