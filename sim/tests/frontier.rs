//! The picture in the documentation shows what is measured today.
//!
//! `REWRITE=1 cargo test -p holdfast-sim --test frontier` draws it anew.

use holdfast_core::bounds::Bound;
use holdfast_sim::frontier::{Answer, Grid, answer, picture};
use std::path::Path;

#[test]
fn the_picture_in_the_documentation_is_what_is_measured() {
    let answers: Vec<Answer> = Grid::default().points().iter().map(answer).collect();
    let wrong: Vec<&Answer> = answers.iter().filter(|answer| !answer.holds()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let drawn = picture::svg(&answers, &Bound::LeaseBelieved.formula().to_string());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/frontier.svg");
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, &drawn).unwrap();
    }
    let shown = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shown == drawn,
        "docs/frontier.svg shows something else: REWRITE=1 cargo test -p holdfast-sim --test frontier"
    );
}
