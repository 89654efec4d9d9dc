//! Pages about what this server has none of: they answer as a reference server without it.

use super::Site;
use super::json::Json;

/// `/leafz`: no leaf nodes.
pub fn leafz(site: &Site<'_>, json: &mut Json) {
    json.object(|json| {
        site.begin(json);
        json.number("leafnodes", 0);
        json.array_at("leafs", |_| {});
    });
}

/// `/gatewayz`: no gateways.
pub fn gatewayz(site: &Site<'_>, json: &mut Json) {
    json.object(|json| {
        site.begin(json);
        json.object_at("outbound_gateways", |_| {});
        json.object_at("inbound_gateways", |_| {});
    });
}

/// `/jsz`: no JetStream.
pub fn jsz(site: &Site<'_>, json: &mut Json) {
    json.object(|json| {
        for name in [
            "memory",
            "storage",
            "reserved_memory",
            "reserved_storage",
            "accounts",
            "ha_assets",
        ] {
            json.number(name, 0);
        }
        json.object_at("api", |json| {
            for name in ["level", "total", "errors"] {
                json.number(name, 0);
            }
        });
        site.begin(json);
        json.flag("disabled", true);
        json.object_at("config", |json| {
            json.number("max_memory", 0);
            json.number("max_storage", 0);
        });
        for name in ["streams", "consumers", "messages", "bytes", "total"] {
            json.number(name, 0);
        }
    });
}

/// `/ipqueuesz`: none of the reference server's inner queues.
#[must_use]
pub fn queues() -> &'static str {
    "{}"
}

/// `/raftz`: that there are no such groups, told as an error.
pub const NO_RAFT: &str = "No Raft nodes registered";

/// `/debug/vars`: the command line is all that there is; it may hold secrets, so that only the program is shown.
#[must_use]
pub fn debug_vars() -> &'static str {
    "{\n\"cmdline\": [\"midge\"],\n\"memstats\": {}\n}\n"
}

/// `/stacksz`: what is running, as far as it can be told without stopping it.
#[must_use]
pub fn stacks(workers: usize) -> String {
    format!("control: 1 thread\nworkers: {workers} threads\n")
}
