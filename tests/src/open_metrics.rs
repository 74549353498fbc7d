//! The text form of OpenMetrics 1.0, read strictly: what is not allowed there is an error.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

/// All samples of an exposition.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    samples: BTreeMap<Series, f64>,
    /// What each family is: counter, gauge, histogram, info.
    pub kinds: BTreeMap<String, String>,
}

/// A name, and labels in the order of their names.
type Series = (String, BTreeMap<String, String>);

impl Exposition {
    /// Reads one.
    ///
    /// # Errors
    /// The first line that is wrong, and why.
    pub fn parse(text: &str) -> Result<Exposition> {
        let mut exposition = Exposition::default();
        let mut current = String::new();
        let mut ended = BTreeSet::new();
        let mut lines = text.lines();
        for line in lines.by_ref() {
            if line == "# EOF" {
                ensure!(lines.next().is_none(), "something follows # EOF");
                ensure!(text.ends_with("# EOF\n"), "# EOF ends without a line feed");
                return Ok(exposition);
            }
            exposition
                .line(line, &mut current, &mut ended)
                .with_context(|| format!("{line:?}"))?;
        }
        bail!("it does not end with # EOF")
    }

    fn line(&mut self, line: &str, current: &mut String, ended: &mut BTreeSet<String>) -> Result<()> {
        if let Some(about) = line.strip_prefix("# ") {
            let (what, rest) = about.split_once(' ').context("no kind of comment")?;
            let (name, said) = rest.split_once(' ').context("no name")?;
            ensure!(
                ["HELP", "TYPE", "UNIT"].contains(&what),
                "a comment of another kind"
            );
            if name != current {
                ensure!(ended.insert(current.clone()), "families are mixed");
                ensure!(!ended.contains(name), "a family begins twice");
                name.clone_into(current);
            }
            if what == "TYPE" {
                ensure!(
                    self.kinds.insert(name.to_owned(), said.to_owned()).is_none(),
                    "two types"
                );
            }
            if what == "UNIT" {
                ensure!(
                    name.ends_with(&format!("_{said}")),
                    "the unit is not at the end of the name"
                );
            }
            return Ok(());
        }
        let (series, value) = match line.split_once('{') {
            Some((name, rest)) => {
                let (labels, value) = labels(rest)?;
                ((name.to_owned(), labels), value)
            }
            None => {
                let (name, value) = line.split_once(' ').context("no value")?;
                ((name.to_owned(), BTreeMap::new()), value)
            }
        };
        let kind = self
            .kinds
            .get(current.as_str())
            .context("a sample before its type")?;
        let suffix = series
            .0
            .strip_prefix(current.as_str())
            .context("a sample of another family")?;
        let suffixes: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            other => bail!("a family of an unknown type, {other}"),
        };
        ensure!(suffixes.contains(&suffix), "{kind} has no {suffix:?}");
        let value: f64 = value.trim().parse().context("the value is no number")?;
        ensure!(kind == "gauge" || value >= 0.0, "less than nothing was counted");
        ensure!(
            self.samples.insert(series, value).is_none(),
            "a sample is there twice"
        );
        Ok(())
    }

    /// The value of a sample; none if it is not there.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.samples.get(&(name.to_owned(), labels.collect())).copied()
    }

    /// The sum of all samples of this name that have these labels, whatever else they have.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |all: &BTreeMap<String, String>| {
            labels
                .iter()
                .all(|(key, value)| all.get(*key).is_some_and(|v| v == value))
        };
        let samples = self
            .samples
            .iter()
            .filter(|((other, all), _)| other == name && has(all));
        samples.map(|(_, value)| value).sum()
    }
}

/// The labels after an opening brace, and what follows the closing one.
fn labels(text: &str) -> Result<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        if let Some(value) = rest.strip_prefix('}') {
            return Ok((labels, value));
        }
        let (name, after) = rest.split_once("=\"").context("a label without a value")?;
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.is_empty();
        ensure!(is_name, "{name:?} is no name of a label");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().context("a label that does not end")? {
                (at, '"') => break at + 1,
                (_, '\\') => match chars.next().context("a label that ends in a backslash")?.1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => bail!("\\{c} means nothing"),
                },
                (_, c) => value.push(c),
            }
        };
        ensure!(
            labels.insert(name.to_owned(), value).is_none(),
            "label {name} is there twice"
        );
        rest = after.get(end..).unwrap_or_default();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                        a_seconds_sum{of=\"x\\\"y\"} 1.5\na_seconds_count{of=\"x\\\"y\"} 3\n# HELP b B.\n# TYPE b counter\n\
                        b_total 2\n# EOF\n";

    #[test]
    fn what_is_right_is_read() {
        let read = Exposition::parse(GOOD).unwrap();
        assert_eq!(read.value("a_seconds_count", &[("of", "x\"y")]), Some(3.0));
        assert_eq!(read.value("b_total", &[]), Some(2.0));
        assert_eq!(read.sum("a_seconds_sum", &[]), 1.5);
        assert_eq!(read.value("c", &[]), None);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (from, to, complaint) in [
            ("# EOF\n", "", "does not end with # EOF"),
            ("# EOF\n", "# EOF\nb_total 3\n", "follows # EOF"),
            ("b_total 2", "b 2", "counter has no"),
            ("b_total 2", "b_total many", "no number"),
            ("b_total 2", "b_total -1", "less than nothing"),
            ("b_total 2", "b_total 2\nb_total 2", "twice"),
            ("# TYPE b counter\n", "", "before its type"),
            ("of=\"x\\\"y\"} 3", "of=\"x\\y\"} 3", "means nothing"),
            ("# UNIT a_seconds seconds", "# UNIT a_seconds bytes", "unit"),
            (
                "b_total 2\n",
                "b_total 2\n# HELP a_seconds Again.\n",
                "begins twice",
            ),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = format!("{:#}", Exposition::parse(&text).unwrap_err());
            assert!(error.contains(complaint), "{to}: {error}");
        }
    }
}
