//! The text for `--help_config`: every option of a configuration file, from the table that the file is checked by.

use std::fmt::Write as _;

use crate::config::table::{Block, Known, OPTIONS, Status};

/// Where the explanations begin.
const HELP_COLUMN: usize = 37;

/// All options that do something, block by block.
pub(super) fn options() -> String {
    let mut text =
        String::from("\nOptions of a configuration file. A reload can change those with a *.\n");
    let mut block = None;
    let known = OPTIONS.iter().filter(|it| it.status == Status::Supported);
    for option in known {
        if block.replace(option.block) != Some(option.block) {
            let _ = writeln!(text, "\n{}:", title(option.block));
        }
        push(&mut text, option);
    }
    text
}

fn push(text: &mut String, option: &Known) {
    let names = std::iter::once(option.name).chain(option.aliases.iter().copied());
    let names: Vec<&str> = names.collect();
    let mark = if option.reloads { '*' } else { ' ' };
    let start = format!("  {mark} {}", names.join(", "));
    if start.len() >= HELP_COLUMN {
        let _ = writeln!(text, "{start}\n{:HELP_COLUMN$}{}", "", option.help);
    } else {
        let _ = writeln!(text, "{start:HELP_COLUMN$}{}", option.help);
    }
}

fn title(block: Block) -> &'static str {
    match block {
        Block::Top => "Top level",
        Block::AddressLimits => "address_limits { }",
        Block::Tls => "tls { }",
        Block::Certs => "tls { certs: [{ }] }",
        Block::Authorization => "authorization { }",
        Block::User => "users: [{ }]",
        Block::Permissions => "permissions { }",
        Block::Subjects => "publish { } and subscribe { } in permissions",
        Block::Responses => "allow_responses { }",
        Block::Cluster => "cluster { }",
        Block::Compression => "compression { } in cluster",
        Block::Account => "accounts { NAME { } }",
        Block::Limits => "limits { } of an account",
        Block::Export => "exports: [{ }] of an account",
        Block::Latency => "latency { } of an export",
        Block::Import => "imports: [{ }] of an account",
        Block::ImportFrom => "stream { } and service { } of an import",
        Block::Destination => "mappings { SUBJECT: [{ }] }",
    }
}
