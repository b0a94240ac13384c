//! A clock that is off: what is signed with its time is refused, nothing goes out without a token, nobody is asked without end,
//! and the record and the check name the clock. What is not signed with a time does not mind.

use super::services::{Services, services};
use super::{BASIC, asked, pass, provider, rule};
use crate::rig::proxy::{Rig, ended};
use crate::rig::root::Root;
use serde_json::json;

const WORDS: &str = "is this machine's clock right?";

#[tokio::test]
async fn a_client_that_signs_with_a_clock_that_is_off_is_refused_with_words_that_name_it() {
    let (root, dir) = (Root::new(), tempfile::tempdir().unwrap());
    let provider = provider(&root, 600, dir.path()).await;
    let keys =
        "grant: client_credentials, client_id: signed, private_key: key, key_id: k1, audience: \"https://auth.test\"";
    // Clocks may differ a little; and this server does not mind `iat` (RFC 7523 §3 leaves it to the server).
    for (offset, fits) in [("-600s", false), ("+600s", true), ("-20s", true), ("+20s", true)] {
        let rig = provider.rig(&root).secret("KEY", &provider.key).rule(&rule(keys));
        let rig = crate::clock::off(rig, offset);
        let refused = || provider.server.running.log().matches("invalid_client").count();
        let before = refused();
        let (well, said) = ended(rig.command(&["secret", "check"])).await;
        assert_eq!(well, fits, "{offset}: {said}");
        assert!(
            fits || said.contains("api/oauth2") && said.contains(WORDS),
            "{offset}: {said}"
        );
        let proxy = rig.serve().await;
        for _ in 0..5 {
            let reply = asked(&proxy, "/api").await;
            let code = if fits { "" } else { "credential_unavailable" };
            assert_eq!(reply.code(), code, "{offset}: {}", reply.text());
        }
        let record = proxy.records(5).await.remove(0).to_string();
        assert_eq!(record.contains(WORDS), !fits, "{offset}: {record}");
        let asked = refused() - before;
        assert!(
            if fits { asked == 0 } else { (2..=4).contains(&asked) },
            "{offset}: asked {asked} times"
        );
    }
}

#[tokio::test]
async fn a_client_with_a_secret_does_not_mind_its_clock_and_has_one_token_for_its_time() {
    let (root, dir) = (Root::new(), tempfile::tempdir().unwrap());
    let provider = provider(&root, 6, dir.path()).await;
    for (at, offset) in ["-600s", "+600s"].into_iter().enumerate() {
        let keys = "grant: client_credentials, client_id: basic, client_secret: basic";
        let rig = provider.rig(&root).secret("BASIC", BASIC).rule(&rule(keys));
        let proxy = crate::clock::off(rig, offset).serve().await;
        let granted = async || asked(&proxy, "/api").await.json()["granted"].as_u64().unwrap();
        let first = granted().await;
        assert_eq!(granted().await, first, "{offset}: a token for each request");
        for _ in 0..24 {
            assert_eq!(asked(&proxy, "/api").await.status, 200, "{offset}");
            pass(0.25).await;
        }
        let then = granted().await - first;
        assert!((1..=3).contains(&then), "{at} {offset}: {then} tokens in six seconds");
    }
}

/// A rule with this injection, in a process whose clock is off.
fn at(services: &Services, offset: &str, inject: &str) -> Rig {
    let account = json!({"type": "service_account", "client_email": "agent@project.iam.gserviceaccount.com",
        "private_key": services.rsa, "token_uri": "https://google.test/google/token"});
    let rig = services
        .rig()
        .rule(&format!("name: api, host: api.test, inject: [{{ {inject} }}]"));
    std::fs::write(rig.dir().join("account.json"), account.to_string()).unwrap();
    let certificate = services.dir.path().join("certificate.pem");
    let rig = match inject {
        _ if inject.contains("account") => rig.secret_spec("account", "{ file: account.json }"),
        _ if inject.contains("certificate") => rig
            .secret_spec("certificate", &format!("{{ file: {} }}", certificate.display()))
            .secret("RSA", &services.rsa),
        _ => rig.secret("RSA", &services.rsa),
    };
    crate::clock::off(rig, offset)
}

#[tokio::test]
async fn google_microsoft_and_a_grant_by_assertion_refuse_a_clock_that_is_off_and_are_not_asked_again_at_once() {
    let services = services().await;
    let google = "gcp: { key: account, scopes: [a] }";
    let microsoft = "azure: { authority: \"https://microsoft.test\", tenant: tenant.example, client_id: app-1, \
                     certificate: certificate, private_key: rsa, scope: b }";
    let assertion = "oauth2: { grant: jwt_bearer, token_url: \"https://auth.test/oauth/token\", issuer: robot, \
                     subject: someone, private_key: rsa, scopes: [read] }";
    for (inject, path, offset, fits) in [
        (google, "/google/token", "+600s", false),
        // A token of an hour has time left after ten minutes.
        (google, "/google/token", "-600s", true),
        (google, "/google/token", "+20s", true),
        (microsoft, "/tenant.example/oauth2", "+600s", false),
        (microsoft, "/tenant.example/oauth2", "-600s", false),
        (microsoft, "/tenant.example/oauth2", "+20s", true),
        (assertion, "/oauth/token", "+600s", false),
        (assertion, "/oauth/token", "-600s", false),
        (assertion, "/oauth/token", "+20s", true),
    ] {
        let rig = at(&services, offset, inject);
        let hits = || services.server.running.log().matches(&format!("POST {path}")).count();
        let before = hits();
        let proxy = rig.serve().await;
        for _ in 0..5 {
            let reply = proxy.agent.get("https://api.test/api").await;
            let code = if fits { "" } else { "credential_unavailable" };
            let log = services.server.running.log();
            assert_eq!(reply.code(), code, "{offset} {inject}: {} {log}", reply.text());
        }
        let record = proxy.records(5).await.remove(0).to_string();
        assert_eq!(record.contains(WORDS), !fits, "{offset}: {record}");
        let asked = hits() - before;
        assert!((1..=3).contains(&asked), "{offset} {inject}: asked {asked} times");
        if !fits {
            let (well, said) = ended(proxy.rig.command(&["secret", "check"])).await;
            assert!(!well && said.contains(WORDS), "{said}");
        }
    }
}

#[tokio::test]
async fn a_token_that_was_signed_by_a_clock_that_is_off_is_refused_and_tried_once_more_at_most() {
    let services = services().await;
    let inject = "jwt: { private_key: rsa, issuer: me, audience: \"https://api.test\", claims: { team: blue } }";
    for (offset, fits) in [("-600s", false), ("+600s", false), ("-20s", true), ("+20s", true)] {
        let proxy = at(&services, offset, inject).serve().await;
        let hits = || services.server.running.log().matches("GET /signed").count();
        let before = hits();
        let reply = proxy.agent.get("https://api.test/signed").await;
        assert_eq!(
            reply.status.as_u16(),
            if fits { 200 } else { 401 },
            "{offset}: {}",
            reply.text()
        );
        assert_eq!(hits() - before, 1, "{offset}: what is new is not made again");
        let record = proxy.record().await;
        assert_eq!(record.to_string().contains(WORDS), !fits, "{offset}: {record:#}");
        if !fits {
            pass(5.5).await;
            let reply = proxy.agent.get("https://api.test/signed").await;
            assert_eq!((reply.status.as_u16(), hits() - before), (401, 3), "{offset}");
        }
    }
}
