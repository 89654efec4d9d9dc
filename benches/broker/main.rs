//! CPU time per message, side by side with the reference server.
//!
//! `cargo bench --bench broker` starts midge on a free loopback port, drives it with a pre-encoded load, and does the
//! same in turn with the reference server when `NATS_SERVER` holds its path. Each round has a fresh server; rounds
//! alternate between the two, and the medians are printed as Markdown tables with the goals beside them.
//!
//! What counts is the CPU time that the server process spends per message, as the operating system accounts it: a rate
//! also depends on the generator, which shares the cores. The generator therefore does as little as it can: it writes
//! blocks encoded beforehand and counts bytes. It never runs ahead of the subscribers by more than a window, so neither
//! server has a reason to drop anyone, and every round ends with every expected byte received, or fails.
//!
//! ```text
//! options ─► main ─► workloads ─┬─► load ─► traffic ──┐    (site: one server, or a cluster of two)
//!                               ├─► latency           ├─► client ─► wire ─► socket
//!                               ├─► storm             │
//!                               ├─► idle, connz       │
//!                               └─► shared ───────────┘   process: starts servers, reads /proc
//!            report ◄─ figures ─┘
//! ```
//!
//! Linux only, for `/proc`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]

mod client;
mod connz;
mod idle;
mod latency;
mod load;
mod options;
mod process;
mod report;
mod shared;
mod site;
mod storm;
mod tls;
mod traffic;
mod wire;
mod workloads;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use options::{Command, Options};
use report::Report;
use workloads::WORKLOADS;

/// What any step of the benchmark gives: its value, or why the round is void.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// What one round measured: figure name to value, in the unit of the row that shows it.
type Figures = BTreeMap<&'static str, f64>;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("broker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line asks; false if a workload failed.
fn run() -> Outcome<bool> {
    let options = match options::parse(std::env::args().skip(1))? {
        Command::Run(options) => options,
        Command::Print(text) => {
            println!("{text}");
            return Ok(true);
        }
    };
    let files = process::raise_file_limit()?;
    eprintln!(
        "{files} files at most; {} s a round",
        options.seconds.as_secs_f64()
    );

    let report = measure(&options);
    println!("{}", report.markdown());
    if let Some(path) = &options.json {
        std::fs::write(path, report.json())
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(!report.has_failures())
}

/// Runs every chosen workload, all its rounds, alternating between the servers.
fn measure(options: &Options) -> Report {
    let mut report = Report::new(&options.programs);
    for workload in WORKLOADS
        .iter()
        .filter(|workload| options.is_chosen(workload.name))
    {
        for round in 1..=options.rounds {
            for program in &options.programs {
                let outcome = workload.run(program, options.seconds);
                let line = match &outcome {
                    Ok(figures) => report::line(figures),
                    Err(error) => format!("FAILED: {error}"),
                };
                eprintln!(
                    "{:<14} {round}/{} {:<12} {line}",
                    workload.name, options.rounds, program.name
                );
                report.add(
                    workload,
                    program.name,
                    outcome.map_err(|error| error.to_string()),
                );
            }
        }
    }
    report
}
