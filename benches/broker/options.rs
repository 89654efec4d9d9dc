//! The command line of the benchmark.

use std::path::PathBuf;
use std::time::Duration;

use crate::Outcome;
use crate::process::Program;
use crate::workloads::WORKLOADS;

/// What the command line asks for.
pub(crate) enum Command {
    /// Measure.
    Run(Options),
    /// Print this and stop.
    Print(String),
}

/// How to measure, and what.
pub(crate) struct Options {
    /// The servers, in the order in which each round visits them.
    pub(crate) programs: Vec<Program>,
    /// How often each workload runs on each server.
    pub(crate) rounds: u32,
    /// How long a round publishes, after its warm-up.
    pub(crate) seconds: Duration,
    /// Where to write the figures as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Names of workloads; empty for all.
    only: Vec<String>,
}

impl Options {
    /// Whether `--only` lets this workload through.
    pub(crate) fn is_chosen(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|chosen| chosen == name)
    }
}

/// Reads the arguments, without the program's name.
///
/// Cargo passes `--bench` when it benchmarks, and nothing at all when it runs the target as a test: then there is
/// nothing to do, for a test run must not take minutes.
///
/// # Errors
///
/// An unknown option or workload, a value that is no number, and no server to measure.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Outcome<Command> {
    let arguments: Vec<String> = arguments.collect();
    if arguments.is_empty() {
        return Ok(Command::Print(
            "to measure: cargo bench --bench broker".to_owned(),
        ));
    }
    let grammar = grammar();
    let found = grammar.parse(&arguments)?;
    if let Some(stray) = found.free.first() {
        return Err(format!("unexpected argument {stray:?}").into());
    }
    if found.opt_present("help") {
        return Ok(Command::Print(grammar.usage(USAGE)));
    }
    if found.opt_present("list") {
        return Ok(Command::Print(list()));
    }
    let only: Vec<String> = found
        .opt_strs("only")
        .iter()
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    for name in &only {
        if !WORKLOADS.iter().any(|workload| workload.name == name) {
            return Err(format!("no workload {name:?}: see --list").into());
        }
    }
    let seconds: f64 = found.opt_get_default("seconds", SECONDS_DEFAULT)?;
    let seconds =
        Duration::try_from_secs_f64(seconds).map_err(|error| format!("--seconds: {error}"))?;
    Ok(Command::Run(Options {
        programs: programs(found.opt_str("midge"), found.opt_str("workers"))?,
        rounds: found.opt_get_default("rounds", ROUNDS_DEFAULT)?.max(1),
        seconds,
        json: found.opt_str("json").map(PathBuf::from),
        only,
    }))
}

/// The servers to measure: midge unless its path is `none`, the reference server if the environment names it.
fn programs(midge: Option<String>, workers: Option<String>) -> Outcome<Vec<Program>> {
    let mut programs = Vec::new();
    let midge = midge.unwrap_or_else(|| env!("CARGO_BIN_EXE_midge").to_owned());
    if midge != "none" {
        let workers = workers.map(|count| vec!["--workers".to_owned(), count]);
        programs.push(Program::new(
            MIDGE,
            midge.into(),
            workers.unwrap_or_default(),
        )?);
    }
    if let Some(path) = std::env::var_os("NATS_SERVER").filter(|path| !path.is_empty()) {
        programs.push(Program::new(REFERENCE, path.into(), Vec::new())?);
    }
    if programs.is_empty() {
        return Err("nothing to measure: --midge is none and NATS_SERVER is not set".into());
    }
    Ok(programs)
}

fn grammar() -> getopts::Options {
    let mut grammar = getopts::Options::new();
    grammar
        .optopt("", "rounds", "rounds per workload and server (3)", "N")
        .optopt("", "seconds", "length of a round (2)", "S")
        .optmulti("", "only", "run these workloads only", "NAME[,NAME]")
        .optopt(
            "",
            "midge",
            "this binary instead of cargo's; none leaves it out",
            "PATH",
        )
        .optopt("", "workers", "passed on to midge", "N")
        .optopt("", "json", "also write the figures here", "FILE")
        .optflag("", "list", "list the workloads")
        .optflag("", "bench", "ignored: cargo passes it")
        .optflag("h", "help", "print this");
    grammar
}

fn list() -> String {
    let lines: Vec<String> = WORKLOADS
        .iter()
        .map(|workload| format!("{:<14} {}", workload.name, workload.label))
        .collect();
    lines.join("\n")
}

/// The name of our own server in tables and JSON.
pub(crate) const MIDGE: &str = "midge";
/// The name of the other one.
pub(crate) const REFERENCE: &str = "nats-server";

const ROUNDS_DEFAULT: u32 = 3;
const SECONDS_DEFAULT: f64 = 2.0;
const USAGE: &str = "Usage: [NATS_SERVER=PATH] cargo bench --bench broker -- [options]";
