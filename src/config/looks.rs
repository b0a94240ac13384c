//! Tells what looks like a credential, so that one written into the config by mistake is refused
//! and never printed back.

use std::ops::Range;

/// Beginnings that issuers give to their credentials.
const PREFIXES: &[&str] = &[
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "hf_",
    "AKIA",
    "ASIA",
    "AIza",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-",
    "SG.",
    "ya29.",
    "eyJ",
    "gsk_",
    "xai-",
    "pplx-",
    "r8_",
    "tvly-",
    "lin_api_",
    "ntn_",
    "secret_",
    "dop_v1_",
    "dckr_pat_",
    "AGE-SECRET-KEY-",
];

/// Shorter runs are words, not credentials.
const SHORTEST: usize = 12;

/// Whether a text holds something that looks like a credential.
pub(super) fn looks_secret(text: &str) -> bool {
    secrets(text).next().is_some()
}

/// The text with as many stars in place of each credential; no byte moves.
pub(super) fn masked(text: &str) -> String {
    let mut out = text.to_owned();
    for range in secrets(text) {
        let stars = "*".repeat(range.len());
        out.replace_range(range, &stars);
    }
    out
}

/// Where credentials seem to stand. From the first sign of one to the end of its run, as what
/// follows a slash may be more of it.
fn secrets(text: &str) -> impl Iterator<Item = Range<usize>> {
    runs(text).filter_map(|(at, run)| {
        let mut start = 0;
        for piece in run.split_inclusive(['/', '+', '=', '~']) {
            if run_looks_secret(piece.trim_end_matches(['/', '+', '=', '~'])) {
                return Some(at + start..at + run.len());
            }
            start += piece.len();
        }
        None
    })
}

/// A value as a message may show it: masked, of one line, and short.
pub(super) fn shown(value: &str) -> String {
    const LONGEST: usize = 60;
    let clean: String = masked(value)
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    match clean.char_indices().nth(LONGEST) {
        None => clean,
        Some((cut, _)) => format!("{}…", clean.get(..cut).unwrap_or_default()),
    }
}

/// Runs of the characters credentials are made of, each with its first byte's position.
fn runs(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '/' | '=' | '~');
    let mut rest = 0;
    std::iter::from_fn(move || {
        let tail = text.get(rest..)?;
        let start = rest + tail.find(part)?;
        let tail = text.get(start..)?;
        let length = tail.find(|c| !part(c)).unwrap_or(tail.len());
        rest = start + length;
        Some((start, tail.get(..length)?))
    })
}

fn run_looks_secret(run: &str) -> bool {
    if run.len() < SHORTEST {
        return false;
    }
    PREFIXES
        .iter()
        .any(|p| run.starts_with(p) && tail_is_random(run.get(p.len()..).unwrap_or_default()))
        || (run.len() >= 32 && is_mixed(run))
}

/// A name such as `secret_for-billing` is no credential: a random tail has a digit, or an upper-case
/// letter after a lower-case one.
fn tail_is_random(tail: &str) -> bool {
    tail.bytes().any(|b| b.is_ascii_digit()) || tail.bytes().any(|b| b.is_ascii_uppercase())
}

/// Letters of both cases and digits in one long run without the marks of a path or a host name.
fn is_mixed(run: &str) -> bool {
    let has = |wanted: fn(&u8) -> bool| run.as_bytes().iter().any(wanted);
    let digits = run.bytes().filter(u8::is_ascii_digit).count();
    has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && digits >= 3 && !run.contains(['/', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_told_from_names() {
        for secret in [
            "Bearer sk-ant-api03-abcdefgh",
            "ghp_0123456789abcdef0123",
            "AKIAIOSFODNN7EXAMPLE",
            "key=wJalrXUtnFEMI1K7MDENG2bPxRfi3CYEXAMPLEKEY",
            "https://glpat-0123456789abcdef@host/path",
        ] {
            assert!(looks_secret(secret), "{secret}");
        }
        for name in [
            "ANTHROPIC_API_KEY",
            "/run/secrets/keyferry-admin",
            "https://auth.crm.example/token",
            "api.anthropic.com",
            "sk-name",
            "secret_for-billing",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }

    #[test]
    fn a_mask_moves_no_byte() {
        let text = "value: \"Bearer sk-ant-api03-abcdefgh\" # é";
        let masked = masked(text);
        assert_eq!(masked.len(), text.len());
        assert!(!masked.contains("abcdefgh") && masked.ends_with("\" # é"));
    }
}
