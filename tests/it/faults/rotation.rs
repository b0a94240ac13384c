//! An audit log turned over under load, shared by two, reopened and killed in between: every line is whole, and every
//! exchange that was over in time is on record once.

use super::{BEARER, KEY, whole};
use crate::rig::agent::{Agent, get};
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::running::Running;
use crate::rig::{PATIENCE, eventually, soon};
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The audit file, and those it was turned over to.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// How often each numbered exchange is on record.
fn counts(files: &[PathBuf]) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for record in files.iter().flat_map(|path| whole(path)) {
        if let Some(number) = record["path"].as_str().and_then(|path| path.split('/').nth(2)) {
            *counts.entry(number.parse().unwrap()).or_default() += 1;
        }
    }
    counts
}

/// What each exchange was numbered, and when it was over.
type Over = Arc<Mutex<BTreeMap<u64, Instant>>>;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Asks until the proxy is gone or the end has come.
async fn ask(agent: Agent, over: Over, end: Arc<AtomicBool>) {
    let Ok(Ok(mut http)) = tokio::spawn(async move { Ok::<_, ()>(agent.h1("api.test").await) }).await else {
        return;
    };
    // Records come near their longest, so that a file is soon full.
    let long = "x".repeat(1800);
    while !end.load(Ordering::Relaxed) {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let url = format!("https://api.test/n/{number}/{long}");
        let Ok(response) = http.send(get(&url)).await else {
            return;
        };
        if response.into_body().collect().await.is_err() {
            return;
        }
        over.lock().unwrap().insert(number, Instant::now());
    }
}

/// The load on one proxy: some that ask until the proxy is gone or the end has come, and what was over.
struct Load {
    asking: Vec<tokio::task::JoinHandle<()>>,
    over: Over,
}

impl Load {
    fn on(agent: &Agent, end: &Arc<AtomicBool>) -> Self {
        let over = Over::default();
        let one = || tokio::spawn(ask(agent.clone(), over.clone(), end.clone()));
        let asking = std::iter::repeat_with(one).take(4).collect();
        Self { asking, over }
    }

    /// What was over, once all have ended.
    async fn ended(self) -> BTreeMap<u64, Instant> {
        for one in self.asking {
            soon("the last answer", one).await.unwrap();
        }
        std::mem::take(&mut *self.over.lock().unwrap())
    }
}

#[tokio::test]
async fn turned_over_reopened_and_killed_under_load_a_shared_log_loses_and_tears_no_line() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY).rule(BEARER);
    let dir = rig.dir().join("log");
    let path = dir.join("audit.jsonl");
    let audit = format!("audit: {{ file: {}, rotate: 1MiB, keep: 1000 }}", path.display());
    // Nearly full, so that it is soon turned over however slow this machine is.
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(
        &path,
        "{\"time\":\"2026-01-01T00:00:00.000Z\",\"lost\":1}\n".repeat(20_000),
    )
    .unwrap();
    let steady = rig.config(&audit).serve().await;
    let end = Arc::new(AtomicBool::new(false));
    let load = Load::on(&steady.agent, &end);
    let mut killed = Vec::new();
    let latest = Instant::now() + 4 * PATIENCE;
    while killed.len() < 4 || files(&dir).len() < 3 {
        assert!(
            Instant::now() < latest,
            "after {} kills: {:?}",
            killed.len(),
            files(&dir)
        );
        let mut child = Running::start(steady.rig.command(&["serve"]));
        let proxy = child.listening().await.unwrap();
        let agent = Agent {
            proxy,
            ..steady.agent.clone()
        };
        let cut = Load::on(&agent, &end);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        steady.child.signal("HUP");
        child.kill().await;
        killed.push((Instant::now(), cut.ended().await));
    }
    end.store(true, Ordering::Relaxed);
    let over = load.ended().await;
    let all_there = || {
        let counts = counts(&files(&dir));
        over.keys().all(|number| counts.contains_key(number))
    };
    eventually("the last record", || all_there().then_some(())).await;
    let counts = counts(&files(&dir));
    assert!(
        counts.values().all(|count| *count == 1),
        "an exchange is on record twice"
    );
    // Of those that were killed, all that was over a second before.
    for (at, cut) in killed {
        let mut in_time = cut
            .iter()
            .filter(|(_, over)| at.duration_since(**over) > Duration::from_secs(1));
        let missing = in_time.find(|(number, _)| !counts.contains_key(number));
        assert_eq!(missing, None, "not on record, and over long before the kill");
    }
    // Each sees only now and then how much the other has written.
    let small = |path: &PathBuf| std::fs::metadata(path).unwrap().len() < 3 << 19;
    assert!(files(&dir).iter().all(small), "{:?}", files(&dir));
}
