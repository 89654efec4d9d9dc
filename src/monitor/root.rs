//! `/`: links to the other pages, and, with the feature `dashboard`, what goes on at the moment.

use crate::proto::info::PROTOCOL_VERSION;

/// The links, in the reference server's order: what a page is called, and its path.
const LINKS: [(&str, &str); 12] = [
    ("General", "/varz"),
    ("JetStream", "/jsz"),
    ("Connections", "/connz"),
    ("Accounts", "/accountz"),
    ("Account statistics", "/accstatz"),
    ("Subscriptions", "/subsz"),
    ("Routes", "/routez"),
    ("Leaf nodes", "/leafz"),
    ("Gateways", "/gatewayz"),
    ("Raft groups", "/raftz"),
    ("Health", "/healthz"),
    ("Expvar", "/debug/vars"),
];

/// The page, for a base path that does not end in a slash.
#[must_use]
pub fn root(base: &str) -> String {
    let base = escaped(base);
    let links: String = LINKS
        .iter()
        .map(|(name, path)| {
            format!("<a href=.{base}{path}>{name}<span class=\"endpoint\"> {path}</span></a>\n")
        })
        .collect();
    TEMPLATE
        .replace("{{base}}", &base)
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
        .replace("{{protocol}}", PROTOCOL_VERSION)
        .replace("{{links}}", &links)
}

/// A path that can stand in HTML, without quotes.
fn escaped(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                text.push(char::from(byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// The page for people: links, and what goes on at the moment. Whole in itself, so that it works without a network.
#[cfg(feature = "dashboard")]
const TEMPLATE: &str = include_str!("dashboard.html");

/// The links alone.
#[cfg(not(feature = "dashboard"))]
const TEMPLATE: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
    <meta name=\"viewport\" content=\"width=device-width\"><title>midge</title>\
    <style>body{font:16px system-ui,sans-serif;margin:2rem}a{display:block;padding:.2rem 0}\
    .endpoint{color:gray}</style></head>\n<body>\n<h1>midge v{{version}}</h1>\n\
    <p>NATS protocol {{protocol}}</p>\n{{links}}</body>\n</html>\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "dashboard")]
    #[test]
    fn the_page_is_small_and_needs_nothing_from_elsewhere() {
        assert!(TEMPLATE.len() <= 150 * 1024);
        for part in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!TEMPLATE.contains(part), "{part}");
        }
        assert!(!root("").contains("{{"));
    }

    #[test]
    fn links_lead_to_every_page_below_the_base_path() {
        let page = root("/a<b");
        assert!(page.matches("href=./a%3Cb/").count() >= LINKS.len());
        assert!(
            root("").contains("<a href=./varz>General<span class=\"endpoint\"> /varz</span></a>")
        );
    }
}
