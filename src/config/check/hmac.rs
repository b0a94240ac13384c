//! Signatures by a keyed hash: the template that is signed, and the headers that are filled.

use super::inject::{injected, literal};
use super::scope::Scope;
use super::slots::header;
use crate::base::template::{self, BadTemplate};
use crate::config::hmac::{Clock, Form, Hash, Hmac, Piece};
use crate::config::leaf::Text;
use crate::config::looks::{looks_secret, shown};
use crate::config::raw::RawHmac;
use crate::config::read::{Findings, listed};

/// What may stand in a template, beside `header:NAME` and `secret:NAME`.
const WORDS: &[(&str, Piece)] = &[
    ("method", Piece::Method),
    ("path", Piece::Path),
    ("query", Piece::Query),
    ("path_and_query", Piece::PathAndQuery),
    ("host", Piece::Host),
    ("timestamp", Piece::Timestamp),
    ("nonce", Piece::Nonce),
    ("body", Piece::Body),
    ("body_sha256", Piece::BodyHash(Hash::Sha256, Form::Hex)),
    ("body_sha256_base64", Piece::BodyHash(Hash::Sha256, Form::Base64)),
    ("body_sha512", Piece::BodyHash(Hash::Sha512, Form::Hex)),
    ("body_sha512_base64", Piece::BodyHash(Hash::Sha512, Form::Base64)),
    ("signature", Piece::Signature),
];

/// Reads one.
pub(super) fn check(raw: &RawHmac, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Hmac> {
    let key = injected(&raw.key, scope, found);
    let forms = [("text", Form::Text), ("hex", Form::Hex), ("base64", Form::Base64)];
    let key_form = choice(raw.key_encoding.as_ref(), &forms, found);
    let form = choice(raw.encoding.as_ref(), forms.get(1..).unwrap_or_default(), found);
    let hashes = [("sha256", Hash::Sha256), ("sha512", Hash::Sha512), ("sha1", Hash::Sha1)];
    let hash = choice(raw.algorithm.as_ref(), &hashes, found);
    let clocks = [
        ("seconds", Clock::Seconds),
        ("milliseconds", Clock::Milliseconds),
        ("rfc3339", Clock::Rfc3339),
    ];
    let clock = choice(raw.timestamp.as_ref(), &clocks, found);
    let headers = headers(raw, scope, found);
    let signed = signed(&raw.signed, scope, found);
    let (headers, signed) = (headers?, signed?);
    for piece in &signed {
        if let Piece::Header(name) = piece
            && headers.iter().any(|(filled, _)| filled == name)
        {
            found
                .error(
                    raw.signed.at,
                    format!("`{name}` is filled here, and cannot be what is signed"),
                )
                .hint("sign what it is filled with, such as `${timestamp}`");
            return None;
        }
    }
    Some(Hmac {
        key: key?,
        key_form: key_form?,
        hash: hash?,
        signed,
        form: form?,
        clock: clock?,
        headers,
    })
}

/// One of these words; the first where there is none.
fn choice<T: Copy>(text: Option<&Text>, of: &[(&str, T)], found: &mut Findings<'_>) -> Option<T> {
    let Some(text) = text else {
        return of.first().map(|(_, first)| *first);
    };
    let chosen = of.iter().find(|(word, _)| *word == text.value);
    if chosen.is_none() {
        let words: Vec<&str> = of.iter().map(|(word, _)| *word).collect();
        let what = format!("`{}` is none of {}", shown(text), listed(&words));
        found.error(text.at, what).hint("write one of them");
    }
    chosen.map(|(_, value)| *value)
}

fn headers(
    raw: &RawHmac,
    scope: &mut Scope<'_>,
    found: &mut Findings<'_>,
) -> Option<Vec<(http::HeaderName, Vec<Piece>)>> {
    let mut headers = Vec::new();
    for (name, text) in &raw.headers.0 {
        let (name_read, text) = (header(name, name, found), text.as_ref()?);
        let pieces = pieces(text, scope, found)?;
        let fit = |piece: &Piece| {
            matches!(
                piece,
                Piece::Text(_)
                    | Piece::Secret(_)
                    | Piece::Timestamp
                    | Piece::Nonce
                    | Piece::BodyHash(..)
                    | Piece::Signature
            )
        };
        let control = |piece: &Piece| matches!(piece, Piece::Text(text) if text.chars().any(char::is_control));
        if !pieces.iter().all(fit) || pieces.iter().any(control) {
            found
                .error(
                    text.at,
                    "a header is one line, of the signature, the time, the nonce, hashes of the body and secrets",
                )
                .hint("write it like `\"sha256=${signature}\"`, `\"${timestamp}\"` or `\"${secret:NAME}\"`");
            return None;
        }
        headers.push((name_read?, pieces));
    }
    if !headers.iter().any(|(_, pieces)| pieces.contains(&Piece::Signature)) {
        found
            .error(raw.at, "no header says the signature")
            .hint("add `headers: { x-signature: \"${signature}\" }`");
        return None;
    }
    Some(headers)
}

fn signed(text: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Vec<Piece>> {
    let pieces = pieces(text, scope, found)?;
    let before_last = pieces.split_last().map_or(&[][..], |(_, before)| before);
    if pieces.contains(&Piece::Signature) {
        found
            .error(text.at, "the signature cannot be part of what is signed")
            .hint("it goes under `headers`");
        return None;
    }
    if before_last.contains(&Piece::Body) {
        found
            .error(
                text.at,
                "`${body}` comes last: what stood behind it could be taken for a part of it",
            )
            .hint("put it at the end, or sign `${body_sha256}`");
        return None;
    }
    if !pieces
        .iter()
        .any(|piece| !matches!(piece, Piece::Text(_) | Piece::Secret(_)))
    {
        found
            .error(text.at, "nothing of the request is signed")
            .hint("write it like `\"${timestamp}${method}${path_and_query}${body}\"`");
        return None;
    }
    Some(pieces)
}

fn pieces(text: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Vec<Piece>> {
    if looks_secret(text) {
        literal(text, found);
        return None;
    }
    let read = match template::pieces(text) {
        Ok(read) => read,
        Err(why) => {
            bad(text, &why, found);
            return None;
        }
    };
    let pieces = read.iter().map(|piece| match piece {
        template::Piece::Text(text) => Some(Piece::Text(text.clone())),
        template::Piece::Name(name) => named(name, text, scope, found),
    });
    // All of them, so that each mistake is told.
    let pieces: Vec<Option<Piece>> = pieces.collect();
    pieces.into_iter().collect()
}

fn named(name: &str, text: &Text, scope: &mut Scope<'_>, found: &mut Findings<'_>) -> Option<Piece> {
    let place = text.at.narrowed(found.text, &format!("${{{name}}}"));
    match name.split_once(':') {
        Some(("secret", secret)) => match scope.find_secret(secret) {
            Some(id) => {
                scope.injected.insert(id);
                Some(Piece::Secret(id))
            }
            None => {
                scope.unknown_secret(place.narrowed(found.text, secret), secret, found);
                None
            }
        },
        // Keyferry narrows it after signing.
        Some(("header", "accept-encoding")) => {
            found
                .error(
                    place,
                    "`accept-encoding` cannot be signed: it may change on the way out",
                )
                .hint("take it out");
            None
        }
        Some(("header", name)) => header(name, text, found).map(Piece::Header),
        _ => {
            let known = WORDS
                .iter()
                .find(|(word, _)| *word == name)
                .map(|(_, piece)| piece.clone());
            if known.is_none() {
                let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
                let all = format!("there are {}, `header:NAME` and `secret:NAME`", listed(&words));
                found
                    .error(place, format!("`{}` is nothing that can be signed", shown(name)))
                    .hint(all);
            }
            known
        }
    }
}

fn bad(text: &Text, why: &BadTemplate, found: &mut Findings<'_>) {
    let place = text.at.narrowed(found.text, "${");
    found
        .error(place, why.to_string())
        .hint("write `${NAME}`, or `$$` for a dollar sign");
}
