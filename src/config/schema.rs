//! The JSON schema of the config, for editors and for the reference.

use super::presets;
use super::raw::RawConfig;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value as Json, json};

/// The schema of `keyferry.yaml` (JSON Schema 2020-12).
pub fn schema() -> Json {
    let mut schema = schema_of::<RawConfig>();
    if let Some(Json::Object(preset)) = schema.pointer_mut("/$defs/RawRule/properties/preset") {
        let names: Vec<&str> = presets::all().iter().map(|p| p.name).collect();
        preset.insert("enum".to_owned(), json!(names));
    }
    if let Json::Object(root) = &mut schema {
        root.insert("title".to_owned(), json!("keyferry.yaml"));
    }
    schema
}

/// The schema of one type as it is written.
pub(super) fn schema_of<T: JsonSchema>() -> Json {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    without_null(&mut schema);
    schema
}

/// Takes `null` out of every choice: a key may be left out, but not left empty.
fn without_null(schema: &mut Json) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(without_null),
        Json::Object(map) => {
            map.values_mut().for_each(without_null);
            if let Some(Json::Array(types)) = map.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            let Some(Json::Array(choices)) = map.get_mut("anyOf") else {
                return;
            };
            choices.retain(|choice| *choice != json!({ "type": "null" }));
            if let [Json::Object(only)] = choices.as_slice() {
                let only = only.clone();
                map.remove("anyOf");
                // What is said of the key beats what is said of its type.
                for (key, value) in only {
                    map.entry(key).or_insert(value);
                }
            }
        }
        _ => {}
    }
}
