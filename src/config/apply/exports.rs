//! What an account lets others have: its streams, and its services.

use std::time::Duration;

use super::super::duration;
use super::super::error::Position;
use super::super::options::{Export, ExportKind, Latency, ResponseType};
use super::super::report::{Report, set};
use super::super::subjects;
use super::super::table::Block;
use super::super::value::{Data, Entry, Map};
use super::mappings::percentage;
use super::sharing::{Reference, one_kind};
use super::unless_zero;

/// What an export says, before it is known whether that goes together.
#[derive(Default)]
struct Draft {
    /// `stream` or `service`.
    kind: Option<&'static str>,
    subject: Option<String>,
    accounts: Option<Vec<(String, Position)>>,
    /// The token that must be the importing account's name, from 1.
    position: Option<(u32, Position)>,
    response: Option<ResponseType>,
    threshold: Option<Duration>,
    latency: Option<Latency>,
    /// What it says that only a service can have.
    service_only: Vec<(&'static str, Position)>,
}

/// One export, which stands at `at`. The accounts that it names go to `references`.
pub(super) fn export(
    report: &mut Report,
    map: &Map,
    at: &Position,
    references: &mut Vec<Reference>,
) -> Option<Export> {
    let mut draft = Draft::default();
    report.each(Block::Export, map, |report, name, entry| {
        draft.take(report, name, entry);
    });
    draft.finish(report, at, references)
}

impl Draft {
    fn take(&mut self, report: &mut Report, name: &'static str, entry: &Entry) {
        match name {
            "stream" | "service" => {
                if one_kind(report, &mut self.kind, name, &entry.at) {
                    self.subject = report.text(entry);
                }
            }
            "accounts" => {
                let names = report.texts(entry).unwrap_or_default().into_iter();
                let names = names.map(|(name, at)| (name.to_string(), at.clone()));
                self.accounts = Some(names.collect());
            }
            "account_token_position" => {
                let position = report.number::<u32>(entry);
                self.position = position.map(|it| (it, entry.at.clone()));
            }
            "response" => {
                self.service_only.push(("response", entry.at.clone()));
                self.response = response_type(report, entry);
            }
            "threshold" => {
                // As the reference server calls it.
                self.service_only.push(("response", entry.at.clone()));
                self.threshold = threshold_of(report, entry);
            }
            _ => {
                self.service_only.push(("latency", entry.at.clone()));
                self.latency = latency(report, entry);
                if self.latency.is_some() {
                    let text = "latency has no effect: this version of midge has no measures of services yet";
                    report.remark(&entry.at, text);
                }
            }
        }
    }

    fn finish(
        self,
        report: &mut Report,
        at: &Position,
        references: &mut Vec<Reference>,
    ) -> Option<Export> {
        let Some(kind) = self.kind else {
            report.error(at, "an export needs a stream or a service");
            return None;
        };
        let subject = self.subject?;
        let flaw = |what: &str| format!("Error adding {kind} export \"{subject}\": {what}");
        if !subjects::is_valid(&subject) {
            report.error(at, flaw("invalid subject"));
        }
        if let Some((position, at)) = &self.position {
            let index = usize::try_from(*position).unwrap_or(usize::MAX);
            if index == 0 || subject.split('.').nth(index - 1) != Some("*") {
                report.error(at, flaw(&format!("token {position} is not a wildcard")));
            }
        }
        let is_stream = kind == "stream";
        for (account, at) in self.accounts.iter().flatten() {
            references.push(Reference {
                account: account.clone(),
                what: if is_stream {
                    "stream export"
                } else {
                    "service export"
                },
                at: at.clone(),
            });
        }
        let kind = if is_stream {
            for (name, at) in &self.service_only {
                report.error(at, format!("Detected {name} directive on non-service"));
            }
            ExportKind::Stream
        } else {
            ExportKind::Service {
                response: self.response.unwrap_or_default(),
                threshold: self.threshold,
                latency: self.latency,
            }
        };
        let names = |all: Vec<(String, Position)>| all.into_iter().map(|(name, _)| name).collect();
        Some(Export {
            subject,
            kind,
            accounts: self.accounts.map(names),
            account_token_position: self.position.map(|(position, _)| position),
        })
    }
}

fn response_type(report: &mut Report, entry: &Entry) -> Option<ResponseType> {
    let text = report.string(entry)?;
    match text.to_ascii_lowercase().as_str() {
        "single" | "singleton" => Some(ResponseType::Single),
        "stream" => Some(ResponseType::Stream),
        "chunk" | "chunked" => Some(ResponseType::Chunked),
        _ => {
            report.error(&entry.at, format!("Unknown response type: \"{text}\""));
            None
        }
    }
}

fn threshold_of(report: &mut Report, entry: &Entry) -> Option<Duration> {
    let text = report.string(entry)?;
    match duration::parse(text) {
        Ok(value) if !value.is_negative => unless_zero(Some(value.length)),
        _ => {
            let text = format!(
                "Expected response threshold to be a parseable time duration, got \"{text}\""
            );
            report.error(&entry.at, text);
            None
        }
    }
}

/// A subject, or a map with a share of the requests.
fn latency(report: &mut Report, entry: &Entry) -> Option<Latency> {
    let mut latency = Latency {
        sampling: Some(100),
        subject: String::new(),
    };
    match &entry.value.data {
        Data::Map(map) => report.each(Block::Latency, map, |report, name, entry| match name {
            "sampling" => set(&mut latency.sampling, sampling(report, entry)),
            _ => set(&mut latency.subject, report.text(entry)),
        }),
        _ => latency.subject = report.text(entry)?,
    }
    if latency.subject.is_empty() {
        report.error(&entry.at, "Latency subject required, but missing");
    } else if !subjects::is_literal(&latency.subject) {
        report.error(
            &entry.at,
            format!(
                "latency subject \"{}\" is not a subject to publish to",
                latency.subject
            ),
        );
    }
    Some(latency)
}

/// A percentage; `headers` is `None`.
fn sampling(report: &mut Report, entry: &Entry) -> Option<Option<u8>> {
    if matches!(&entry.value.data, Data::String(text) if text.eq_ignore_ascii_case("headers")) {
        return Some(None);
    }
    let percent = percentage(&entry.value);
    if percent.is_none() {
        report.error(&entry.at, "bad sampling percentage, should be 1-100");
    }
    percent.map(Some)
}
