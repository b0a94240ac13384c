//! Where the stand-ins of a login work, and where they do not.

use super::{ACCESS, Login, REFRESH, offering, posted, without_tokens};
use crate::rig::origin::Speaks;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::json;

#[tokio::test]
async fn an_agent_that_logs_in_never_has_the_token_and_its_requests_do() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let login = Login::start(speaks).await;
        let (access, refresh) = login.logged_in().await;
        assert!(access.starts_with("sk-ant-oat01-") && access.len() == ACCESS.len() && access != ACCESS);
        assert!(refresh.starts_with("sk-ant-ort01-") && refresh.len() == REFRESH.len());
        let reply = login
            .shows("api.test", "authorization", &format!("Bearer {access}"))
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        without_tokens(&reply);
        assert_eq!(login.api.only().all("authorization"), [format!("Bearer {ACCESS}")]);
        // As git has it.
        let pair = |token: &str| format!("Basic {}", STANDARD.encode(format!("x-access-token:{token}")));
        login.shows("api.test", "authorization", &pair(&access)).await;
        let seen = login.api.seen();
        assert_eq!(seen.last().unwrap().all("authorization"), [pair(ACCESS)]);
        // Back to the token endpoint, in a form and in JSON.
        for body in [
            format!("grant_type=refresh_token&refresh_token={refresh}"),
            json!({"grant_type": "refresh_token", "refresh_token": refresh}).to_string(),
            format!("token={access}&token_type_hint=access_token"),
        ] {
            let reply = login.asks(&body).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
            without_tokens(&reply);
            let came = login.auth.seen().pop().unwrap();
            let real = body.replace(&refresh, REFRESH).replace(&access, ACCESS);
            assert_eq!(String::from_utf8(came.body).unwrap(), real);
            assert_eq!(came.headers["content-length"], real.len().to_string().as_str());
        }
        let records = login.proxy.records(6).await;
        assert_eq!(
            records[1]["credentials"],
            json!(["mail/access_token"]),
            "{}",
            records[1]
        );
        assert!(!format!("{records:?}").contains(&ACCESS[13..]));
    }
}

#[tokio::test]
async fn what_stands_in_for_a_token_works_nowhere_but_in_its_place() {
    let login = Login::start(Speaks::Both).await;
    let (access, refresh) = login.logged_in().await;
    let bearer = format!("Bearer {access}");
    let mut refused = 0;
    for (host, header, value) in [
        ("other.test", "authorization", &bearer),
        ("other.test", "cookie", &format!("t={access}")),
        ("api.test", "x-api-key", &access),
        ("api.test", "referer", &format!("https://api.test/?t={access}")),
        // A refresh token is for the token endpoint alone.
        ("api.test", "authorization", &format!("Bearer {refresh}")),
        ("auth.test", "authorization", &bearer),
        ("api.test", "authorization", &format!("Bearer {access} {access}")),
    ] {
        let reply = login.shows(host, header, value).await;
        assert_eq!(
            (reply.status.as_u16(), reply.code()),
            (403, "placeholder_misplaced"),
            "{host} {header}: {}",
            reply.text()
        );
        refused += 1;
    }
    for (host, path, form) in [
        ("api.test", format!("/x?token={access}"), String::new()),
        ("other.test", format!("/{access}/x"), String::new()),
        ("other.test", "/echo".to_owned(), format!("a=1&refresh_token={refresh}")),
        ("api.test", "/echo".to_owned(), format!("access_token={access}")),
        ("auth.test", "/token".to_owned(), format!("comment={refresh}")),
        (
            "auth.test",
            "/token".to_owned(),
            json!({"deep": {"refresh_token": refresh}}).to_string(),
        ),
    ] {
        let mut http = login.proxy.agent.h2(host).await;
        let reply = http.reply(posted(&format!("https://{host}{path}"), &form)).await;
        assert_eq!(
            reply.code(),
            "placeholder_misplaced",
            "{host}{path} {form}: {}",
            reply.text()
        );
        refused += 1;
    }
    let twice = login
        .asks(&format!("refresh_token={refresh}&refresh_token={refresh}"))
        .await;
    assert_eq!(twice.code(), "body_unsearchable", "{}", twice.text());
    let records = login.proxy.records(refused + 2).await;
    let told = records
        .iter()
        .filter(|record| record["code"] == "placeholder_misplaced");
    assert_eq!(told.count(), refused);
    for origin in [&login.api, &login.other, &login.auth] {
        for seen in origin.seen() {
            let all = format!("{seen:?} {}", String::from_utf8_lossy(&seen.body));
            assert!(!all.contains(ACCESS) && !all.contains(REFRESH), "{all}");
            assert!(!seen.whole || !all.contains(&refresh), "{all}");
        }
    }
}

#[tokio::test]
async fn another_agents_login_is_worth_nothing_to_an_agent() {
    let mut login = Login::start(Speaks::Both).await;
    let (access, refresh) = login.logged_in().await;
    login.proxy.agent = offering(&login.proxy, "bob");
    let reply = login
        .shows("api.test", "authorization", &format!("Bearer {access}"))
        .await;
    assert_eq!(reply.code(), "placeholder_misplaced", "{}", reply.text());
    let reply = login
        .asks(&format!("grant_type=refresh_token&refresh_token={refresh}"))
        .await;
    assert_eq!(reply.code(), "placeholder_misplaced", "{}", reply.text());
    assert!(login.api.seen().is_empty());
    // The same token, given to the other agent too, has a stand-in of its own there.
    let (other, _) = login.logged_in().await;
    assert_ne!(other, access);
    login
        .shows("api.test", "authorization", &format!("Bearer {other}"))
        .await;
    assert_eq!(login.api.only().all("authorization"), [format!("Bearer {ACCESS}")]);
}

#[tokio::test]
async fn a_token_comes_back_in_no_reply_of_the_hosts_that_were_given_it() {
    let mut login = Login::start(Speaks::Both).await;
    let (access, refresh) = login.logged_in().await;
    let reply = login
        .shows("api.test", "authorization", &format!("Bearer {access}"))
        .await;
    // The echo has the stand-in, which is as long.
    assert!(reply.text().contains(&access), "{}", reply.text());
    without_tokens(&reply);
    // An error of the token endpoint's, in words of its own, and to another agent.
    login.answers(|| {
        let told = format!("<h1>bad token {REFRESH}</h1>");
        let mut answer = crate::rig::routes::bytes(told, "text/html");
        *answer.status_mut() = StatusCode::BAD_REQUEST;
        answer
    });
    let reply = login
        .asks(&format!("grant_type=refresh_token&refresh_token={refresh}"))
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert!(
        reply.text().contains(&format!("bad token {refresh}")),
        "{}",
        reply.text()
    );
    login.proxy.agent = offering(&login.proxy, "bob");
    without_tokens(&login.asks("grant_type=refresh_token&refresh_token=guess").await);
}

#[tokio::test]
async fn a_login_is_not_shown_on_a_plain_connection() {
    let login = Login::start(Speaks::Both).await;
    let (access, _) = login.logged_in().await;
    let mut raw = login.proxy.agent.dial().await;
    let offer = login.proxy.agent.offer.clone().unwrap();
    raw.say(format!(
        "GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nProxy-Authorization: {offer}\r\nAuthorization: Bearer {access}\r\n\r\n"
    ))
    .await;
    let head = raw.head().await;
    assert!(head.contains("plaintext_refused"), "{head}");
    assert!(login.api.seen().is_empty());
}
