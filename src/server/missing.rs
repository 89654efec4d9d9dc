//! Options that this version reads and does not act on: none of them is passed over in silence.
//!
//! A line goes when its feature comes.

use crate::config::options::{Export, ExportKind, Options};

/// What a server works without, less well observed or alone.
pub(super) fn without_effect(options: &Options) -> Vec<String> {
    let exports = options.accounts.iter().flat_map(|it| &it.exports);
    let has_latency = |export: &Export| {
        matches!(
            export.kind,
            ExportKind::Service {
                latency: Some(_),
                ..
            }
        )
    };
    let asked = [(
        "latency",
        "measures of services",
        exports.into_iter().any(has_latency),
    )];
    let asked = asked.iter().filter(|(.., is_asked)| *is_asked);
    asked
        .map(|(option, what, _)| {
            format!("{option} has no effect: this version of midge has no {what} yet")
        })
        .collect()
}
