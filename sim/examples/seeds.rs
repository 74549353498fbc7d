//! Runs plans of many seeds, or tells the story of one.
//!
//! `cargo run --release -p holdfast-sim --example seeds -- 0..10000` counts; `-- 42` tells the end of
//! seed 42's story, `-- 42 500` its last 500 lines, `-- 42 500 AteomDies` with that fault alone.

use holdfast_sim::plan::{Fault, Plan};
use holdfast_sim::world::{Story, World, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(first) = arguments.first() else {
        eprintln!("want a seed, or a range of seeds such as 0..1000");
        return ExitCode::from(2);
    };
    let parsed = match first.split_once("..") {
        Some((from, to)) => from.parse().and_then(|from| Ok((from, to.parse()?))).map(Err),
        None => first.parse().map(Ok),
    };
    match parsed {
        Ok(Ok(seed)) => {
            let lines = arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(80);
            story(with_fault(Plan::small(seed), arguments.get(2)), lines)
        }
        Ok(Err((from, to))) => many(from, to, arguments.get(1)),
        Err(_) => {
            eprintln!("{first}: want a seed, or a range of seeds such as 0..1000");
            ExitCode::from(2)
        }
    }
}

fn many(from: u64, to: u64, fault: Option<&String>) -> ExitCode {
    let (mut events, mut bad) = (0, 0);
    for seed in from..to {
        let Ok(outcome) = std::panic::catch_unwind(|| run(with_fault(Plan::small(seed), fault))) else {
            bad += 1;
            continue;
        };
        events += outcome.events;
        if let Some(violation) = outcome.violation {
            bad += 1;
            println!(
                "seed {seed}: {} at {}us: {}",
                violation.invariant, violation.at, violation.what
            );
        }
    }
    println!("{} seeds, {events} events, {bad} bad", to - from);
    if bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn with_fault(plan: Plan, name: Option<&String>) -> Plan {
    match Fault::ALL
        .into_iter()
        .find(|fault| Some(&format!("{fault:?}")) == name)
    {
        Some(fault) => Plan {
            faults: vec![fault],
            ..plan
        },
        None => plan,
    }
}

fn story(plan: Plan, lines: usize) -> ExitCode {
    println!("{plan:#?}");
    let outcome = World::new(plan, Story::Kept).run();
    for line in outcome
        .timeline
        .iter()
        .skip(outcome.timeline.len().saturating_sub(lines))
    {
        println!("{line}");
    }
    println!("{:?}\n{:#?}", outcome.verdicts, outcome.violation);
    if outcome.violation.is_none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
