#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use crate::store::KeySource;
use proptest::prelude::*;
use serde_json::{Value, json};

const TOKEN: &str = "gho_0123456789abcdefghijABCDEFGHIJ012345";

fn captured() -> Captured {
    let nowhere = std::path::Path::new("/nonexistent");
    Captured::new(EncryptedFile::new(nowhere, KeySource::from_env()))
}

fn holder(agent: &str) -> Holder {
    Holder {
        login: "mail".into(),
        agent: agent.into(),
        keep: false,
    }
}

fn fresh(value: &str, until: Option<SystemTime>) -> Fresh {
    Fresh {
        field: "access_token".into(),
        secret: Secret::new(value.as_bytes().to_vec()).unwrap(),
        until,
    }
}

async fn take(captured: &Captured, agent: &str, value: &str) -> Arc<Token> {
    let taken = captured.take(&holder(agent), vec![fresh(value, None)], &[]).await;
    taken.unwrap().remove(0)
}

#[tokio::test]
async fn a_token_that_has_ended_is_forgotten() {
    let captured = captured();
    let ends = |seconds: u64| Some(SystemTime::now() - GRACE + Duration::from_secs(seconds));
    let (past, soon) = (fresh(TOKEN, ends(0)), fresh(&TOKEN.replace('9', "8"), ends(100)));
    captured.take(&holder("alice"), vec![past, soon], &[]).await.unwrap();
    assert_eq!(captured.now().tokens.len(), 1);
    let soon = Arc::clone(&captured.now().tokens[0]);
    let ending = [Arc::new(soon.ending(ends(0).unwrap()))];
    captured.publish(&ending);
    *captured.tokens.lock() = ending.into();
    let now = captured.now();
    assert!(now.tokens.is_empty() && now.stand_ins().find(soon.stand_in.as_bytes()).is_none());
}

#[tokio::test]
async fn a_token_that_was_exchanged_ends_soon_and_is_looked_for_until_then() {
    let captured = captured();
    let old = take(&captured, "alice", TOKEN).await;
    let new = fresh(&TOKEN.replace('9', "8"), None);
    captured
        .take(&holder("alice"), vec![new], &[Arc::clone(&old)])
        .await
        .unwrap();
    let now = captured.now();
    assert!(now.tokens[0].until.unwrap() <= SystemTime::now() + AFTERLIFE);
    assert!(now.needles("mail").unwrap().found_in(TOKEN.as_bytes()));
    assert!(now.needles("other").is_none());
}

#[tokio::test]
async fn the_same_token_keeps_its_stand_in_and_is_one() {
    let captured = captured();
    let first = take(&captured, "alice", TOKEN).await;
    assert_eq!(take(&captured, "alice", TOKEN).await.stand_in, first.stand_in);
    assert_eq!(captured.now().tokens.len(), 1);
    assert_ne!(take(&captured, "bob", TOKEN).await.stand_in, first.stand_in);
}

#[tokio::test]
async fn an_agent_makes_room_for_itself_and_who_has_most_for_all() {
    let captured = captured();
    let value = |agent: usize, number: usize| format!("gho_{agent:02}{number:03}56789abcdefghijABCDEFGHIJ01");
    take(&captured, "quiet", TOKEN).await;
    for agent in 0..5 {
        for number in 0..40 {
            take(&captured, &agent.to_string(), &value(agent, number)).await;
        }
    }
    let now = captured.now();
    assert_eq!(now.tokens.len(), MOST_OF_LOGIN);
    let of = |agent: &str| now.tokens.iter().filter(|token| *token.agent == *agent).count();
    assert!((0..5).all(|agent| (1..=MOST_OF_AGENT).contains(&of(&agent.to_string()))));
    assert_eq!(of("quiet"), 1);
}

#[test]
fn a_token_can_be_read_back_from_what_is_written_down() {
    let token = Token::new(
        &holder("alice"),
        fresh(TOKEN, Some(SystemTime::now() + AFTERLIFE)),
        "gho_x".into(),
    );
    let (name, entry) = (kept::name(&token), kept::sealed(&token).unwrap());
    assert!(name.starts_with("login/mail/"), "{name}");
    let read = kept::opened(&entry).unwrap();
    assert!(read.secret.is_same(&token.secret) && read.is_of("mail", "alice") && read.keep);
    assert_eq!((&*read.stand_in, &*read.field), ("gho_x", "access_token"));
    assert!(read.until.unwrap() > SystemTime::now());
}

#[test]
fn a_signed_token_ends_when_it_says_so() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = |claims: Value| {
        format!(
            "{}.{}.{}",
            part(json!({"alg": "ES256"})),
            part(claims),
            URL_SAFE_NO_PAD.encode([7; 64])
        )
    };
    let end = |text: &str| token::stated_end(&Secret::new(text.as_bytes().to_vec()).unwrap());
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    assert_eq!(end(&signed(json!({"exp": 1_800_000_000_u64}))), Some(at));
    for never in [
        signed(json!({"sub": "me"})),
        signed(json!({"exp": -1e300})),
        TOKEN.to_owned(),
    ] {
        assert_eq!(end(&never), None, "{never}");
    }
}

fn names() -> Vec<String> {
    ["access_token", "refresh_token"].map(str::to_owned).into()
}

/// Any JSON, in which every text under a token's name is [`TOKEN`].
fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        "[ -~\u{e4}\n]{0,12}".prop_map(|text| Value::from(text.replace('=', ":"))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            "[a-z\"\\\\]{0,6}",
            Just("access_token".to_owned()),
            Just("refreshToken".to_owned())
        ];
        let entry = (key, inner.clone()).prop_map(|(key, value)| {
            let value = if ["access_token", "refreshToken"].contains(&&*key) {
                json!(TOKEN)
            } else {
                value
            };
            (key, value)
        });
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            proptest::collection::vec(entry, 0..4).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_token_of_a_document_is_found_where_it_stands(value in document(), pretty in any::<bool>()) {
        prop_assume!(value.is_array() || value.is_object());
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let found = fields::in_json(text.as_bytes(), &names()).unwrap();
        prop_assert_eq!(found.len(), text.matches(TOKEN).count());
        for each in found {
            prop_assert_eq!(&text[each.span], TOKEN);
            prop_assert!(each.secret.matches(TOKEN.as_bytes()));
        }
    }

    #[test]
    fn nothing_makes_the_reading_of_a_reply_fail_but_with_an_error(text in r#"[ -~\t"{}\[\]:,\\]{0,60}"#) {
        let in_json = fields::in_json(text.as_bytes(), &names());
        prop_assert!(in_json.is_err() || serde_json::from_str::<Value>(&text).is_ok());
        let _ = fields::in_form(text.as_bytes(), &names());
        let _ = fields::lifetime(text.as_bytes(), true);
    }
}
