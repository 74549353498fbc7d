//! The diagrams and tables in the documentation are those of the code.
//!
//! `REWRITE=1 cargo test -p holdfast-core --test documented` writes them anew.

use holdfast_core::node::operation;
use holdfast_core::table::{Kind, Table};
use holdfast_core::{actor, bounds, lease, licence, pull, session, worker};
use std::path::Path;

#[test]
fn what_the_documentation_says_of_states_is_what_the_tables_say() {
    let bounds = ("bounds", format!("\n{}\n", bounds::markdown()));
    documented("protocol.md", &[section(&actor::TABLE), bounds]);
    documented(
        "states.md",
        &[
            section(&worker::TABLE),
            section(&lease::TABLE),
            section(&pull::TABLE),
            section(&operation::TABLE),
            section(&session::TABLE),
            section(&licence::TABLE),
        ],
    );
}

/// The name of a record, and its table as it is to be documented.
fn section<S: Kind, E: Kind>(table: &Table<S, E>) -> (&'static str, String) {
    let (diagram, rows) = (table.diagram(), table.markdown());
    (table.record(), format!("\n```mermaid\n{diagram}```\n\n{rows}\n"))
}

fn documented(file: &str, sections: &[(&str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
    let found = std::fs::read_to_string(&path).unwrap();
    let expected = sections.iter().fold(found.clone(), replaced);
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, expected).unwrap();
    } else {
        assert!(
            found == expected,
            "docs/{file} differs from the tables: REWRITE=1 cargo test -p holdfast-core --test documented"
        );
    }
}

fn replaced(text: String, (record, section): &(&str, String)) -> String {
    let (begin, end) = (format!("<!-- table of {record} -->\n"), "<!-- end of table -->");
    let (before, rest) = text.split_once(&begin).expect(&begin);
    let (_, after) = rest.split_once(end).expect(end);
    format!("{before}{begin}{section}{end}{after}")
}
