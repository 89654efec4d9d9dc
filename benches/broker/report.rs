//! Collects the figures of all rounds; prints medians, ratios and goals.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::Figures;
use crate::options::{MIDGE, REFERENCE};
use crate::process::Program;
use crate::workloads::{Goal, Workload};

/// Everything that was measured.
pub(crate) struct Report {
    programs: Vec<&'static str>,
    entries: Vec<Entry>,
}

/// All rounds of one workload.
struct Entry {
    workload: &'static Workload,
    results: Vec<(&'static str, Result<Figures, String>)>,
}

impl Report {
    /// An empty report about `programs`.
    pub(crate) fn new(programs: &[Program]) -> Self {
        Self {
            programs: programs.iter().map(|program| program.name).collect(),
            entries: Vec::new(),
        }
    }

    /// Adds a round.
    pub(crate) fn add(
        &mut self,
        workload: &'static Workload,
        program: &'static str,
        result: Result<Figures, String>,
    ) {
        if self
            .entries
            .last()
            .is_none_or(|entry| entry.workload.name != workload.name)
        {
            let results = Vec::new();
            self.entries.push(Entry { workload, results });
        }
        if let Some(entry) = self.entries.last_mut() {
            entry.results.push((program, result));
        }
    }

    /// Whether a round of any workload failed.
    pub(crate) fn has_failures(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.results.iter().any(|(_, result)| result.is_err()))
    }

    /// The tables, in Markdown.
    pub(crate) fn markdown(&self) -> String {
        [
            self.cpu_table(),
            self.rate_table(),
            self.other_table(),
            self.failures(),
        ]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
    }

    /// The medians and the single rounds, by workload and server.
    pub(crate) fn json(&self) -> String {
        let mut workloads = Map::new();
        for entry in &self.entries {
            let mut servers = Map::new();
            for program in &self.programs {
                let rounds: Vec<&Figures> = entry.rounds(program).collect();
                let errors: Vec<&String> = entry.errors(program).collect();
                let mut names: Vec<&str> = rounds
                    .iter()
                    .flat_map(|round| round.keys().copied())
                    .collect();
                names.sort_unstable();
                names.dedup();
                let medians: Map<String, Value> = names
                    .iter()
                    .map(|name| ((*name).to_owned(), json!(entry.median(program, name))))
                    .collect();
                let server = json!({"median": medians, "rounds": rounds, "errors": errors});
                servers.insert((*program).to_owned(), server);
            }
            workloads.insert(entry.workload.name.to_owned(), Value::Object(servers));
        }
        let mut text = format!("{:#}", Value::Object(workloads));
        text.push('\n');
        text
    }

    /// CPU time per message, the figure that counts.
    fn cpu_table(&self) -> String {
        let mut rows = String::new();
        for entry in &self.entries {
            let Some(goal) = entry.workload.cpu_goal() else {
                continue;
            };
            let cell = |program| match entry.median(program, "cpu_ns") {
                None => NOTHING.to_owned(),
                Some(total) => {
                    let part = |name| shown(entry.median(program, name));
                    format!(
                        "{} ({} + {})",
                        significant(total),
                        part("user_ns"),
                        part("system_ns")
                    )
                }
            };
            row(
                &mut rows,
                entry.workload.label,
                [cell(REFERENCE), cell(MIDGE)],
                &entry.verdict("cpu_ns", Some(goal)),
            );
        }
        table(
            "CPU time of the server per message, ns (user + system)",
            &["workload", REFERENCE, MIDGE, "ratio", "goal", "result"],
            &rows,
        )
    }

    /// Rates and memory of the same rounds.
    fn rate_table(&self) -> String {
        let mut rows = String::new();
        for entry in self
            .entries
            .iter()
            .filter(|entry| entry.workload.cpu_goal().is_some())
        {
            let cell = |program, name, scale: f64| {
                let median = entry.median(program, name);
                shown(median.map(|value| value / scale))
            };
            let cells: Vec<String> = [
                ("rate", 1e3),
                ("cores", 1.0),
                ("resident_mib", 1.0),
                ("peak_mib", 1.0),
            ]
            .into_iter()
            .flat_map(|(name, scale)| [REFERENCE, MIDGE].map(|program| cell(program, name, scale)))
            .collect();
            line_of(
                &mut rows,
                std::iter::once(entry.workload.label.to_owned()).chain(cells),
            );
        }
        table(
            "Rate and memory in the same rounds (nats-server, midge)",
            &[
                "workload",
                "1 000 messages/s",
                "midge",
                "cores busy",
                "midge",
                "resident MiB",
                "midge",
                "peak MiB",
                "midge",
            ],
            &rows,
        )
    }

    /// Everything that is not per message.
    fn other_table(&self) -> String {
        let mut rows = String::new();
        for entry in &self.entries {
            for wanted in entry.workload.rows {
                let cell = |program| match entry.median(program, wanted.figure) {
                    None => NOTHING.to_owned(),
                    Some(value) => format!("{} {}", significant(value), wanted.unit),
                };
                let goal = entry
                    .verdict(wanted.figure, wanted.goal)
                    .with_unit(wanted.unit);
                row(
                    &mut rows,
                    wanted.label,
                    [cell(REFERENCE), cell(MIDGE)],
                    &goal,
                );
            }
        }
        table(
            "Memory, latency, start",
            &["figure", REFERENCE, MIDGE, "ratio", "goal", "result"],
            &rows,
        )
    }

    fn failures(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            for (program, result) in &entry.results {
                if let Err(error) = result {
                    // Writing to a string cannot fail.
                    let _ = writeln!(
                        text,
                        "FAILED: {} on {program}: {error}",
                        entry.workload.name
                    );
                }
            }
        }
        text
    }
}

impl Entry {
    fn rounds<'a>(&'a self, program: &'a str) -> impl Iterator<Item = &'a Figures> {
        let of_program = self
            .results
            .iter()
            .filter(move |(name, _)| *name == program);
        of_program.filter_map(|(_, result)| result.as_ref().ok())
    }

    fn errors<'a>(&'a self, program: &'a str) -> impl Iterator<Item = &'a String> {
        let of_program = self
            .results
            .iter()
            .filter(move |(name, _)| *name == program);
        of_program.filter_map(|(_, result)| result.as_ref().err())
    }

    fn median(&self, program: &str, figure: &str) -> Option<f64> {
        let values = self
            .rounds(program)
            .filter_map(|round| round.get(figure).copied());
        median(values.collect())
    }

    fn verdict(&self, figure: &str, goal: Option<Goal>) -> Verdict {
        let midge = self.median(MIDGE, figure);
        let reference = self.median(REFERENCE, figure);
        let ratio = match (midge, reference) {
            (Some(midge), Some(reference)) if reference > 0.0 => Some(midge / reference),
            _ => None,
        };
        let is_kept = match goal {
            None => None,
            Some(Goal::AtMost(most)) => midge.map(|midge| midge <= most),
            Some(Goal::Ratio(most)) => ratio.map(|ratio| ratio <= most),
        };
        Verdict {
            ratio,
            goal,
            is_kept,
            unit: "",
        }
    }
}

/// How a figure of midge compares.
struct Verdict {
    ratio: Option<f64>,
    goal: Option<Goal>,
    is_kept: Option<bool>,
    unit: &'static str,
}

impl Verdict {
    fn with_unit(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// The cells for ratio, goal and result.
    fn cells(&self) -> [String; 3] {
        let ratio = match self.ratio {
            None => NOTHING.to_owned(),
            Some(ratio) => format!("{ratio:.3}"),
        };
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtMost(most)) => format!("≤ {most} {}", self.unit),
            Some(Goal::Ratio(most)) => format!("ratio ≤ {most:.2}"),
        };
        let result = match (self.goal, self.is_kept) {
            (None, _) => "",
            (_, None) => NOTHING,
            (_, Some(true)) => "pass",
            (_, Some(false)) => "miss",
        };
        [ratio, goal, result.to_owned()]
    }
}

/// A round on one line, for whoever watches.
pub(crate) fn line(figures: &Figures) -> String {
    let parts: Vec<String> = figures
        .iter()
        .map(|(name, value)| format!("{name} {}", significant(*value)))
        .collect();
    parts.join("  ")
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// A figure as tables show it, or the sign for none.
fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), significant)
}

/// Three significant digits, or all before the point.
fn significant(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 || magnitude == 0.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A table under a heading, or nothing if there are no rows.
fn table(heading: &str, columns: &[&str], rows: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!("**{heading}**\n\n");
    line_of(&mut text, columns.iter().map(|column| (*column).to_owned()));
    let rules = columns.iter().enumerate();
    line_of(
        &mut text,
        rules.map(|(at, _)| if at == 0 { "---" } else { "---:" }.to_owned()),
    );
    text.push_str(rows);
    text
}

fn row(text: &mut String, label: &str, figures: [String; 2], verdict: &Verdict) {
    line_of(
        text,
        std::iter::once(label.to_owned())
            .chain(figures)
            .chain(verdict.cells()),
    );
}

fn line_of(text: &mut String, cells: impl Iterator<Item = String>) {
    for cell in cells {
        text.push_str("| ");
        text.push_str(cell.trim_end());
        text.push(' ');
    }
    text.push_str("|\n");
}

/// What a cell without a figure shows.
const NOTHING: &str = "–";
