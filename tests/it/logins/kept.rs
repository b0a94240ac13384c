//! How long a login lasts.

use super::{ACCESS, Login, REFRESH, RULES, offering, without_tokens};
use crate::rig::agent::get;
use crate::rig::origin::Speaks;
use crate::rig::proxy::Rig;
use http::StatusCode;
use serde_json::json;
use std::process::Command;

async fn keeping(keep: bool) -> Login {
    let token = format!("name: token, host: auth.test, capture: {{ login: mail, keep: {keep} }}");
    Login::with(Speaks::Both, |rig| rig.rule(&token).rule(RULES[1])).await
}

/// The same after Keyferry has been stopped and started again.
async fn restarted(mut login: Login) -> Login {
    login.proxy.child.signal("TERM");
    login.proxy.child.ended().await;
    let mut proxy = login.proxy.rig.serve().await;
    proxy.agent = offering(&proxy, "alice");
    Login { proxy, ..login }
}

/// How many tokens of the login are in the encrypted file.
fn stored(login: &Login) -> usize {
    let listed = login.proxy.rig.command(&["secret", "list"]).output().unwrap();
    String::from_utf8_lossy(&listed.stdout).matches("login/mail/").count()
}

#[tokio::test]
async fn a_login_that_is_kept_outlives_keyferry_and_one_that_is_not_does_not() {
    for keep in [true, false] {
        let login = keeping(keep).await;
        let (access, _) = login.logged_in().await;
        let found = Command::new("grep")
            .args(["-rlE", &format!("{ACCESS}|{REFRESH}|{access}")])
            .arg(login.proxy.rig.dir())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "written in the clear");
        let login = restarted(login).await;
        login
            .shows("api.test", "authorization", &format!("Bearer {access}"))
            .await;
        let expected = if keep { ACCESS } else { &access };
        assert_eq!(login.api.only().all("authorization"), [format!("Bearer {expected}")]);
        assert_eq!(stored(&login), if keep { 2 } else { 0 });
    }
}

#[tokio::test]
async fn a_refresh_token_takes_the_place_of_the_one_before_in_what_is_stored() {
    let login = keeping(true).await;
    let (_, refresh) = login.logged_in().await;
    let login = restarted(login).await;
    let newer = REFRESH.replace("Zk8w", "Yj7v");
    login.answers_json(json!({"access_token": ACCESS.replace("Qm3v", "Pl2u"), "refresh_token": newer}));
    let form = |token: &str| format!("grant_type=refresh_token&refresh_token={token}");
    let reply = login.asks(&form(&refresh)).await;
    without_tokens(&reply);
    assert_eq!(stored(&login), 3, "both access tokens, and the newer refresh token");
    let held = reply.json()["refresh_token"].as_str().unwrap().to_owned();
    let login = restarted(login).await;
    for (held, real) in [(&held, &newer), (&refresh, &refresh)] {
        login.asks(&form(held)).await;
        let sent = login.auth.seen().pop().unwrap().body;
        assert_eq!(String::from_utf8_lossy(&sent), form(real));
    }
}

#[tokio::test]
async fn what_one_keyferry_was_given_another_beside_it_knows_at_once() {
    let shared = tempfile::tempdir().unwrap();
    let at = shared.path().to_str().unwrap().to_owned();
    let token = "name: token, host: auth.test, capture: { login: mail, keep: true }";
    let rules = |rig: Rig| rig.env("XDG_DATA_HOME", &at).rule(token).rule(RULES[1]);
    let one = Login::with(Speaks::Both, rules).await;
    let other = Login::with(Speaks::Both, rules).await;
    let newer = REFRESH.replace("Zk8w", "Yj7v");
    for round in 0..3 {
        let (here, there) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let (access, refresh) = here.logged_in().await;
        there
            .shows("api.test", "authorization", &format!("Bearer {access}"))
            .await;
        let sent = there.api.seen().pop().unwrap().all("authorization");
        assert_eq!(sent, [format!("Bearer {ACCESS}")], "round {round}");
        there.answers_json(json!({"access_token": ACCESS.replace("Qm3v", "Pl2u"), "refresh_token": newer}));
        let reply = there
            .asks(&format!("grant_type=refresh_token&refresh_token={refresh}"))
            .await;
        without_tokens(&reply);
        let sent = there.auth.seen().pop().unwrap().body;
        assert!(String::from_utf8_lossy(&sent).ends_with(REFRESH), "round {round}");
        let held = reply.json()["access_token"].as_str().unwrap().to_owned();
        here.shows("api.test", "authorization", &format!("Bearer {held}")).await;
        let sent = here.api.seen().pop().unwrap().all("authorization");
        assert_eq!(
            sent,
            [format!("Bearer {}", ACCESS.replace("Qm3v", "Pl2u"))],
            "round {round}"
        );
    }
    // Another agent's it is not, whichever Keyferry it came to.
    let (access, _) = one.logged_in().await;
    let bob = offering(&other.proxy, "bob");
    let mut ask = get("https://api.test/echo");
    ask.headers_mut()
        .insert("authorization", format!("Bearer {access}").parse().unwrap());
    let reply = bob.h2("api.test").await.reply(ask).await;
    assert_eq!(reply.code(), "placeholder_misplaced");
}

#[tokio::test]
async fn a_login_that_cannot_be_stored_works_and_the_operator_is_told() {
    let login = keeping(true).await;
    let store = login.proxy.rig.dir().join("home/.local/share/keyferry/secrets.age");
    std::fs::write(&store, "no age file").unwrap();
    let (access, _) = login.logged_in().await;
    login
        .shows("api.test", "authorization", &format!("Bearer {access}"))
        .await;
    assert_eq!(login.api.only().all("authorization"), [format!("Bearer {ACCESS}")]);
    let log = login.proxy.child.log();
    assert!(
        log.contains("could not be stored") && !log.contains(&ACCESS[13..]),
        "{log}"
    );
    assert_eq!(std::fs::read_to_string(&store).unwrap(), "no age file");
    // At a start it is a mistake, as everything that should be there and is not.
    let Login { mut proxy, .. } = login;
    proxy.child.signal("TERM");
    proxy.child.ended().await;
    let (status, said) = proxy.rig.refuses().await;
    assert!(!status.success() && said.contains("keyferry/secrets."), "{said}");
}

#[tokio::test]
async fn a_token_at_its_end_goes_out_for_the_upstream_to_judge() {
    let login = Login::start(Speaks::Both).await;
    for seconds in [u64::MAX, u64::MAX / 2 - 2_000_000_000, 0] {
        login.answers_json(json!({"access_token": ACCESS, "expires_in": seconds}));
        assert_eq!(login.asks("code=1").await.status, StatusCode::OK, "{seconds}");
    }
    let access = login.asks("code=1").await.json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    login
        .shows("api.test", "authorization", &format!("Bearer {access}"))
        .await;
    assert_eq!(login.api.only().all("authorization"), [format!("Bearer {ACCESS}")]);
}

#[tokio::test]
async fn a_reload_keeps_a_login_and_one_without_its_rule_ends_its_use() {
    let login = Login::start(Speaks::Both).await;
    let (access, _) = login.logged_in().await;
    let bearer = format!("Bearer {access}");
    assert_eq!(
        login.shows("other.test", "authorization", &bearer).await.code(),
        "placeholder_misplaced"
    );
    login.proxy.reload(|config| {
        let moved = config.replace("host: api.test, inject: [{ login: mail }]", "host: api.test");
        moved.replace("host: other.test", "host: other.test, inject: [{ login: mail }]")
    });
    let end = std::time::Instant::now() + crate::rig::PATIENCE;
    while login.shows("other.test", "authorization", &bearer).await.status != StatusCode::OK {
        assert!(std::time::Instant::now() < end, "the reload did not take");
    }
    assert_eq!(login.other.only().all("authorization"), [format!("Bearer {ACCESS}")]);
    assert_eq!(
        login.shows("api.test", "authorization", &bearer).await.code(),
        "placeholder_misplaced"
    );
}

#[tokio::test]
async fn an_agent_has_so_many_tokens_and_the_oldest_make_room() {
    let login = Login::start(Speaks::Both).await;
    let mut held = Vec::new();
    for number in 0..40 {
        login.answers_json(json!({"access_token": ACCESS.replace("Qm3v", &format!("Q{number:03}"))}));
        let reply = login.asks("code=1").await;
        assert_eq!(reply.status, StatusCode::OK);
        held.push(reply.json()["access_token"].as_str().unwrap().to_owned());
    }
    for (held, is_known) in [(&held[39], true), (&held[8], true), (&held[7], false)] {
        login
            .shows("api.test", "authorization", &format!("Bearer {held}"))
            .await;
        let sent = login.api.seen().pop().unwrap().all("authorization").remove(0);
        assert_eq!(sent == format!("Bearer {held}"), !is_known, "{sent}");
    }
}

#[tokio::test]
async fn refreshes_at_one_moment_leave_each_agent_with_what_the_endpoint_gave() {
    let login = Login::start(Speaks::Both).await;
    let (_, refresh) = login.logged_in().await;
    let count = std::sync::atomic::AtomicUsize::new(100);
    login.answers(move || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        crate::rig::routes::json(&json!({
            "access_token": ACCESS.replace("Qm3v", &format!("A{number}")),
            "refresh_token": REFRESH.replace("Zk8w", &format!("R{number}")),
        }))
    });
    let form = format!("grant_type=refresh_token&refresh_token={refresh}");
    let replies = futures_util::future::join_all((0..8).map(|_| login.asks(&form))).await;
    for reply in &replies {
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        without_tokens(reply);
        let access = reply.json()["access_token"].as_str().unwrap().to_owned();
        login
            .shows("api.test", "authorization", &format!("Bearer {access}"))
            .await;
    }
    let mut sent: Vec<_> = login
        .api
        .seen()
        .iter()
        .map(|seen| seen.all("authorization").remove(0))
        .collect();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), 8, "{sent:?}");
    assert!(sent.iter().all(|sent| sent.starts_with("Bearer sk-ant-oat01-A10")));
    assert!(
        login.auth.seen()[1..]
            .iter()
            .all(|seen| String::from_utf8_lossy(&seen.body).contains(REFRESH))
    );
}
