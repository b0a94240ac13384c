//! Temporary credentials, as the services that hand them out give them: STS in XML, the metadata services in JSON. Either becomes
//! one secret, a JSON document of the three texts, so that what was had together stays together.

use super::picked;
use super::said::{Field, json};
use crate::base::metadata::PARTS;
use crate::base::secret::Secret;
use serde::Deserialize;

/// Credentials for a while.
#[derive(Debug)]
pub struct Session {
    /// The document.
    pub whole: Secret,
    /// Until when they are good (RFC 3339).
    pub until: Option<String>,
}

/// Reads the answer of a metadata service.
pub fn of_json(body: &[u8]) -> Option<Session> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Expiration")]
        until: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let [id, secret, token] = PARTS.map(|name| picked::text(body, &[name]));
    whole([id?, secret?, token?], answer.until)
}

/// Reads the answer of STS.
pub fn of_xml(body: &[u8]) -> Option<Session> {
    let text = std::str::from_utf8(body).ok()?;
    let credentials = element(text, "Credentials")?;
    let secret = |name| Secret::new(plain(credentials, name)?.as_bytes().to_vec()).ok();
    let [id, key, token] = ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(secret);
    let until = plain(credentials, "Expiration").map(str::to_owned);
    whole([id?, key?, token?], until)
}

/// The name of the error in an answer of a service of AWS's, in JSON or XML, without what stands around it.
pub fn error(body: &[u8]) -> Option<&str> {
    #[derive(Deserialize)]
    struct Answer<'b> {
        #[serde(rename = "__type")]
        kind: &'b str,
    }
    let kind = match serde_json::from_slice::<Answer<'_>>(body) {
        Ok(answer) => answer.kind,
        Err(_) => plain(element(std::str::from_utf8(body).ok()?, "Error")?, "Code")?,
    };
    kind.rsplit('#').next()
}

fn whole([id, secret, token]: [Secret; 3], until: Option<String>) -> Option<Session> {
    let [id_name, secret_name, token_name] = PARTS;
    let mut document = json(&[
        (id_name, Field::Secret(&id)),
        (secret_name, Field::Secret(&secret)),
        (token_name, Field::Secret(&token)),
    ])?;
    let whole = Secret::document(std::mem::take(&mut *document)).ok()?;
    Some(Session { whole, until })
}

/// What stands in the first element of this name; those of STS have no attributes, and none holds another of its name.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inside, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inside)
}

/// The same, where it is text alone, with nothing in it that stands for something else.
fn plain<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let inside = element(text, name)?.trim();
    (!inside.is_empty() && !inside.contains(['<', '&'])).then_some(inside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const XML: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
        <AssumedRoleUser><Arn>arn:x</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIA1</AccessKeyId>\n\
        <SecretAccessKey> a/b+c= </SecretAccessKey><SessionToken>token==</SessionToken>\
        <Expiration>2026-01-02T03:04:05Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

    #[test]
    fn both_kinds_of_answer_become_one_document() {
        let json = br#"{"Code":"Success","AccessKeyId":"ASIA1","SecretAccessKey":"a/b+c=","Token":"token==",
            "Expiration":"2026-01-02T03:04:05Z","Type":"AWS-HMAC","RoleArn":"arn:x"}"#;
        for session in [of_json(json).unwrap(), of_xml(XML.as_bytes()).unwrap()] {
            assert_eq!(session.until.as_deref(), Some("2026-01-02T03:04:05Z"));
            let document = br#"{"AccessKeyId":"ASIA1","SecretAccessKey":"a/b+c=","Token":"token=="}"#;
            assert!(session.whole.matches(document));
        }
    }

    #[test]
    fn an_answer_without_one_of_the_three_is_none() {
        for gone in ["AccessKeyId", "SecretAccessKey", "SessionToken", "Credentials"] {
            assert!(of_xml(XML.replace(gone, "Other").as_bytes()).is_none(), "{gone}");
        }
        assert!(of_xml(XML.replace("ASIA1", "<b>ASIA1</b>").as_bytes()).is_none());
        assert!(of_xml(XML.replace("ASIA1", "a&amp;b").as_bytes()).is_none());
        for odd in [
            &b""[..],
            b"[]",
            b"<",
            b"{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"b\"}",
            b"{\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"b\",\"Token\":7}",
            b"\xff\xfe",
        ] {
            assert!(of_json(odd).is_none() && of_xml(odd).is_none(), "{odd:?}");
        }
    }

    #[test]
    fn an_error_is_known_by_its_name_alone() {
        let xml =
            b"<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code></Error></ErrorResponse>";
        for (body, name) in [
            (
                &b"{\"__type\":\"com.amazonaws#AccessDenied\",\"message\":\"x\"}"[..],
                Some("AccessDenied"),
            ),
            (xml, Some("ExpiredTokenException")),
            (b"<html>", None),
            (b"", None),
        ] {
            assert_eq!(error(body), name);
        }
    }
}
