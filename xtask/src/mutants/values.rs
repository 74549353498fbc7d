//! What a function might answer without looking at anything: values like the defaults of its type.

use std::collections::BTreeMap;

use syn::{GenericArgument, Item, PathArguments, ReturnType, Type, TypeParamBound, TypePath};

/// At most so many per function: pairs of options have many.
const VALUES_MAX: usize = 6;

/// What a function answers at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The value of this expression.
    Value(String),
    /// An iterator that has already come to its end.
    NoItems,
}

/// The types of a crate whose values can be named: enumerations by their plain variants, and other names of types.
#[derive(Default)]
pub struct Types {
    /// By the name of the enumeration and the file that has it: the first plain variant, and the last.
    plain: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    aliases: BTreeMap<String, Type>,
}

impl Types {
    /// Takes note of the types that a file declares.
    pub fn learn(&mut self, path: &str, items: &[Item]) {
        for item in items {
            match item {
                Item::Enum(declared) => {
                    let plain = declared
                        .variants
                        .iter()
                        .filter(|variant| variant.fields.is_empty());
                    let mut plain: Vec<_> = plain.map(|variant| variant.ident.to_string()).collect();
                    if plain.len() > 2 {
                        plain.drain(1..plain.len() - 1);
                    }
                    let files = self.plain.entry(declared.ident.to_string()).or_default();
                    files.insert(path.to_owned(), plain);
                }
                Item::Type(alias) if alias.generics.params.is_empty() => {
                    self.aliases.insert(alias.ident.to_string(), (*alias.ty).clone());
                }
                Item::Mod(module) => {
                    if let Some((_, items)) = &module.content {
                        self.learn(path, items);
                    }
                }
                _ => {}
            }
        }
    }

    /// What a function of this type, in the file at `path`, might answer. The compiler has the last word on whether
    /// it may.
    pub fn answers(&self, path: &str, output: &ReturnType) -> Vec<Answer> {
        let ReturnType::Type(_, of) = output else {
            return vec![Answer::Value(String::from("()"))];
        };
        if let Type::ImplTrait(of) = &**of {
            let is_iterator = |bound: &TypeParamBound| {
                matches!(bound, TypeParamBound::Trait(bound)
                    if bound.path.segments.last().is_some_and(|last| last.ident == "Iterator"))
            };
            let no_items = of.bounds.iter().any(is_iterator).then_some(Answer::NoItems);
            return no_items.into_iter().collect();
        }
        let mut values = self.values(path, of);
        values.truncate(VALUES_MAX);
        values.into_iter().map(Answer::Value).collect()
    }

    fn values(&self, file: &str, of: &Type) -> Vec<String> {
        match of {
            Type::Tuple(tuple) => {
                let none = vec![Vec::new()];
                let rows = tuple.elems.iter().fold(none, |rows, element| {
                    let values = self.values(file, element);
                    let longer = |row: &Vec<String>| {
                        let row = row.clone();
                        values
                            .clone()
                            .into_iter()
                            .map(move |value| [row.clone(), vec![value]].concat())
                    };
                    rows.iter().flat_map(longer).collect()
                });
                rows.into_iter().map(|row| tuple_of(&row)).collect()
            }
            Type::Reference(to) => match &*to.elem {
                Type::Slice(_) => own(&["&mut []"]),
                Type::Path(path) if path.path.is_ident("str") => own(&["\"\"", "\"xyzzy\""]),
                to => wrapped(
                    "::std::boxed::Box::leak(::std::boxed::Box::new(",
                    self.values(file, to),
                    "))",
                ),
            },
            Type::Paren(inner) => self.values(file, &inner.elem),
            Type::Path(path) => self.named(file, path),
            _ => Vec::new(),
        }
    }

    fn named(&self, file: &str, path: &TypePath) -> Vec<String> {
        let Some(last) = path.path.segments.last() else {
            return Vec::new();
        };
        let of = arguments(&last.arguments);
        let name = last.ident.to_string();
        match (name.as_str(), of.as_slice()) {
            ("bool", _) => own(&["true", "false"]),
            ("u8" | "u16" | "u32" | "u64" | "u128" | "usize", _) => own(&["0", "1"]),
            ("i8" | "i16" | "i32" | "i64" | "i128" | "isize", _) => own(&["0", "1", "-1"]),
            ("String" | "Name", _) => own(&["\"\".into()", "\"xyzzy\".into()"]),
            ("Option", [of]) => [own(&["None"]), wrapped("Some(", self.values(file, of), ")")].concat(),
            ("Result", [of, ..]) => wrapped("Ok(", self.values(file, of), ")"),
            // `fmt::Result`
            ("Result", []) => own(&["Ok(())"]),
            ("Vec", [of]) => {
                let first = self.values(file, of).into_iter().take(1).collect();
                [
                    own(&["::std::vec::Vec::new()"]),
                    wrapped("::std::vec::Vec::from([", first, "])"),
                ]
                .concat()
            }
            ("Box", [of]) => wrapped("::std::boxed::Box::new(", self.values(file, of), ")"),
            ("Arc", [of]) => wrapped("::std::sync::Arc::new(", self.values(file, of), ")"),
            _ => match (
                self.aliases.get(&name),
                self.plain_variants(file, &name).as_slice(),
            ) {
                (Some(of), _) if !is_named(of, &name) => self.values(file, of),
                (_, []) => own(&["Default::default()"]),
                (_, plain) => plain.iter().map(|name| variant(path, name)).collect(),
            },
        }
    }

    /// Of the enumeration of that name in the same file, else of all that are called so.
    fn plain_variants(&self, file: &str, name: &str) -> Vec<&str> {
        let Some(files) = self.plain.get(name) else {
            return Vec::new();
        };
        let here = files.get(file).map(|here| vec![here]);
        let plain = here.unwrap_or_else(|| files.values().collect());
        plain.into_iter().flatten().map(String::as_str).collect()
    }
}

fn is_named(of: &Type, name: &str) -> bool {
    matches!(of, Type::Path(of) if of.path.segments.last().is_some_and(|last| last.ident == name))
}

fn arguments(arguments: &PathArguments) -> Vec<&Type> {
    let PathArguments::AngleBracketed(angled) = arguments else {
        return Vec::new();
    };
    let types = angled.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(of) => Some(of),
        _ => None,
    });
    types.collect()
}

fn variant(path: &TypePath, name: &str) -> String {
    let words: Vec<_> = path
        .path
        .segments
        .iter()
        .map(|segment| segment.ident.to_string())
        .collect();
    format!("{}::{name}", words.join("::"))
}

fn tuple_of(row: &[String]) -> String {
    match row {
        [only] => format!("({only},)"),
        _ => format!("({})", row.join(", ")),
    }
}

fn own(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| String::from(*value)).collect()
}

fn wrapped(before: &str, values: Vec<String>, behind: &str) -> Vec<String> {
    values
        .into_iter()
        .map(|value| format!("{before}{value}{behind}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(signature: &str) -> Vec<String> {
        let mut types = Types::default();
        let file: syn::File =
            syn::parse_str("enum Phase { A, B(u8), C, D } type Verdict = Result<Phase, String>;").unwrap();
        types.learn("a.rs", &file.items);
        let signature: syn::Signature = syn::parse_str(signature).unwrap();
        let answers = types.answers("a.rs", &signature.output).into_iter();
        answers
            .map(|answer| match answer {
                Answer::Value(value) => value.replace("::std::", "").replace("boxed::", ""),
                Answer::NoItems => String::from("no items"),
            })
            .collect()
    }

    #[test]
    fn a_function_might_answer_what_its_type_suggests() {
        for (signature, expected) in [
            ("fn f()", &["()"][..]),
            ("fn f() -> bool", &["true", "false"]),
            ("fn f() -> Result<(), E>", &["Ok(())"]),
            ("fn f() -> fmt::Result", &["Ok(())"]),
            (
                "fn f() -> Option<(u8, Phase)>",
                &[
                    "None",
                    "Some((0, Phase::A))",
                    "Some((0, Phase::D))",
                    "Some((1, Phase::A))",
                    "Some((1, Phase::D))",
                ],
            ),
            (
                "fn f() -> Option<&Thing>",
                &["None", "Some(Box::leak(Box::new(Default::default())))"],
            ),
            (
                "fn f() -> Vec<Name>",
                &["vec::Vec::new()", "vec::Vec::from([\"\".into()])"],
            ),
            ("fn f() -> other::Verdict", &["Ok(Phase::A)", "Ok(Phase::D)"]),
            ("fn f() -> impl Iterator<Item = u8>", &["no items"]),
            ("fn f() -> impl Fn()", &[]),
            ("fn f() -> &[Row]", &["&mut []"]),
            ("fn f() -> &'static str", &["\"\"", "\"xyzzy\""]),
            ("fn f() -> Self", &["Default::default()"]),
        ] {
            assert_eq!(answers(signature), expected, "{signature}");
        }
    }
}
