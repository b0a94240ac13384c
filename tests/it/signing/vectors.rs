//! The test suite that AWS published for Signature Version 4, as botocore carries it.

use crate::rig::tools;
use keyferry::base::secret::Secret;
use keyferry::sign::sigv4::{ALGORITHM, PathStyle, Request, Scope, SigningKey, sha256, signed_names};
use std::path::Path;

/// Reads a request as the suite writes it down.
fn signed(text: &str) -> String {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let first = lines.next().unwrap();
    let (method, rest) = first.split_once(' ').unwrap();
    let (target, _) = rest.rsplit_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        match line.split_once(':') {
            Some((name, value)) if !line.starts_with(' ') => {
                fields.push((name.to_ascii_lowercase(), value.to_owned()));
            }
            // A value may go on in the next line.
            _ => fields.last_mut().unwrap().1 += &format!(" {}", line.trim()),
        }
    }
    let headers: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let scope = Scope {
        stamp: "20150830T123600Z".to_owned(),
        region: "us-east-1".to_owned(),
        service: "service".to_owned(),
    };
    let secret = Secret::new(b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec()).unwrap();
    let key = SigningKey::new(&secret, scope);
    let signature = key.sign(&Request {
        method,
        path,
        query,
        headers: &headers,
        payload: &sha256(body.as_bytes()),
        style: PathStyle::Hierarchy,
    });
    format!(
        "{ALGORITHM} Credential=AKIDEXAMPLE/{}, SignedHeaders={}, Signature={signature}",
        key.scope().credential(),
        signed_names(&headers)
    )
}

#[test]
fn every_published_vector_gets_its_signature() {
    let suite = tools::installed().join("aws4_testsuite");
    assert!(
        suite.is_dir(),
        "AWS's test suite is missing; run scripts/test once, it fetches it"
    );
    let mut count = 0;
    let mut visit = vec![suite];
    while let Some(dir) = visit.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit.push(path);
            } else if path.extension().is_some_and(|extension| extension == "req") {
                let read = |path: &Path| std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
                let expected = read(&path.with_extension("authz"));
                let mut text = read(&path);
                // In one of them the token is the signer's to add.
                if expected.contains("x-amz-security-token") && !text.contains("X-Amz-Security-Token") {
                    let whole = read(&path.with_extension("sreq"));
                    let token = whole.lines().find(|line| line.starts_with("X-Amz-Security-Token"));
                    text = text.trim_end().to_owned() + "\n" + token.unwrap();
                }
                assert_eq!(signed(&text), expected.trim(), "{}", path.display());
                count += 1;
            }
        }
    }
    assert!(count > 25, "only {count} vectors were found");
}
