//! What a real OpenBao lends: tokens of its logins and of its operator, renewed; and users of a real PostgreSQL, whose leases are
//! renewed, end, and are revoked.

use super::vault::{Bao, bao};
use super::{keys, pass};
use crate::rig::origin::{Answer, Origin, Service, Speaks};
use crate::rig::postgres::{PASSWORD, Postgres};
use crate::rig::proxy::Rig;
use crate::rig::routes;
use crate::rig::tools;
use http::StatusCode;
use serde_json::json;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// An OpenBao that makes users of a PostgreSQL, and an API that lets in whom that lets in.
struct Lending {
    bao: Bao,
    postgres: Arc<Postgres>,
    api: Origin,
}

async fn lending(dir: &std::path::Path, first: &str, longest: &str) -> Lending {
    let (bao, postgres) = (bao(dir).await, Arc::new(Postgres::start(dir).await));
    bao.put("sys/mounts/database", &json!({"type": "database"})).unwrap();
    let at = format!(
        "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
        postgres.port
    );
    let database = json!({"plugin_name": "postgresql-database-plugin", "connection_url": at, "allowed_roles": "*",
        "username": "postgres", "password": PASSWORD});
    bao.put("database/config/pg", &database).unwrap();
    let made = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
    let role = json!({"db_name": "pg", "creation_statements": [made], "default_ttl": first, "max_ttl": longest});
    bao.put("database/roles/app", &role).unwrap();
    let asked = Arc::clone(&postgres);
    let service: Service = Arc::new(move |request, _| -> Answer {
        let shown = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        let is_in = asked.lets_in(&shown("x-user"), &shown("x-password"));
        Box::pin(async move {
            match is_in {
                true => routes::text("in"),
                false => routes::empty(StatusCode::UNAUTHORIZED),
            }
        })
    });
    let api = Origin::with(&bao.root, "db.test", Speaks::Both, service).await;
    Lending { bao, postgres, api }
}

impl Lending {
    fn rig(&self) -> Rig {
        let lent =
            |field: &str| format!("{{ vault: {{ mount: database, path: creds/app, field: {field}, dynamic: true }} }}");
        Rig::new(&self.bao.root)
            .reach(&self.api)
            .reach_as("vault.test", self.bao.server.address)
            .config("vault: { address: \"https://vault.test\", token: token }")
            .secret("TOKEN", "root-token")
            .secret_spec("user", &lent("username"))
            .secret_spec("password", &lent("password"))
            .rule(
                "name: db, host: db.test, inject: [{ header: x-user, value: \"${user}\" }, \
                 { header: x-password, value: \"${password}\" }]",
            )
    }

    /// The user that the API saw last.
    fn user(&self) -> String {
        self.api.seen().pop().unwrap().all("x-user").remove(0)
    }
}

#[tokio::test]
async fn a_user_that_is_lent_is_renewed_and_another_had_before_the_longest_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let lending = lending(dir.path(), "4s", "10s").await;
    let proxy = lending.rig().serve().await;
    let (begun, mut users) = (Instant::now(), Vec::<(String, Duration)>::new());
    while begun.elapsed() < Duration::from_secs(16) {
        let reply = proxy.agent.get("https://db.test/").await;
        assert_eq!(reply.status, 200, "after {:?}: {}", begun.elapsed(), proxy.child.log());
        let user = lending.user();
        match users.last_mut() {
            Some((last, until)) if *last == user => *until = begun.elapsed(),
            _ => users.push((user, begun.elapsed())),
        }
        pass(0.2).await;
    }
    // One that is not renewed ends after four seconds, and none lasts longer than ten.
    let first = users[0].1;
    assert!(
        first > Duration::from_secs(6) && first < Duration::from_secs(12),
        "{users:?}"
    );
    assert!((2..=4).contains(&users.len()), "{users:?}");
    // User and password always belonged together.
    let pairs = lending.api.seen().into_iter();
    let pairs = pairs.map(|seen| (seen.all("x-user").remove(0), seen.all("x-password").remove(0)));
    let pairs: std::collections::BTreeSet<_> = pairs.collect();
    assert_eq!(pairs.len(), users.len(), "{users:?}");
    assert!(
        !proxy.child.log().contains("could not be fetched"),
        "{}",
        proxy.child.log()
    );
}

#[tokio::test]
async fn both_fields_come_anew_when_a_lease_is_revoked_and_the_request_is_sent_once_more() {
    let dir = tempfile::tempdir().unwrap();
    let lending = lending(dir.path(), "1h", "24h").await;
    let proxy = lending.rig().serve().await;
    assert_eq!(proxy.agent.get("https://db.test/").await.status, 200);
    let first = lending.user();
    // It must have some age before a refusal counts.
    pass(6.0).await;
    lending
        .bao
        .put("sys/leases/revoke-prefix/database/creds/app", &json!({}))
        .unwrap();
    let reply = proxy.agent.get("https://db.test/").await;
    assert_eq!(reply.status, 200, "{}", proxy.child.log());
    assert_ne!(lending.user(), first);
    let said = format!(
        "{}{}",
        proxy.child.log(),
        std::fs::read_to_string(proxy.rig.dir().join("audit.jsonl")).unwrap()
    );
    let password = lending.api.seen().pop().unwrap().all("x-password").remove(0);
    assert!(!said.contains(&password) && lending.postgres.lets_in(&lending.user(), &password));
}

/// A Vault with a JWT login for what the key of `dir` signs.
async fn with_jwt(dir: &std::path::Path) -> (Bao, String) {
    let bao = bao(dir).await;
    let [rsa, ..] = keys(dir);
    let public = Command::new(tools::need("openssl"))
        .args(["pkey", "-pubout", "-in", &rsa])
        .output()
        .unwrap();
    let public = String::from_utf8(public.stdout).unwrap();
    bao.put("sys/auth/jwt", &json!({"type": "jwt"})).unwrap();
    bao.put("auth/jwt/config", &json!({"jwt_validation_pubkeys": [public]}))
        .unwrap();
    let policy = "path \"secret/data/payments/*\" { capabilities = [\"read\"] }";
    bao.put("sys/policies/acl/payments", &json!({"policy": policy}))
        .unwrap();
    let role = json!({"role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub", "token_policies": "payments",
        "token_ttl": "4s", "token_max_ttl": "12s"});
    bao.put("auth/jwt/role/keyferry", &role).unwrap();
    (bao, std::fs::read_to_string(rsa).unwrap())
}

impl Bao {
    /// The live tokens of a login.
    fn tokens_of(&self, login: &str) -> Vec<String> {
        let all = self.ask("LIST", "auth/token/accessors", None).unwrap();
        let all = all["data"]["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key.as_str().unwrap().to_owned());
        let of_login = |accessor: &String| {
            let about = self.put("auth/token/lookup-accessor", &json!({"accessor": accessor}));
            about.is_some_and(|about| about["data"]["display_name"].as_str().unwrap().starts_with(login))
        };
        all.filter(of_login).collect()
    }
}

const ENTRY: &str = "{ vault: { path: payments/stripe, field: key, ttl: 1s, grace: 1s } }";

#[tokio::test]
async fn a_field_that_one_host_refuses_brings_the_others_along() {
    let dir = tempfile::tempdir().unwrap();
    let lending = lending(dir.path(), "1h", "24h").await;
    let service: Service = Arc::new(|_, _| -> Answer { Box::pin(async { routes::empty(StatusCode::UNAUTHORIZED) }) });
    let strict = Origin::with(&lending.bao.root, "strict.test", Speaks::Both, service).await;
    let rule = "name: strict, host: strict.test, inject: [{ header: x-user, value: \"${user}\" }]";
    let proxy = lending.rig().reach(&strict).rule(rule).serve().await;
    assert_eq!(proxy.agent.get("https://db.test/").await.status, 200);
    pass(6.0).await;
    assert_eq!(proxy.agent.get("https://strict.test/").await.status, 401);
    assert_eq!(strict.seen().len(), 2, "the user comes anew: {}", proxy.child.log());
    assert_eq!(proxy.agent.get("https://db.test/").await.status, 200);
    // The first pair and the next one, and none of a user with the password of another.
    assert_eq!(lending.api.seen().len(), 2);
}

#[tokio::test]
async fn a_login_by_jwt_has_its_token_renewed_and_logs_in_again_when_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (bao, rsa) = with_jwt(dir.path()).await;
    let rig = |audience: &str| {
        bao.rig("role: keyferry, jwt: signed")
            .secret("RSA", &rsa)
            .secret_spec(
                "signed",
                &format!("{{ jwt: {{ private_key: rsa, subject: me, audience: {audience} }} }}"),
            )
            .secret_spec("key", ENTRY)
    };
    let proxy = rig("vault").serve().await;
    let begun = Instant::now();
    let (mut first, mut renewed) = (Vec::new(), false);
    while begun.elapsed() < Duration::from_secs(16) {
        let given = bao.given(&proxy).await;
        assert_eq!(
            given.as_deref(),
            Some("Bearer sk-first-0123456789"),
            "{}",
            proxy.child.log()
        );
        if first.is_empty() {
            first = bao.tokens_of("jwt-");
            assert_eq!(first.len(), 1);
        }
        // It would be gone by now.
        renewed |= begun.elapsed() > Duration::from_secs(6) && bao.tokens_of("jwt-") == first;
        pass(0.3).await;
    }
    assert!(renewed, "the token is not renewed: {}", proxy.child.log());
    assert!(
        !bao.tokens_of("jwt-").contains(&first[0]),
        "it cannot outlive its longest time"
    );
    let proxy = rig("other").serve().await;
    assert_eq!(bao.given(&proxy).await, None);
    let record = proxy.record().await.to_string();
    assert!(record.contains("it does not take this role and JWT"), "{record}");
}

#[tokio::test]
async fn a_token_that_the_operator_gave_is_renewed_while_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let bao = bao(dir.path()).await;
    let policy = "path \"secret/data/payments/*\" { capabilities = [\"read\"] }";
    bao.put("sys/policies/acl/payments", &json!({"policy": policy}))
        .unwrap();
    let made = bao
        .put(
            "auth/token/create",
            &json!({"policies": ["payments"], "ttl": "4s", "renewable": true}),
        )
        .unwrap();
    let token = made["auth"]["client_token"].as_str().unwrap();
    let proxy = bao
        .rig("token: token")
        .secret("TOKEN", token)
        .secret_spec("key", ENTRY)
        .serve()
        .await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let given = bao.given(&proxy).await;
        assert!(given.is_some(), "after {:?}: {}", begun.elapsed(), proxy.child.log());
        pass(0.3).await;
    }
    let log = proxy.child.log();
    assert!(!log.contains("could not be fetched"), "{log}");
}

#[tokio::test]
async fn without_a_jwt_the_token_of_the_pods_account_is_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let bao = bao(dir.path()).await;
    let (_, said) = bao.rig("role: keyferry").secret_spec("key", ENTRY).refuses().await;
    assert!(
        said.contains("cannot read `/var/run/secrets/kubernetes.io/serviceaccount/token`"),
        "{said}"
    );
}
