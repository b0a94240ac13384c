//! Programs that secrets come from, failing in every way: a value is used to the end of its term, then nothing goes out
//! until the program gives another.

use super::sources::{NEXT, before, kept, shown, write};
use super::{BEARER, KEY, whole};
use crate::rig::agent::get;
use crate::rig::origin::Origin;
use crate::rig::proxy::Rig;
use crate::rig::root::Root;
use crate::rig::{PATIENCE, soon};
use http::StatusCode;
use std::path::Path;
use std::time::{Duration, Instant};

/// A program that does what the file `mode` beside it says.
fn program(dir: &Path) -> String {
    let script = "run=$(wc -l <runs 2>/dev/null || echo 0); echo run >>runs\n\
        case $(cat mode) in\n\
        good) cat value;; fails) echo no >&2; exit 3;; hangs) sleep 600;; nothing) ;;\n\
        garbage) printf 'a\\001b\\nc';; endless) yes | head -c 10000000;; killed) kill -9 $$;;\n\
        holds) cat value; sleep 600 & ;;\n\
        esac\n";
    std::fs::write(dir.join("program"), script).unwrap();
    write(&dir.join("mode"), "good");
    write(&dir.join("value"), KEY);
    format!(
        "{{ exec: [sh, {}], ttl: 2s, timeout: 1s }}",
        dir.join("program").display()
    )
}

#[tokio::test]
async fn a_program_that_fails_is_borne_for_the_term_of_its_value_and_then_nothing_goes_out() {
    let modes = ["fails", "hangs", "nothing", "garbage", "endless", "killed", "holds"];
    futures_util::future::join_all(modes.map(borne)).await;
}

async fn borne(mode: &str) {
    let (origin, proxy) = before(program).await;
    let dir = proxy.rig.dir().to_owned();
    let mut http = proxy.agent.h1("api.test").await;
    assert_eq!(shown(&mut http, &origin).await, format!("Bearer {KEY}"));
    write(&dir.join("mode"), mode);
    write(&dir.join("value"), NEXT);
    let begun = Instant::now();
    let end = begun + PATIENCE;
    let refusal = loop {
        let reply = http.reply(get("https://api.test/hello")).await;
        if reply.status != StatusCode::OK {
            break reply;
        }
        assert_eq!(
            origin.seen().pop().unwrap().all("authorization"),
            [format!("Bearer {KEY}")]
        );
        assert!(Instant::now() < end, "the value outlives its term");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(
        (refusal.status.as_u16(), refusal.code()),
        (502, "credential_unavailable"),
        "{mode}"
    );
    let sent = origin.seen().len();
    // Left alone for a while, and not run for each who asks.
    let runs = || std::fs::read_to_string(dir.join("runs")).unwrap().lines().count();
    let before = runs();
    for _ in 0..50 {
        assert_eq!(
            http.reply(get("https://api.test/hello")).await.code(),
            "credential_unavailable"
        );
    }
    assert!(runs() <= before + 2, "{mode}: {} runs for 50 requests", runs() - before);
    assert_eq!(
        origin.seen().len(),
        sent,
        "{mode}: something went out without its credential"
    );
    write(&dir.join("mode"), "good");
    let end = Instant::now() + PATIENCE;
    while http.reply(get("https://api.test/hello")).await.status != StatusCode::OK {
        assert!(Instant::now() < end, "{mode}: it does not recover");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        origin.seen().pop().unwrap().all("authorization"),
        [format!("Bearer {NEXT}")]
    );
    kept(&proxy, &origin);
}

#[tokio::test]
async fn a_program_that_has_never_given_a_value_lets_nothing_out_and_the_rest_goes_on() {
    let root = Root::new();
    let [origin, other] = [
        Origin::start(&root, "api.test").await,
        Origin::start(&root, "other.test").await,
    ];
    let rig = Rig::new(&root).reach(&origin).reach(&other);
    let spec = program(rig.dir());
    write(&rig.dir().join("mode"), "hangs");
    let rig = rig.secret_spec("api_key", &spec).rule(BEARER).rule("host: other.test");
    let mut proxy = rig.serve().await;
    for http2 in [false, true] {
        let reply = if http2 {
            proxy.agent.get2("https://api.test/hello").await
        } else {
            proxy.agent.get("https://api.test/hello").await
        };
        assert_eq!((reply.status.as_u16(), reply.code()), (502, "credential_unavailable"));
        assert_eq!(proxy.agent.get("https://other.test/hello").await.text(), "hello");
    }
    assert_eq!(origin.connections(), 0);
    // A stop does not wait for the program.
    let agent = proxy.agent.clone();
    let asking = tokio::spawn(async move { agent.h1("api.test").await.send(get("https://api.test/hello")).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.child.signal("TERM");
    assert!(proxy.child.ended().await.success());
    let _ = soon("the one who asked", asking).await;
    whole(&proxy.rig.dir().join("audit.jsonl"));
}
