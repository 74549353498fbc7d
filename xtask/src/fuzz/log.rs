//! What libFuzzer says while it plays.

use std::path::PathBuf;

/// How much of the code inputs come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Edges between blocks of instructions.
    pub edges: u64,
    /// Edges with how often they are passed, and comparisons with how they come out.
    pub features: u64,
}

/// One run of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// How many inputs were played.
    pub executions: u64,
    /// What the corpus came to, and what all inputs came to at the end.
    pub coverage: Option<(Coverage, Coverage)>,
    /// Where the inputs are for which the target does not hold.
    pub findings: Vec<PathBuf>,
}

impl Log {
    /// What this says.
    pub fn read(text: &str) -> Log {
        let mut log = Log::default();
        for line in text.lines() {
            if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
                log.executions = number.trim().parse().unwrap_or(log.executions);
            }
            if let Some((_, path)) = line.split_once("Test unit written to ") {
                log.findings.push(PathBuf::from(path.trim()));
            }
            // "#1024\tNEW    cov: 1234 ft: 5678 corp: 9/1Kb ..."
            let Some((number, rest)) = line.strip_prefix('#').and_then(|line| line.split_once('\t')) else {
                continue;
            };
            let Some(coverage) = coverage(rest) else { continue };
            log.executions = number.trim().parse().unwrap_or(log.executions);
            // What is said before all of the corpus has been played is of no use.
            let is_read = rest.starts_with("INITED");
            log.coverage = match log.coverage {
                Some((first, _)) => Some((first, coverage)),
                None if is_read => Some((coverage, coverage)),
                None => None,
            };
        }
        log
    }
}

fn coverage(rest: &str) -> Option<Coverage> {
    let mut words = rest.split_whitespace();
    let (mut edges, mut features) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "cov:" => edges = words.next()?.parse().ok(),
            "ft:" => features = words.next()?.parse().ok(),
            _ => {}
        }
    }
    Some(Coverage {
        edges: edges?,
        features: features?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAYED: &str = "\
INFO: Running with entropic power schedule (0xFF, 100).
INFO: seed corpus: files: 3 min: 1b max: 9b total: 15b rss: 40Mb
#2\tpulse  cov: 7 ft: 8 corp: 1/1b exec/s: 1 rss: 41Mb
#4\tINITED cov: 10 ft: 20 corp: 3/15b exec/s: 0 rss: 41Mb
#9\tNEW    cov: 12 ft: 25 corp: 4/16b lim: 4 exec/s: 0 rss: 41Mb L: 1/9 MS: 1 ChangeByte-
#64\tREDUCE cov: 12 ft: 26 corp: 4/15b lim: 4 exec/s: 0 rss: 41Mb L: 1/9 MS: 1 EraseBytes-
";

    fn coverage(edges: u64, features: u64) -> Coverage {
        Coverage { edges, features }
    }

    #[test]
    fn coverage_is_told_from_when_the_corpus_was_played_to_the_last_word() {
        let done =
            format!("{PLAYED}#99\tDONE   cov: 13 ft: 27 corp: 5/20b\nstat::number_of_executed_units: 99\n");
        let log = Log::read(&done);
        assert_eq!(log.executions, 99);
        assert_eq!(log.coverage, Some((coverage(10, 20), coverage(13, 27))));
        assert!(log.findings.is_empty());
    }

    #[test]
    fn an_input_that_was_found_ends_the_run_and_is_told() {
        let ended = format!(
            "{PLAYED}==7== ERROR: libFuzzer: deadly signal\nartifact_prefix='/f/'; Test unit written to /f/crash-12\n"
        );
        let log = Log::read(&ended);
        assert_eq!(log.findings, [PathBuf::from("/f/crash-12")]);
        assert_eq!(log.executions, 64);
    }

    #[test]
    fn a_target_that_did_not_begin_has_no_coverage() {
        assert_eq!(Log::read("cannot open shared object\n"), Log::default());
    }
}
