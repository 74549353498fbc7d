//! The proto files say what `wire.txt` says, no more and no less.

use std::collections::BTreeSet;
use std::fmt::Write;

use holdfast_rpc::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
};

#[test]
fn no_name_number_or_type_on_the_wire_has_changed() {
    let expected: BTreeSet<String> = include_str!("wire.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let actual = Wire::of(&FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap());
    let missing: Vec<_> = expected.difference(&actual).collect();
    let unexpected: Vec<_> = actual.difference(&expected).collect();
    assert!(
        missing.is_empty() && unexpected.is_empty(),
        "wire.txt says {missing:#?}\nthe proto files say {unexpected:#?}"
    );
}

/// Renders descriptors as the lines of `wire.txt`.
struct Wire<'a> {
    package: &'a str,
    lines: BTreeSet<String>,
}

impl Wire<'_> {
    fn of(files: &FileDescriptorSet) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for file in &files.file {
            assert_eq!(file.syntax(), "proto3", "{}", file.name());
            let mut wire = Wire {
                package: file.package(),
                lines,
            };
            file.service.iter().for_each(|service| wire.service(service));
            file.enum_type.iter().for_each(|values| wire.values(values, ""));
            file.message_type
                .iter()
                .for_each(|message| wire.message(message, ""));
            lines = wire.lines;
        }
        lines
    }

    /// `.package.Name` as it is written inside the package.
    fn short(&self, name: &str) -> String {
        let own = format!(".{}.", self.package);
        name.strip_prefix(&own)
            .unwrap_or_else(|| name.trim_start_matches('.'))
            .to_owned()
    }

    fn service(&mut self, service: &ServiceDescriptorProto) {
        let mut line = format!("service {}.{}:", self.package, service.name());
        let stream = |streaming: bool| if streaming { "stream " } else { "" };
        for method in &service.method {
            let (input, output) = (self.short(method.input_type()), self.short(method.output_type()));
            let (sends, answers) = (
                stream(method.client_streaming()),
                stream(method.server_streaming()),
            );
            write!(line, " {}({sends}{input})->{answers}{output}", method.name()).unwrap();
        }
        self.lines.insert(line);
    }

    fn values(&mut self, values: &EnumDescriptorProto, outer: &str) {
        let mut line = format!("enum {}.{outer}{}:", self.package, values.name());
        for value in &values.value {
            write!(line, " {}={}", value.name(), value.number()).unwrap();
        }
        self.lines.insert(line);
    }

    fn message(&mut self, message: &DescriptorProto, outer: &str) {
        let mut line = format!("message {}.{outer}{}:", self.package, message.name());
        for field in &message.field {
            write!(
                line,
                " {}:{} {}",
                field.number(),
                field.name(),
                self.field(field, message)
            )
            .unwrap();
        }
        for range in &message.reserved_range {
            assert_eq!(
                range.end() - range.start(),
                1,
                "ranges are written number by number"
            );
            write!(line, " reserved {}", range.start()).unwrap();
        }
        self.lines.insert(line);
        let outer = format!("{outer}{}.", message.name());
        message
            .enum_type
            .iter()
            .for_each(|values| self.values(values, &outer));
        let nested = message.nested_type.iter().filter(|nested| !is_map_entry(nested));
        for nested in nested {
            self.message(nested, &outer);
        }
    }

    fn field(&self, field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
        let entry = message.nested_type.iter().find(|nested| {
            is_map_entry(nested)
                && field
                    .type_name()
                    .ends_with(&format!(".{}.{}", message.name(), nested.name()))
        });
        if let Some(entry) = entry {
            return format!(
                "map<{},{}>",
                self.kind(&entry.field[0]),
                self.kind(&entry.field[1])
            );
        }
        let kind = self.kind(field);
        if field.label() == Label::Repeated {
            return format!("{kind}*");
        }
        if field.proto3_optional() {
            return format!("{kind}?");
        }
        match field.oneof_index {
            Some(index) => format!(
                "{kind}|{}",
                message.oneof_decl[usize::try_from(index).unwrap()].name()
            ),
            None => kind,
        }
    }

    fn kind(&self, field: &FieldDescriptorProto) -> String {
        match field.r#type() {
            Type::String => "string".to_owned(),
            Type::Bytes => "bytes".to_owned(),
            Type::Bool => "bool".to_owned(),
            Type::Int32 => "int32".to_owned(),
            Type::Int64 => "int64".to_owned(),
            Type::Uint64 => "uint64".to_owned(),
            Type::Message | Type::Enum => self.short(field.type_name()),
            other => panic!("wire.txt has no word for {other:?}"),
        }
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message
        .options
        .as_ref()
        .is_some_and(|options| options.map_entry())
}
