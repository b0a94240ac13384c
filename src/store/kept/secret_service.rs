//! Items of the desktop's Secret Service (GNOME Keyring, KWallet), by the program that libsecret has for it.

use super::super::error::Cause;
use super::super::exec::{self, Around};
use super::super::source::Shape;
use super::Whole;
use crate::config::kept::SecretService;
use std::time::Duration;

/// As it is found in `PATH`.
const PROGRAM: &str = "secret-tool";

/// Reads one by its attributes.
pub(super) async fn read(spec: &SecretService, timeout: Duration) -> Result<Whole, Cause> {
    let argv = |verb: &str| {
        let pairs = spec.attributes.iter();
        let words = pairs.flat_map(|(name, value)| [name.clone(), value.clone()]);
        [PROGRAM.to_owned(), verb.to_owned()]
            .into_iter()
            .chain(words)
            .collect::<Vec<_>>()
    };
    let failed = |reason| Cause::SecretService {
        attributes: spec.to_string(),
        reason,
    };
    let secret = match exec::run(&argv("lookup"), timeout, &Shape::whole(), Around::Session).await {
        Ok(secret) => secret,
        Err(Cause::ExecStart { .. }) => return Err(failed("`secret-tool` is not there; install libsecret's tools")),
        // It says why in words alone; so what is there is asked for, as far as that needs no unlocking.
        Err(Cause::ExecFailed { .. }) => {
            let there = exec::answer(&argv("search"), timeout, None, Around::Session).await;
            return Err(failed(match there {
                Ok(found) if found.is_empty() => NONE,
                Ok(_) => "its keyring is locked; unlock it, as a login at the desktop does",
                Err(_) => {
                    "no Secret Service answers on the session's bus; start keyferry in the desktop's session, where \
                     `DBUS_SESSION_BUS_ADDRESS` says which that is"
                }
            }));
        }
        Err(cause) => return Err(cause),
    };
    let at = format!("the Secret Service under {spec}");
    Ok(Whole { secret, at })
}

const NONE: &str = "there is no such item; put it there with `secret-tool store --label=NAME ATTRIBUTE VALUE`";
