//! The small pieces raw types are made of: texts, numbers with units, lists, named maps.

use super::looks::shown;
use super::place::Place;
use super::read::{Findings, Read};
use super::tree::{Node, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::ops::Deref;
use std::time::Duration;

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// A text with its place.
pub(super) type Text = At<String>;

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Read> Read for At<T> {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        T::read(node, found).map(|value| Self { value, at: node.at })
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: Read> Read for Option<T> {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        T::read(node, found).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl Read for String {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        if let Some(text) = found.scalar(node) {
            return Some(text.to_owned());
        }
        let mistake = found.wrong_type(node, "a text");
        if matches!(node.value, Value::Bool(_)) {
            mistake.hint("put it in quotes");
        }
        None
    }
}

impl Read for bool {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                found.wrong_type(node, "true or false");
                None
            }
        }
    }
}

impl Read for u32 {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        let number = found.scalar(node).and_then(|text| text.parse().ok());
        if number.is_none() {
            found.error(node.at, format!("expected a whole number from 0 to {}", u32::MAX));
        }
        number
    }
}

/// Several of a kind, as a list.
impl<T: Read> Read for Vec<T> {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            found.wrong_type(node, "a list").hint("begin each item with `- `");
            return None;
        };
        let read: Vec<T> = items.iter().filter_map(|item| T::read(item, found)).collect();
        (read.len() == items.len() || !read.is_empty()).then_some(read)
    }
}

/// One, or a list of several.
#[derive(Debug, Clone)]
pub(super) struct Many<T>(pub(super) Vec<T>);

impl<T: Read> Read for Many<T> {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        match &node.value {
            Value::List(_) => Vec::read(node, found).map(Self),
            _ => T::read(node, found).map(|one| Self(vec![one])),
        }
    }
}

impl<T: JsonSchema> JsonSchema for Many<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Many_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

/// A map from names the user chooses, in order of writing. A value that could not be read is kept
/// as `None`, so that its name is known all the same.
#[derive(Debug, Clone)]
pub(super) struct Named<T>(pub(super) Vec<(Text, Option<T>)>);

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            found.wrong_type(node, "a map of names");
            return None;
        };
        let mut seen = std::collections::HashSet::new();
        let mut named = Vec::new();
        for (key, value) in entries {
            let Some(name) = Text::read(key, found) else { continue };
            if !seen.insert(name.value.clone()) {
                found
                    .error(name.at, format!("`{}` is given twice", shown(&name)))
                    .hint("give one of them another name");
                continue;
            }
            named.push((name, T::read(value, found)));
        }
        Some(Self(named))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let each = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": each })
    }
}

/// A span of time: `500ms`, `30s`, `10m`, `24h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lasting(pub(super) Duration);

/// A number of bytes: `512`, `64KiB`, `32MiB`, `10MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl Lasting {
    /// Reads a number and its unit, joined or parted by spaces; zero is no span.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_number(text)?;
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" | "sec" => Duration::from_secs(1),
            "m" | "min" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86_400),
            _ => return None,
        };
        let whole = unit.checked_mul(u32::try_from(number).ok()?)?;
        (!whole.is_zero()).then_some(Self(whole))
    }
}

impl Bytes {
    /// Reads a number and its unit, joined or parted by spaces; zero is no size.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_number(text)?;
        let unit: u64 = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => return None,
        };
        number.checked_mul(unit).filter(|n| *n > 0).map(Self)
    }
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim()))
}

impl Read for Lasting {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        let read = found.scalar(node).and_then(Self::parse);
        if read.is_none() {
            found
                .error(node.at, "expected a span of time longer than zero, with its unit")
                .hint("write it like `500ms`, `30s`, `10m`, `24h` or `7d`");
        }
        read
    }
}

impl Read for Bytes {
    fn read(node: &Node, found: &mut Findings<'_>) -> Option<Self> {
        let read = found.scalar(node).and_then(Self::parse);
        if read.is_none() {
            found
                .error(node.at, "expected a number of bytes above zero")
                .hint("write it like `4096`, `64KiB`, `32MiB`, `10MB` or `1GiB`");
        }
        read
    }
}

impl JsonSchema for Lasting {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|sec|m|min|h|d)$" })
    }
}

impl JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": 1,
            "pattern": "^[0-9]+ *(B|KiB|MiB|GiB|kB|KB|MB|GB)?$"
        })
    }
}
