//! Files that secrets come from, spoilt in every way: the last good value stays in use, and a new one is taken up.

use super::{BEARER, KEY, whole};
use crate::rig::agent::{Http, get};
use crate::rig::origin::{Answer, AnyBody, Origin, Speaks};
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{PATIENCE, eventually, routes};
use http::StatusCode;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The value that comes after [`KEY`].
pub const NEXT: &str = "sk-live-the-next-value-a1b2";

pub fn write(path: &Path, value: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    std::fs::write(&new, value).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, path).unwrap();
}

pub async fn before(source: impl Fn(&Path) -> String) -> (Origin, Proxy) {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin);
    let source = source(rig.dir());
    let rig = rig.secret_spec("api_key", &source).rule(BEARER);
    (origin, rig.env("XDG_DATA_HOME", "").serve().await)
}

/// What the origin was shown for one request that went well.
pub async fn shown(http: &mut Http, origin: &Origin) -> String {
    let reply = http.reply(get("https://api.test/hello")).await;
    assert_eq!(
        (reply.status, reply.text().as_str()),
        (StatusCode::OK, "hello"),
        "{}",
        reply.text()
    );
    origin.seen().pop().unwrap().all("authorization").join(" and ")
}

/// Asks until the origin is shown `value`; meanwhile it must be shown `old`.
pub async fn becomes(http: &mut Http, origin: &Origin, old: &str, value: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = shown(http, origin).await;
        if seen == format!("Bearer {value}") {
            return;
        }
        assert_eq!(seen, format!("Bearer {old}"));
        assert!(Instant::now() < end, "the new value is never taken up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nothing of either value is where others read.
pub fn kept(proxy: &Proxy, origin: &Origin) {
    let audit = whole(&proxy.rig.dir().join("audit.jsonl"));
    let told = format!("{}{audit:?}", proxy.child.log());
    assert!(!told.contains(KEY) && !told.contains(NEXT), "{told}");
    let values = [KEY, NEXT].map(|value| format!("Bearer {value}"));
    for one in origin.seen() {
        let shown = one.all("authorization");
        assert!(shown.len() == 1 && values.contains(&shown[0]), "{shown:?} went out");
    }
}

#[tokio::test]
async fn a_file_that_goes_bad_leaves_the_last_good_value_in_use_and_a_good_one_is_taken_up() {
    let (origin, proxy) = before(|dir| {
        write(&dir.join("key"), KEY);
        format!("{{ file: {} }}", dir.join("key").display())
    })
    .await;
    let path = proxy.rig.dir().join("key");
    let mut http = proxy.agent.h1("api.test").await;
    let spoil: [(&str, &dyn Fn()); 8] = [
        ("gone", &|| ()),
        ("a folder", &|| std::fs::create_dir(&path).unwrap()),
        ("a pipe that nobody writes to", &|| {
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        }),
        ("a device without end", &|| {
            std::os::unix::fs::symlink("/dev/zero", &path).unwrap()
        }),
        ("empty", &|| write(&path, "")),
        ("garbage", &|| write(&path, b"\x00\x01\xff\xfe and\nmore\n")),
        ("far too long", &|| write(&path, vec![b'x'; 1 << 20])),
        ("a link to itself", &|| {
            std::os::unix::fs::symlink(&path, &path).unwrap()
        }),
    ];
    let (mut value, mut other) = (KEY, NEXT);
    for (what, spoil) in spoil {
        let complaints = || proxy.child.log().matches("its old value stays in use").count();
        let before = complaints();
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
        spoil();
        eventually(&format!("word that it is {what}"), || {
            (complaints() > before).then_some(())
        })
        .await;
        assert_eq!(
            shown(&mut http, &origin).await,
            format!("Bearer {value}"),
            "while it is {what}"
        );
        // A reload meanwhile is refused, and changes nothing; nor does it keep the stop from being heard.
        let refused = || proxy.child.log().matches("the old one stays in force").count();
        let reloads = refused();
        proxy.child.signal("HUP");
        eventually(&format!("the reload to be refused while it is {what}"), || {
            (refused() > reloads).then_some(())
        })
        .await;
        assert_eq!(
            shown(&mut http, &origin).await,
            format!("Bearer {value}"),
            "while it is {what}"
        );
        let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
        write(&path, other);
        becomes(&mut http, &origin, value, other).await;
        (value, other) = (other, value);
    }
    kept(&proxy, &origin);
}

#[tokio::test]
async fn a_pipe_gives_its_value_at_the_start_and_reloads_go_on_with_it() {
    let (origin, proxy) = before(|dir| {
        let path = dir.join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        let writer = path.clone();
        std::thread::spawn(move || std::fs::write(writer, KEY).unwrap());
        format!("{{ file: {} }}", path.display())
    })
    .await;
    let mut proxy = proxy;
    let mut http = proxy.agent.h1("api.test").await;
    proxy.child.signal("HUP");
    eventually("the reload", || {
        proxy.child.log().contains("the config was reloaded").then_some(())
    })
    .await;
    assert_eq!(shown(&mut http, &origin).await, format!("Bearer {KEY}"));
    drop(http);
    proxy.child.signal("TERM");
    assert!(proxy.child.ended().await.success());
}

#[tokio::test]
async fn a_value_that_was_replaced_is_still_looked_for_and_after_a_reload_too() {
    let root = Root::new();
    // A host that tells everybody what it was given first.
    let first = Arc::new(Mutex::new(None));
    let service = move |request: http::Request<AnyBody>, _: Origin| -> Answer {
        let shown = request.headers()["authorization"].to_str().unwrap().to_owned();
        let told = first.lock().unwrap().get_or_insert(shown).clone();
        Box::pin(async move { routes::text(&format!("hello, {told}")) })
    };
    let origin = Origin::with(&root, "api.test", Speaks::Both, Arc::new(service)).await;
    let rig = Rig::new(&root).reach(&origin);
    let path = rig.dir().join("key");
    write(&path, KEY);
    let rig = rig
        .secret_spec("api_key", &format!("{{ file: {} }}", path.display()))
        .rule(BEARER);
    let proxy = rig.serve().await;
    let mut http = proxy.agent.h1("api.test").await;
    let mut ask = async |what: &str| {
        let reply = http.reply(get("https://api.test/hello")).await;
        assert!(
            reply.text().starts_with("hello, Bearer ") && !reply.text().contains(KEY),
            "{what}: {}",
            reply.text()
        );
        origin.seen().pop().unwrap().all("authorization").remove(0)
    };
    ask("before").await;
    write(&path, NEXT);
    let end = Instant::now() + PATIENCE;
    while ask("once replaced").await != format!("Bearer {NEXT}") {
        assert!(Instant::now() < end, "the new value is never taken up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.child.signal("HUP");
    eventually("the reload", || {
        proxy.child.log().contains("the config was reloaded").then_some(())
    })
    .await;
    ask("after a reload").await;
    kept(&proxy, &origin);
}
