//! Everything at once, for long: honest and hostile agents before honest and hostile upstreams, while the config is
//! reloaded and secrets are replaced. Nothing grows, each exchange is on record once, nobody is told a secret, and honest
//! agents notice nothing. `scripts/soak` runs it for as long as one likes; `docs/soak.md` has the figures.

mod honest;
mod hostile;
mod hosts;
mod kinds;
mod load;
mod spelled;
mod tally;
mod watch;

use crate::rig::agent::Agent;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::soon;
use base64::Engine;
use hosts::Shown;
use kinds::Kind;
use load::{Load, STAND_IN};
use spelled::{Spelled, value};
use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tally::Tally;
use watch::Sample;

/// How long, and how much.
#[derive(Clone, Copy)]
struct Size {
    connections: usize,
    length: Duration,
    /// Between two exchanges of one agent.
    pause: Duration,
    /// Between two looks.
    every: Duration,
    log: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once_leaks_nothing_loses_no_record_and_lets_honest_agents_through() {
    soak(Size {
        connections: 50,
        length: Duration::from_secs(15),
        pause: Duration::from_millis(20),
        every: Duration::from_millis(300),
        log: "debug",
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/soak runs it"]
async fn everything_at_once_for_as_long_as_asked_for() {
    let asked = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |text| text.parse().unwrap());
    let size = Size {
        connections: usize::try_from(asked("KEYFERRY_SOAK_CONNECTIONS", 200)).unwrap(),
        length: Duration::from_secs(60 * asked("KEYFERRY_SOAK_MINUTES", 10)),
        pause: Duration::from_millis(50),
        every: Duration::from_secs(1),
        log: "info",
    };
    let report = soak(size).await;
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/target/soak.md"), report).unwrap();
}

/// Writes a secret's file as the ones who replace secrets do: in place, or by a new file.
fn replace(path: &Path, value: &str, in_place: bool) {
    if in_place {
        return std::fs::write(path, value).unwrap();
    }
    let new = path.with_extension("new");
    std::fs::write(&new, value).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// Replaces both secrets that are files.
fn renew(dir: &Path, shown: &Shown, version: u64) {
    for name in ["sk-soak", "vk-soak"] {
        replace(&dir.join(name), &value(name, version), version % 2 == 1);
    }
    shown.version.store(version, Ordering::Relaxed);
}

/// The rules, each with the paths that it is for.
fn rules(rig: Rig, paths: &[Kind]) -> Rig {
    let paths: Vec<_> = paths.iter().map(|kind| format!("\"* /{}/**\"", kind.name())).collect();
    let rules = [
        format!(
            "name: api, host: api.test, allow: [{}], inject: [{{ bearer: api }}]",
            paths.join(", ")
        ),
        "name: vendor, host: vendor.test, inject: [{ placeholder: vendor, in: [\"header:x-vendor\", \"body:/key\"] }]"
            .to_owned(),
        "name: login, host: login.test, inject: [{ basic: { user: soak, password: login } }]".to_owned(),
        "name: echo, host: echo.test, inject: [{ bearer: api }]".to_owned(),
        "name: limited, host: limited.test, inject: [{ bearer: api }], limits: { rate: 30/min }".to_owned(),
        "name: broken, host: [cut.test, garbage.test], inject: [{ bearer: api }]".to_owned(),
        "name: stalled, host: stalled.test, inject: [{ bearer: api }], limits: { time: 300ms }".to_owned(),
        "name: inside, host: \"*.inside.test\"".to_owned(),
        "name: plain, host: plain.test".to_owned(),
        "name: pinned, host: pinned.test, tunnel: true".to_owned(),
        "name: spare, host: spare-0.test".to_owned(),
    ];
    rules.iter().fold(rig, |rig, rule| rig.rule(rule))
}

/// The proxy of the soak, before its upstreams.
async fn serve(root: &Root, shown: &Arc<Shown>, log: &str) -> Proxy {
    let mut rig = Rig::new(root).env("KEYFERRY_LOG", log);
    for (name, address) in hosts::start(root, shown).await {
        rig = rig.reach_as(name, address);
    }
    let dir = rig.dir().to_owned();
    renew(&dir, shown, 2);
    renew(&dir, shown, 3);
    let program = format!(
        "echo >>{0}/runs; echo login-{1}-$(wc -l <{0}/runs)",
        dir.display(),
        spelled::CORE
    );
    let file = |name: &str| format!("file: {}/{name}", dir.display());
    let rig = rig
        .secret_spec("api", &format!("{{ {} }}", file("sk-soak")))
        .secret_spec("vendor", &format!("{{ {}, placeholder: {STAND_IN} }}", file("vk-soak")))
        .secret_spec("login", &format!("{{ exec: [sh, -c, {program:?}], ttl: 4s }}"))
        .secret("CI_TOKEN", &value("ci-token", 0));
    let rig = rig.config(&format!(
        "agents: {{ ci: {{ token: ci_token }} }}\nadmin: {{ bind: \"127.0.0.1:0\" }}\n\
         audit: {{ file: {}/log/audit.jsonl, rotate: 4MiB, keep: 10000 }}\n",
        dir.display()
    ));
    use Kind::{Abandoned, Download, Events, Fresh, Grpc, Kept, Misplaced, Reset, Streams, Upload, WebSocket};
    let paths = [
        Abandoned, Download, Events, Fresh, Grpc, Kept, Misplaced, Reset, Streams, Upload, WebSocket,
    ];
    rules(rig, &paths).serve().await
}

/// Reloads and replaces secrets until it is told to stop; how often each.
async fn disturb(proxy: &Proxy, shown: &Shown, stop: &AtomicBool) -> (u64, u64) {
    let dir = proxy.rig.dir().to_owned();
    let config = dir.join("keyferry.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (mut reloads, mut version) = (0, 3);
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        version += 1;
        renew(&dir, shown, version);
        tokio::time::sleep(Duration::from_millis(1300)).await;
        reloads += 1;
        replace(&config, &text.replace("spare-0", &format!("spare-{reloads}")), false);
        proxy.child.signal("HUP");
    }
    (reloads, version - 3)
}

async fn soak(size: Size) -> String {
    let root = Root::new();
    let shown = Arc::new(Shown::default());
    let mut proxy = serve(&root, &shown, size.log).await;
    let mut agent = proxy.agent.clone();
    let offer = base64::engine::general_purpose::STANDARD.encode(format!("ci:{}", value("ci-token", 0)));
    agent.offer = Some(format!("Basic {offer}"));
    let mut pinning = Agent::new(proxy.address, &root.pem());
    pinning.offer.clone_from(&agent.offer);
    let load = Arc::new(Load {
        agent,
        pinning,
        tally: Tally::new(),
        spelled: Spelled::new(),
        stop: AtomicBool::new(false),
        pause: size.pause,
    });
    let idle = watch::look(&proxy, &load).await;
    let mut agents = tokio::task::JoinSet::new();
    for at in 0..size.connections {
        agents.spawn(load.clone().go(at));
    }
    let watching = async {
        let samples = watch::watch(&proxy, &load, size.length, size.every).await;
        load.stop.store(true, Ordering::Relaxed);
        samples
    };
    let (samples, (reloads, renewals)) = tokio::join!(watching, disturb(&proxy, &shown, &load.stop));
    while let Some(ended) = soon("the agents to stop", agents.join_next()).await {
        if let Err(error) = ended {
            load.tally.fail(format!("an agent gave up: {error}"));
        }
    }
    let after = settled(&proxy, &load, idle).await;
    proxy.child.signal("TERM");
    assert!(proxy.child.ended().await.success());
    let records = load.tally.compare(&proxy.rig.dir().join("log"), &load.spelled);
    judge(&load, &shown, &samples, (idle, after));
    load.hide("the log", proxy.child.log().as_bytes());
    let report = report(size, &load, &samples, (idle, after), (records, reloads, renewals));
    let failures = load.tally.failures();
    assert!(failures.is_empty(), "{failures:#?}\n{report}");
    report
}

/// What is left in use once nobody asks any more.
async fn settled(proxy: &Proxy, load: &Load, idle: Sample) -> Sample {
    // Connections to upstreams are kept for a while, and those of an old configuration not.
    proxy.child.signal("HUP");
    let end = std::time::Instant::now() + Duration::from_secs(90);
    loop {
        let now = watch::look(proxy, load).await;
        let quiet =
            now.connections == 0 && now.exchanges == 0 && now.files <= idle.files + 20 && now.tasks <= idle.tasks + 20;
        if quiet || std::time::Instant::now() > end {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn judge(load: &Load, shown: &Shown, samples: &[Sample], (idle, after): (Sample, Sample)) {
    for what in watch::grown(samples) {
        load.tally.fail(what);
    }
    let well = after.connections == 0
        && after.exchanges == 0
        && after.files <= idle.files + 20
        && after.tasks <= idle.tasks + 20;
    if !well {
        load.tally
            .fail(format!("idle again it uses {after:?}, and {idle:?} before"));
    }
    if after.lost > 0 {
        load.tally.fail(format!("{} records were lost", after.lost));
    }
    let bare = shown.bare.load(Ordering::Relaxed);
    if bare > 0 {
        load.tally
            .fail(format!("{bare} requests went out without their credential"));
    }
    let stale = shown.stale.load(Ordering::Relaxed);
    if stale > 0 {
        load.tally.fail(format!(
            "{stale} requests carried a value that was replaced long before"
        ));
    }
    for kind in Kind::ALL {
        if load.tally.count(kind) == 0 {
            load.tally.fail(format!("there was no {}", kind.name()));
        }
    }
}

/// The figures, as `docs/soak.md` has them.
fn report(
    size: Size,
    load: &Load,
    samples: &[Sample],
    (idle, after): (Sample, Sample),
    (records, reloads, renewals): (u64, u64, u64),
) -> String {
    let mut text = String::new();
    let (connections, seconds) = (size.connections, size.length.as_secs());
    let _ = writeln!(
        text,
        "{connections} connections for {seconds} s; {records} audit lines, {reloads} reloads, {renewals} replacements of two secrets.\n"
    );
    let _ = writeln!(
        text,
        "| | idle before | first third | last third | most | idle after |\n|---|---|---|---|---|---|"
    );
    for (name, figure, _) in watch::FIGURES {
        let (first, last) = watch::thirds(samples, figure);
        let most = samples.iter().map(figure).max().unwrap_or_default();
        let shown = [figure(&idle), first, last, most, figure(&after)].map(|value| match name {
            "resident memory" => format!("{:.1} MiB", value as f64 / f64::from(1 << 20)),
            _ => value.to_string(),
        });
        let _ = writeln!(text, "| {name} | {} |", shown.join(" | "));
    }
    let _ = writeln!(
        text,
        "\n| exchanges | of what kind | may end on record as |\n|---|---|---|"
    );
    for kind in Kind::ALL {
        let (_, what, codes) = kind.spec();
        let codes = codes.join("`, `");
        let _ = writeln!(text, "| {} | {what} | `{codes}` |", load.tally.count(kind));
    }
    text
}
