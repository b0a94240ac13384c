//! Secrets that stores of others keep: each by its real server where there is one, and all of them by one table of faults.

mod aws;
mod table;

use crate::rig::agent::get;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::{PATIENCE, eventually};

/// The rule by which the API gets the secret `key`.
pub const RULE: &str = "name: api, host: api.test, inject: [{ bearer: key }]";

/// What goes out to the API with one request; nothing when it is refused.
pub async fn given(proxy: &Proxy, api: &Origin) -> Option<String> {
    let mut http = proxy.agent.h2("api.test").await;
    let reply = http.reply(get("https://api.test/hello")).await;
    match reply.status.as_u16() {
        200 => {
            let shown = api.seen().pop().unwrap().all("authorization").remove(0);
            Some(shown.strip_prefix("Bearer ").unwrap().to_owned())
        }
        _ => {
            assert_eq!(reply.code(), "credential_unavailable");
            None
        }
    }
}

/// Asks until `value` goes out.
pub async fn until_given(proxy: &Proxy, api: &Origin, value: &str) {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let last = given(proxy, api).await;
        if last.as_deref() == Some(value) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "{last:?} is given, and not the newer one: {}",
            proxy.child.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The record of a request that is refused for want of its credential, and all else that was said meanwhile.
pub async fn refusal(proxy: &Proxy, api: &Origin) -> String {
    assert_eq!(given(proxy, api).await, None);
    let record = eventually("the record of the refusal", || {
        proxy.rig.audit().into_iter().rfind(|record| record["status"] == 502)
    });
    format!("{}{}", record.await, proxy.child.log())
}

/// Runs `keyferry secret check`, and returns how it ended and what it said.
pub fn tried(rig: &Rig) -> (Option<i32>, String) {
    let output = rig.command(&["secret", "check"]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}
