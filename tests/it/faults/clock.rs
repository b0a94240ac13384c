//! A clock that is set forward and back while Keyferry runs: what counts time goes on, and what a date ends is renewed.

use super::{BEARER, KEY, all_armed, whole};
use crate::rig::agent::get;
use crate::rig::origin::Origin;
use crate::rig::proxy::{Proxy, Rig};
use crate::rig::root::Root;
use crate::rig::{eventually, tools};
use http::StatusCode;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A clock that the test can set, for Keyferry and for the clients it starts.
struct Clock {
    file: PathBuf,
    env: Vec<(&'static str, String)>,
}

impl Clock {
    fn of(rig: Rig) -> (Self, Rig) {
        let file = rig.dir().join("clock");
        std::fs::write(&file, "+0").unwrap();
        let env = vec![
            ("LD_PRELOAD", crate::clock::library()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap().to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        let rig = env.iter().fold(rig, |rig, (name, value)| rig.env(name, value));
        (Self { file, env }, rig)
    }

    /// Sets it so far from the true time: `+4d`, `-2h`.
    fn set(&self, offset: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// What curl, whose clock this is too, gets; and when the certificate it was shown begins.
    async fn curl(&self, proxy: &Proxy, url: &str) -> (String, String) {
        let mut curl = Command::new(tools::need("curl"));
        crate::rig::proxy::bare(&mut curl, proxy.rig.dir());
        curl.envs(self.env.iter().map(|(name, value)| (name, value)));
        curl.args([
            "-sS",
            "--max-time",
            "20",
            "--proxy",
            &format!("http://{}", proxy.address),
            "--cacert",
        ]);
        curl.arg(&proxy.ca).args(["-w", "\n%{certs}", url]);
        let output = tokio::process::Command::from(curl).output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{told}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (body, certificates) = told.split_once('\n').unwrap();
        let begins = certificates.lines().find_map(|line| line.strip_prefix("Start date:"));
        (body.to_owned(), begins.unwrap().trim().to_owned())
    }
}

#[tokio::test]
async fn leaves_are_made_again_when_the_clock_jumps_forward_and_when_it_goes_back() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY).rule(BEARER);
    let (clock, rig) = Clock::of(rig);
    let proxy = rig.serve().await;
    let mut begins = Vec::new();
    for offset in ["+0", "+10", "+5d", "+12d", "-30m", "+0"] {
        clock.set(offset);
        let (body, from) = clock.curl(&proxy, "https://api.test/hello").await;
        assert_eq!(body, "hello", "at {offset}");
        begins.push(from);
    }
    // Kept over ten seconds; made again after half of its life, again after its end, and from the future's side.
    assert_eq!(begins[0], begins[1]);
    assert!(
        begins[2] != begins[1] && begins[3] != begins[2] && begins[4] != begins[3],
        "{begins:#?}"
    );
    // The order of the lines is that of the exchanges; their times are the clock's.
    let records = proxy.records(6).await;
    let times: Vec<_> = records
        .iter()
        .map(|one| one["time"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        times[3] > times[2] && times[2] > times[1] && times[4] < times[3],
        "{times:#?}"
    );
    assert!(records.iter().all(|one| {
        one["ms"]["total"]
            .as_f64()
            .is_some_and(|ms| (0.0..60_000.0).contains(&ms))
    }));
    whole(&proxy.rig.dir().join("audit.jsonl"));
    all_armed(&origin);
}

#[tokio::test]
async fn rates_and_terms_are_counted_by_a_clock_that_nobody_sets() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root);
    let runs = rig.dir().join("runs");
    let script = format!("echo run >>{}; echo {KEY}", runs.display());
    let rig = rig
        .reach(&origin)
        .secret_spec("api_key", &format!("{{ exec: [sh, -c, {script:?}], ttl: 3s }}"))
        .rule(&format!("{BEARER}, limits: {{ rate: 3/1h }}, allow: [\"GET /scarce\"]"))
        .rule(BEARER.trim_start_matches("name: api, "));
    let (clock, rig) = Clock::of(rig);
    let proxy = rig.serve().await;
    let mut http = proxy.agent.h1("api.test").await;
    let ran = || std::fs::read_to_string(&runs).unwrap_or_default().lines().count();
    for _ in 0..3 {
        assert_eq!(http.reply(get("https://api.test/scarce")).await.status, StatusCode::OK);
    }
    for offset in ["+3d", "-3d"] {
        clock.set(offset);
        // A clock set forward gives no new requests.
        let over = http.reply(get("https://api.test/scarce")).await;
        assert_eq!(
            (over.status, over.code()),
            (StatusCode::TOO_MANY_REQUESTS, "rate_limited")
        );
        let after: u64 = over.header("retry-after").parse().unwrap();
        assert!((1..=3600).contains(&after), "retry after {after} s");
        // Nor does one set back keep an old value for days: its program runs again when its term is over.
        let before = ran();
        let end = std::time::Instant::now() + crate::rig::PATIENCE;
        while ran() == before {
            assert!(
                std::time::Instant::now() < end,
                "the value is never fetched again at {offset}"
            );
            assert_eq!(http.reply(get("https://api.test/plenty")).await.status, StatusCode::OK);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    all_armed(&origin);
}

#[tokio::test]
async fn a_clock_past_the_end_of_the_ca_serves_nobody_and_one_set_right_serves_again() {
    let root = Root::new();
    let origin = Origin::start(&root, "api.test").await;
    let rig = Rig::new(&root).reach(&origin).secret("API_KEY", KEY).rule(BEARER);
    let (clock, rig) = Clock::of(rig);
    let proxy = rig.serve().await;
    for (at, offset) in ["+20000d", "-20000d"].into_iter().enumerate() {
        clock.set(offset);
        let (status, _, raw) = proxy.agent.connect("api.test:443").await;
        assert_eq!(status, 200);
        assert!(
            proxy.agent.handshake(raw.io, "api.test", &["http/1.1"]).await.is_err(),
            "at {offset}"
        );
        eventually("its record", || {
            let audit = proxy.rig.audit();
            let failed = audit.iter().filter(|one| one["code"] == "agent_tls_failed").count();
            (failed == at + 1).then_some(())
        })
        .await;
        clock.set("+0");
        assert_eq!(clock.curl(&proxy, "https://api.test/hello").await.0, "hello");
    }
    all_armed(&origin);
}
