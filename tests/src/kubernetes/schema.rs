//! What a CRD says of its objects: defaults are filled in, unknown fields dropped, and the rules of its schema
//! enforced, as an API server does. Rules written in CEL are not evaluated; they are there to be read.

use std::fmt;

use anyhow::{Context, Result};
use regex::Regex;
use serde_json::{Map, Value};

/// What no schema needs to name.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// A CRD with one version.
#[derive(Debug, Clone)]
pub struct Crd {
    whole: Value,
    schema: Value,
}

/// A rule that an object breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field, such as `spec.containers[0].image`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Crd {
    /// Reads a manifest.
    pub fn read(yaml: &str) -> Result<Crd> {
        let whole: Value = serde_saphyr::from_str(yaml).context("a CRD in YAML")?;
        let schema = whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        Ok(Crd { whole, schema })
    }

    /// Group and version of its objects.
    pub fn api_version(&self) -> String {
        let spec = &self.whole["spec"];
        format!("{}/{}", text(&spec["group"]), text(&spec["versions"][0]["name"]))
    }

    /// The kind of its objects.
    pub fn kind(&self) -> String {
        text(&self.whole["spec"]["names"]["kind"])
    }

    /// By which its objects are asked for.
    pub fn plural(&self) -> String {
        text(&self.whole["spec"]["names"]["plural"])
    }

    /// Whether its objects belong to namespaces.
    pub fn is_namespaced(&self) -> bool {
        self.whole["spec"]["scope"] == "Namespaced"
    }

    /// Whether status is a subresource.
    pub fn has_status(&self) -> bool {
        self.whole["spec"]["versions"][0]["subresources"]["status"].is_object()
    }

    /// Every rule of its schema that is written in CEL, with the field it stands at.
    pub fn cel_rules(&self) -> Vec<(String, String)> {
        let mut rules = Vec::new();
        collect_rules(&self.schema, "", &mut rules);
        rules
    }

    /// Lets an object in: fills in defaults, drops what is not known, and checks it.
    ///
    /// # Errors
    /// Every rule that it breaks.
    pub fn admit(&self, object: &mut Value, _before: Option<&Value>) -> Result<(), Vec<Fault>> {
        if let (Some(fields), Some(properties)) =
            (object.as_object_mut(), self.schema["properties"].as_object())
        {
            for (name, schema) in properties {
                if OF_EVERY_OBJECT.contains(&name.as_str()) {
                    continue;
                }
                if let Some(value) = fields.get_mut(name) {
                    shape(value, schema);
                }
            }
            fields
                .retain(|name, _| OF_EVERY_OBJECT.contains(&name.as_str()) || properties.contains_key(name));
        }
        let mut faults = Vec::new();
        check_object(object, &self.schema, "", &mut faults);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Fills in defaults and drops what is not known.
fn shape(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(properties) = schema["properties"].as_object() {
                // A null where there may be none counts as absent.
                fields.retain(|name, value| properties.contains_key(name) && !value.is_null());
                for (name, schema) in properties {
                    if !fields.contains_key(name) && !schema["default"].is_null() {
                        fields.insert(name.clone(), schema["default"].clone());
                    }
                    if let Some(value) = fields.get_mut(name) {
                        shape(value, schema);
                    }
                }
            } else if schema["additionalProperties"].is_object() {
                fields
                    .values_mut()
                    .for_each(|value| shape(value, &schema["additionalProperties"]));
            } else if schema["x-kubernetes-preserve-unknown-fields"] != true {
                fields.clear();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shape(item, &schema["items"])),
        _ => {}
    }
}

fn check(value: &Value, schema: &Value, at: &str, faults: &mut Vec<Fault>) {
    let mut fault = |message: String| {
        faults.push(Fault {
            field: at.to_owned(),
            message,
        });
    };
    let wanted = schema["type"].as_str().unwrap_or_default();
    let is_right = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    if !is_right {
        return fault(format!("must be of type {wanted}"));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        fault(format!("supported values: {words:?}"));
    }
    match value {
        Value::String(text) => {
            bound(
                schema,
                ["minLength", "maxLength"],
                text.chars().count(),
                &mut fault,
            );
            if let Some(pattern) = schema["pattern"].as_str() {
                match Regex::new(pattern) {
                    Ok(regex) if regex.is_match(text) => {}
                    Ok(_) => fault(format!("should match {pattern:?}")),
                    Err(error) => fault(format!("the CRD has a pattern that is none: {error}")),
                }
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if schema["minimum"].as_f64().is_some_and(|least| number < least) {
                fault(format!("must be at least {}", schema["minimum"]));
            }
            if schema["maximum"].as_f64().is_some_and(|most| number > most) {
                fault(format!("must be at most {}", schema["maximum"]));
            }
        }
        Value::Array(items) => {
            bound(schema, ["minItems", "maxItems"], items.len(), &mut fault);
            for (index, item) in items.iter().enumerate() {
                check(item, &schema["items"], &format!("{at}[{index}]"), faults);
            }
        }
        Value::Object(fields) => {
            bound(
                schema,
                ["minProperties", "maxProperties"],
                fields.len(),
                &mut fault,
            );
            check_object(value, schema, at, faults);
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_object(value: &Value, schema: &Value, at: &str, faults: &mut Vec<Fault>) {
    let empty = Map::new();
    let fields = value.as_object().unwrap_or(&empty);
    let child = |name: &str| {
        if at.is_empty() {
            name.to_owned()
        } else {
            format!("{at}.{name}")
        }
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(&text(name)) {
            faults.push(Fault {
                field: child(&text(name)),
                message: "Required value".to_owned(),
            });
        }
    }
    for (name, value) in fields {
        let known = &schema["properties"][name];
        let schema = if known.is_null() {
            &schema["additionalProperties"]
        } else {
            known
        };
        if schema.is_object() && !(at.is_empty() && name == "metadata") {
            check(value, schema, &child(name), faults);
        }
    }
}

fn bound(schema: &Value, [least, most]: [&str; 2], count: usize, fault: &mut impl FnMut(String)) {
    let count = count as u64;
    if schema[least].as_u64().is_some_and(|least| count < least) {
        fault(format!("{least} is {}, and it has {count}", schema[least]));
    }
    if schema[most].as_u64().is_some_and(|most| count > most) {
        fault(format!("{most} is {}, and it has {count}", schema[most]));
    }
}

fn collect_rules(schema: &Value, at: &str, rules: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        rules.push((at.to_owned(), text(&rule["rule"])));
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let below = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        collect_rules(schema, &below, rules);
    }
    if schema["items"].is_object() {
        collect_rules(&schema["items"], &format!("{at}[]"), rules);
    }
    if schema["additionalProperties"].is_object() {
        collect_rules(&schema["additionalProperties"], &format!("{at}{{}}"), rules);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
