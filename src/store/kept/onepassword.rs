//! 1Password: a Connect server, or its own program.

use super::super::Inner;
use super::super::error::Cause;
use super::super::exec::{self, Around};
use super::super::remote::{answered, unfit};
use super::super::source::Shape;
use super::{Whole, ask, refused};
use crate::base::endpoint::Endpoint;
use crate::config::kept::{OnePassword, OnePasswordBy};
use crate::config::mint::Uses;
use crate::net::errand::Told;
use crate::sign::{picked, said};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// Reads a field of an item.
pub(super) async fn read(inner: &Arc<Inner>, spec: &OnePassword, timeout: Duration) -> Result<Whole, Cause> {
    match &spec.by {
        OnePasswordBy::Connect { at, token } => connect(inner, spec, at, token).await,
        OnePasswordBy::Program { program, token } => {
            let held = inner.used(token).await?;
            let shown = said::variable(&held.secret).ok_or_else(|| unfit(token, "it is no text"))?;
            let section = spec
                .section
                .as_ref()
                .map_or(String::new(), |section| format!("{section}/"));
            let reference = format!("op://{}/{}/{section}{}", spec.vault, spec.item, spec.field);
            let argv = [program.as_str(), "read", "--no-newline", &reference].map(str::to_owned);
            let around = Around::Only("OP_SERVICE_ACCOUNT_TOKEN", shown);
            let secret = exec::run(&argv, timeout, &Shape::whole(), around).await?;
            Ok(Whole { secret, at: reference })
        }
    }
}

async fn connect(inner: &Arc<Inner>, spec: &OnePassword, at: &Endpoint, token: &Uses) -> Result<Whole, Cause> {
    let asked = async |path: String| {
        let at = at.join(&path).ok_or(Cause::Unknown)?;
        let told = ask(inner, (&at, None), token).await?;
        match told.status.is_success() {
            true => Ok((at, told)),
            false => Err(refused(&at, &told)),
        }
    };
    let vault = match is_id(&spec.vault) {
        true => spec.vault.clone(),
        false => {
            let (at, told) = asked(format!("/v1/vaults?filter={}", filter("name", &spec.vault))).await?;
            the_only(&at, &told, "vault")?
        }
    };
    let items = format!("/v1/vaults/{vault}/items");
    let item = match is_id(&spec.item) {
        true => spec.item.clone(),
        false => {
            let (at, told) = asked(format!("{items}?filter={}", filter("title", &spec.item))).await?;
            the_only(&at, &told, "item")?
        }
    };
    let (at, told) = asked(format!("{items}/{item}")).await?;
    let place = place_of(&told.body, spec).map_err(|why| answered(&at, &told, why))?;
    let secret = picked::text(&told.body, &["fields", &place.to_string(), "value"]);
    let secret = secret.ok_or_else(|| answered(&at, &told, format!("nothing is in the field `{}`", spec.field)))?;
    let at = at.to_string();
    Ok(Whole { secret, at })
}

/// A filter of SCIM's (RFC 7644 §3.4.2.2), as it stands in a query.
fn filter(attribute: &str, value: &str) -> String {
    utf8_percent_encode(&format!("{attribute} eq \"{value}\""), NON_ALPHANUMERIC).to_string()
}

/// Whether it is an id, and no title: 26 letters and digits.
fn is_id(text: &str) -> bool {
    text.len() == 26 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// The id of the only one in a list.
fn the_only(at: &Endpoint, told: &Told, what: &str) -> Result<String, Cause> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let list: Vec<Named> =
        serde_json::from_slice(&told.body).map_err(|_| answered(at, told, "its answer is no list"))?;
    match &list[..] {
        [one] if is_id(&one.id) => Ok(one.id.clone()),
        [] => Err(answered(
            at,
            told,
            format!("there is no such {what}, or the token may not read it"),
        )),
        [_] => Err(answered(at, told, "its answer holds no id")),
        _ => Err(answered(
            at,
            told,
            format!("several {what}s are called so; name it by its id"),
        )),
    }
}

/// The position of the field among those of the item.
fn place_of(item: &[u8], spec: &OnePassword) -> Result<usize, &'static str> {
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        fields: Vec<Field>,
        #[serde(default)]
        sections: Vec<Section>,
    }
    #[derive(Deserialize)]
    struct Field {
        id: Option<String>,
        label: Option<String>,
        section: Option<Section>,
    }
    #[derive(Deserialize)]
    struct Section {
        id: Option<String>,
        label: Option<String>,
    }
    let item: Item = serde_json::from_slice(item).map_err(|_| "its answer is no item")?;
    let called = |(id, label): (&Option<String>, &Option<String>), name: &str| {
        id.as_deref() == Some(name) || label.as_deref() == Some(name)
    };
    let within = |field: &Field| {
        let Some(wanted) = &spec.section else { return true };
        let Some(id) = field.section.as_ref().and_then(|section| section.id.as_ref()) else {
            return false;
        };
        let section = item.sections.iter().find(|section| section.id.as_ref() == Some(id));
        id == wanted || section.is_some_and(|section| called((&section.id, &section.label), wanted))
    };
    let fields = item.fields.iter().enumerate();
    let mut found = fields.filter(|(_, field)| called((&field.id, &field.label), &spec.field) && within(field));
    match (found.next(), found.next()) {
        (Some((place, _)), None) => Ok(place),
        (None, _) => Err("the item has no such field"),
        _ => Err("several fields of the item are called so; name its section, or it by its id"),
    }
}
