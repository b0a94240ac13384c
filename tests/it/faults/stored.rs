//! The encrypted store damaged, locked, without its key: the last good value stays in use, and a new one is taken up.

use super::sources::{NEXT, becomes, shown, write};
use super::{BEARER, KEY};
use crate::rig::agent::{Agent, Http};
use crate::rig::eventually;
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::running::Running;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

/// A proxy whose secret is in the encrypted store.
struct Stored {
    origin: Origin,
    rig: Rig,
    child: Running,
    http: Http,
    dir: PathBuf,
}

impl Stored {
    async fn start() -> Self {
        let root = Root::new();
        let origin = Origin::start(&root, "api.test").await;
        let rig = Rig::new(&root)
            .reach(&origin)
            .secret_spec("api_key", "{ store: api_key }")
            .rule(BEARER);
        set(&rig, KEY).unwrap();
        let child = Running::start(rig.command(&["serve"]));
        let address = child.listening().await.unwrap();
        let pem = std::fs::read_to_string(rig.dir().join("ca/ca.pem")).unwrap();
        let http = Agent::new(address, &pem).h1("api.test").await;
        let dir = rig.dir().join("home/.local/share/keyferry");
        Self {
            origin,
            rig,
            child,
            http,
            dir,
        }
    }

    fn file(&self) -> PathBuf {
        self.dir.join("secrets.age")
    }

    fn remove(&self) {
        let file = self.file();
        let _ = std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir(&file));
    }

    /// Spoils the store, and waits for word of it; the old value must still be in use then.
    async fn spoil(&mut self, what: &str, spoil: impl FnOnce()) {
        let complaints = || self.child.log().matches("its old value stays in use").count();
        let before = complaints();
        spoil();
        eventually(&format!("word that it is {what}"), || {
            (complaints() > before).then_some(())
        })
        .await;
        let shown = shown(&mut self.http, &self.origin).await;
        assert_eq!(shown, format!("Bearer {KEY}"), "while it is {what}");
    }
}

/// `keyferry secret set`; what it says when it fails.
fn set(rig: &Rig, value: &str) -> Result<(), String> {
    let mut command = rig.command(&["secret", "set", "api_key"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(told) }
}

#[tokio::test]
async fn an_encrypted_store_that_is_damaged_or_gone_leaves_the_last_good_value_in_use() {
    let mut stored = Stored::start().await;
    let file = stored.file();
    let good = std::fs::read(&file).unwrap();
    let changed: Vec<u8> = good.iter().map(|byte| byte ^ 1).collect();
    // Each with a complaint of its own: the same one is not told of twice.
    stored
        .spoil("cut short", || write(&file, &good[..good.len() - 8]))
        .await;
    stored.spoil("changed", || write(&file, &changed)).await;
    stored.remove();
    stored.spoil("a folder", || std::fs::create_dir(&file).unwrap()).await;
    stored.remove();
    stored.spoil("empty", || write(&file, "")).await;
    stored.remove();
    stored.spoil("gone", || ()).await;
    write(&file, &good);
    set(&stored.rig, NEXT).unwrap();
    becomes(&mut stored.http, &stored.origin, KEY, NEXT).await;
}

#[tokio::test]
async fn a_store_whose_key_is_away_is_read_again_once_the_key_is_back() {
    let mut stored = Stored::start().await;
    let key = stored.dir.join("secrets.key");
    let away = stored.dir.join("away");
    set(&stored.rig, NEXT).unwrap();
    // The new value was written, and nobody can read it.
    stored
        .spoil("without its key", || std::fs::rename(&key, &away).unwrap())
        .await;
    std::fs::rename(&away, &key).unwrap();
    becomes(&mut stored.http, &stored.origin, KEY, NEXT).await;
}

#[tokio::test]
async fn whoever_holds_the_stores_lock_keeps_other_writers_out_and_readers_not() {
    let mut stored = Stored::start().await;
    let lock = File::options()
        .write(true)
        .open(stored.dir.join("secrets.lock"))
        .unwrap();
    lock.lock().unwrap();
    stored.child.signal("HUP");
    eventually("a reload under the lock", || {
        stored.child.log().contains("the config was reloaded").then_some(())
    })
    .await;
    let rig = &stored.rig;
    let told = set(rig, NEXT).unwrap_err();
    assert!(told.contains("another keyferry is writing"), "{told}");
    assert_eq!(shown(&mut stored.http, &stored.origin).await, format!("Bearer {KEY}"));
    lock.unlock().unwrap();
    set(&stored.rig, NEXT).unwrap();
    becomes(&mut stored.http, &stored.origin, KEY, NEXT).await;
}
