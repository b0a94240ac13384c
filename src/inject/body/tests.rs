#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;

const STAND_IN: &str = "vk_test_000000000000";

fn swapped(body: &str, kind: BodyKind, pointer: &str, value: &str) -> Result<Option<String>, Error> {
    let secret = Secret::new(value.as_bytes().to_vec()).unwrap();
    let out = substitute(body.as_bytes(), kind, pointer, STAND_IN, &secret)?;
    Ok(out.map(|bytes| String::from_utf8(bytes).unwrap()))
}

fn json(body: &str, pointer: &str) -> Result<Option<String>, Error> {
    swapped(&body.replace('@', STAND_IN), BodyKind::Json, pointer, "re\"al/\\é")
        .map(|out| out.map(|o| o.replace(STAND_IN, "@")))
}

#[test]
fn a_credential_never_becomes_part_of_an_escape() {
    let swap = |body: &str, kind, stand_in: &str| {
        let out = substitute(
            body.as_bytes(),
            kind,
            "/k",
            stand_in,
            &Secret::new(b"41".to_vec()).unwrap(),
        );
        String::from_utf8(out.unwrap().unwrap()).unwrap()
    };
    assert_eq!(
        swap(r#"{"k":"\npm_x \u006epm_x"}"#, BodyKind::Json, "npm_x"),
        r#"{"k":"\npm_x 41"}"#
    );
    assert_eq!(swap("k=%npm_x", BodyKind::Form, "npm_x"), "k=%2541");
    assert_eq!(swap("k=%2npm_x", BodyKind::Form, "npm_x"), "k=%25241");
}

#[test]
fn only_the_string_at_the_pointer_changes_and_all_other_bytes_stay() {
    for (body, pointer, want) in [
        (
            r#"{"client_secret":"@"}"#,
            "/client_secret",
            Some(r#"{"client_secret":"re\"al/\\é"}"#),
        ),
        (
            r#" { "a" : 1.0e0,"@":"@" , "k":"Bearer @!", "z":["@"] } "#,
            "/k",
            Some(r#" { "a" : 1.0e0,"@":"@" , "k":"Bearer re\"al/\\é!", "z":["@"] } "#),
        ),
        (
            r#"{"a":{"b":[[],{"x":"]}"},"@"]}}"#,
            "/a/b/2",
            Some(r#"{"a":{"b":[[],{"x":"]}"},"re\"al/\\é"]}}"#),
        ),
        (
            r#"{"a/b":{"m~n":"@"}}"#,
            "/a~1b/m~0n",
            Some(r#"{"a/b":{"m~n":"re\"al/\\é"}}"#),
        ),
        (r#"{"\u006b":"@"}"#, "/k", Some(r#"{"\u006b":"re\"al/\\é"}"#)),
        (r#"{"":"@"}"#, "/", Some(r#"{"":"re\"al/\\é"}"#)),
        (r#"[{"k":"\\\"@"}]"#, "/0/k", Some(r#"[{"k":"\\\"re\"al/\\é"}]"#)),
        (r#"{"other":"@","k":"x"}"#, "/k", None),
        (r#"{"k":{"k":"@"}}"#, "/k", None),
        (r#"{"k":7}"#, "/k", None),
        (r#"{"k":["@"]}"#, "/k/00", None),
        (r#"{"k":["@"]}"#, "/k/1", None),
        (r#"{"k":["@"]}"#, "/k/-", None),
        (r#"{"k":[]}"#, "/k/0", None),
        (r#""@""#, "/k", None),
        (r#""@""#, "", None),
        (r#"{}"#, "/k", None),
    ] {
        assert_eq!(json(body, pointer), Ok(want.map(str::to_owned)), "{body} at {pointer}");
    }
}

#[test]
fn an_escaped_placeholder_is_found_as_well() {
    let escaped = STAND_IN.replace('_', "\\u005f");
    let body = format!(r#"{{"x":1,  "k":"a {escaped}\n"}}"#);
    let out = swapped(&body, BodyKind::Json, "/k", "real-secret").unwrap();
    assert_eq!(out.as_deref(), Some("{\"x\":1,  \"k\":\"a real-secret\\n\"}"));
}

#[test]
fn json_that_can_be_read_in_two_ways_is_refused() {
    assert_eq!(json(r#"{"k":"@","k":"x"}"#, "/k"), Err(Error::Ambiguous));
    assert_eq!(json(r#"{"k":"@","\u006b":"x"}"#, "/k"), Err(Error::Ambiguous));
    assert_eq!(json(r#"{"k":"@ @"}"#, "/k"), Err(Error::Repeated));
    for broken in [
        r#"{"k":"@""#,
        r#"{"k":"@"}x"#,
        r#"{"k":'@'}"#,
        r#"{k:"@"}"#,
        "\u{feff}{\"k\":\"@\"}",
        "@",
    ] {
        assert_eq!(json(broken, "/k"), Err(Error::Malformed("JSON")), "{broken}");
    }
    let secret = Secret::new(b"\xff\xfe\xfd".to_vec()).unwrap();
    let body = format!(r#"{{"k":"{STAND_IN}"}}"#);
    assert_eq!(
        substitute(body.as_bytes(), BodyKind::Json, "/k", STAND_IN, &secret),
        Err(Error::NotText)
    );
}

#[test]
fn depth_costs_no_stack() {
    let deep = format!(
        r#"{{"a":{}{},"k":"{STAND_IN}"}}"#,
        "[".repeat(500_000),
        "]".repeat(500_000)
    );
    let out = swapped(&deep, BodyKind::Json, "/k", "real").unwrap().unwrap();
    assert!(out.ends_with(r#"]],"k":"real"}"#));
}

#[test]
fn only_the_form_field_of_that_name_changes() {
    for (body, pointer, want) in [
        ("client_secret=@", "/client_secret", Some("client_secret=p%26q%3D%2B+z")),
        (
            "a=%20+&@=@&client%5Fsecret=x@y&b",
            "/client_secret",
            Some("a=%20+&@=@&client%5Fsecret=xp%26q%3D%2B+zy&b"),
        ),
        ("a=@", "/client_secret", None),
        ("client_secret=x", "/client_secret", None),
        ("client_secret", "/client_secret", None),
        ("a=@", "/a/b", None),
        ("a=@", "a", None),
        ("", "/a", None),
    ] {
        let out = swapped(&body.replace('@', STAND_IN), BodyKind::Form, pointer, "p&q=+ z");
        assert_eq!(
            out.map(|o| o.map(|o| o.replace(STAND_IN, "@"))),
            Ok(want.map(str::to_owned)),
            "{body}"
        );
    }
    let escaped = format!("k=a+{}%21&l=1", STAND_IN.replace('_', "%5F"));
    assert_eq!(
        swapped(&escaped, BodyKind::Form, "/k", "r e"),
        Ok(Some("k=a+r+e%21&l=1".to_owned()))
    );
    let form = |body: &str| swapped(&body.replace('@', STAND_IN), BodyKind::Form, "/k", "x");
    assert_eq!(form("k=@&k=y"), Err(Error::Ambiguous));
    assert_eq!(form("k=@&%6B=y"), Err(Error::Ambiguous));
    assert_eq!(form("k=@@"), Err(Error::Repeated));
}

#[test]
fn the_kind_is_read_from_the_content_type() {
    for (content_type, kind) in [
        ("application/json", Some(BodyKind::Json)),
        ("Application/JSON; charset=utf-8", Some(BodyKind::Json)),
        ("application/vnd.api+json", Some(BodyKind::Json)),
        ("application/x-www-form-urlencoded;charset=UTF-8", Some(BodyKind::Form)),
        ("application/json-seq", None),
        ("multipart/form-data; boundary=x", None),
        ("text/plain", None),
        ("+json", None),
    ] {
        assert_eq!(BodyKind::of(content_type), kind, "{content_type}");
    }
}

fn document() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\/{},:\\[\\]é ]{0,9}".prop_map(Value::from),
        Just(Value::from(STAND_IN)),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map("[ab~/\"]{0,2}", inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// The pointers to all values below `value`.
fn pointers(value: &serde_json::Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    for (key, child) in value.as_object().into_iter().flatten() {
        pointers(child, &format!("{at}/{}", escape(key)), all);
    }
    for (index, child) in value.as_array().into_iter().flatten().enumerate() {
        pointers(child, &format!("{at}/{index}"), all);
    }
}

proptest! {
    #[test]
    fn every_pointer_leads_where_the_json_library_says(document in document(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
        let mut all = Vec::new();
        pointers(&document, "", &mut all);
        for pointer in all {
            let out = swapped(&text, BodyKind::Json, &pointer, "re\"al").unwrap();
            let mut want = document.clone();
            match want.pointer_mut(&pointer) {
                Some(value) if !pointer.is_empty() && value == STAND_IN => *value = "re\"al".into(),
                _ => {
                    prop_assert_eq!(out, None);
                    continue;
                }
            }
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&out.unwrap()).unwrap(), want);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..60), text in "[\\[\\]{}\",:0a\\\\ ]{0,30}") {
        let secret = Secret::new(b"x".to_vec()).unwrap();
        for body in [body.as_slice(), text.as_bytes()] {
            for kind in [BodyKind::Json, BodyKind::Form] {
                let _ = substitute(body, kind, "/a/0", "a", &secret);
            }
        }
    }
}
