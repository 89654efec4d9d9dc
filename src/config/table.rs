//! Every option there is, in one table: its names, its block, whether a reload can change it, what it does.
//!
//! From here come the check for unknown options, the refusal of those that midge does not have, and the documentation.

use Block::{
    Account, AddressLimits, Authorization, Certs, Cluster, Compression, Destination, Export,
    Import, ImportFrom, Latency, Limits, Permissions, Responses, Subjects, Tls, Top, User,
};
use Status::{Ignored, NotSupported, Supported};

/// The map in which an option stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The file itself.
    Top,
    /// `address_limits {}`
    AddressLimits,
    /// `tls {}`
    Tls,
    /// An element of `tls.certs`.
    Certs,
    /// `authorization {}`, of clients and of a cluster.
    Authorization,
    /// An element of `users`.
    User,
    /// `permissions {}`
    Permissions,
    /// `publish {}` and `subscribe {}` in permissions.
    Subjects,
    /// `allow_responses {}`
    Responses,
    /// `cluster {}`
    Cluster,
    /// `cluster.compression {}`
    Compression,
    /// One account in `accounts {}`.
    Account,
    /// `limits {}` of an account.
    Limits,
    /// An element of `exports`.
    Export,
    /// `latency {}` of an export.
    Latency,
    /// An element of `imports`.
    Import,
    /// `stream {}` and `service {}` of an import.
    ImportFrom,
    /// An element of a mapping.
    Destination,
}

/// What midge makes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Does what it says.
    Supported,
    /// Accepted and of no effect, because it makes no difference here.
    Ignored,
    /// Refused, unless it is switched off: the feature is not there.
    NotSupported,
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The map it stands in.
    pub block: Block,
    /// Its name.
    pub name: &'static str,
    /// Other names for the same.
    pub aliases: &'static [&'static str],
    /// What midge makes of it.
    pub status: Status,
    /// Whether a reload can change it.
    pub reloads: bool,
    /// What it does, in a line.
    pub help: &'static str,
}

/// The option of that name in that block, in any letter case.
pub fn find(block: Block, name: &str) -> Option<&'static Known> {
    let is_named = |known: &str| known.eq_ignore_ascii_case(name);
    OPTIONS.iter().find(|it| {
        it.block == block && (is_named(it.name) || it.aliases.iter().any(|alias| is_named(alias)))
    })
}

const fn row(
    block: Block,
    name: &'static str,
    aliases: &'static [&'static str],
    status: Status,
    reloads: bool,
    help: &'static str,
) -> Known {
    Known {
        block,
        name,
        aliases,
        status,
        reloads,
        help,
    }
}

/// A reload can change it.
const LIVE: bool = true;
/// It stays as it is from start to end.
const FIXED: bool = false;

/// Every option, by block, in the order of the documentation.
#[rustfmt::skip]
pub const OPTIONS: &[Known] = &[
    row(Top, "listen", &[], Supported, FIXED, "address and port for clients, host:port or a port"),
    row(Top, "host", &["net"], Supported, FIXED, "address for clients"),
    row(Top, "port", &[], Supported, FIXED, "port for clients; -1 lets the system choose one"),
    row(Top, "server_name", &[], Supported, FIXED, "name in INFO and monitoring; the server id by default"),
    row(Top, "client_advertise", &[], Supported, LIVE, "host[:port] that clients are told to connect to"),
    row(Top, "server_tags", &[], Supported, LIVE, "labels for monitoring"),
    row(Top, "server_metadata", &[], Supported, LIVE, "named labels for monitoring"),
    row(Top, "workers", &[], Supported, FIXED, "worker threads; the number of cores by default"),
    row(Top, "busy_poll", &[], Supported, LIVE, "time a worker looks for an answer before it sleeps; 0s is none"),
    row(Top, "memory_limit", &[], Supported, LIVE, "bytes buffered for all connections above which no more are let in"),
    row(Top, "clock_floor", &[], Supported, FIXED, "earliest time that the clock can rightly show, as YYYY-MM-DDTHH:MM:SSZ"),
    row(Top, "http", &[], Supported, FIXED, "address and port for monitoring, host:port or a port"),
    row(Top, "https", &[], Supported, FIXED, "the same with TLS"),
    row(Top, "http_port", &["monitor_port"], Supported, FIXED, "port for monitoring; -1 lets the system choose one"),
    row(Top, "https_port", &[], Supported, FIXED, "the same with TLS"),
    row(Top, "http_auth_token", &[], Supported, LIVE, "token that requests for monitoring must bear"),
    row(Top, "http_socket", &[], Supported, FIXED, "file of a Unix socket for monitoring"),
    row(Top, "http_base_path", &[], Supported, FIXED, "path before those of the monitoring pages"),
    row(Top, "tls", &[], Supported, LIVE, "TLS for clients and for https"),
    row(Top, "allow_non_tls", &[], Supported, FIXED, "with tls, take clients without it too"),
    row(Top, "pid_file", &["pidfile"], Supported, LIVE, "file for the process id"),
    row(Top, "ports_file_dir", &[], Supported, LIVE, "directory for the file that lists the ports in use"),
    row(Top, "disable_sublist_cache", &["no_sublist_cache"], Supported, FIXED, "remember no matches of subjects"),
    row(Top, "no_header_support", &[], Supported, FIXED, "refuse headers"),
    row(Top, "no_fast_producer_stall", &[], Supported, LIVE, "never pause a producer for a slow consumer"),
    row(Top, "connect_error_reports", &[], Supported, LIVE, "every how many failed first dials are logged as errors"),
    row(Top, "reconnect_error_reports", &[], Supported, LIVE, "every how many failed later dials are logged as errors"),
    row(Top, "max_connections", &["max_conn"], Supported, LIVE, "clients at a time; 0 or less is none at all"),
    row(Top, "address_limits", &[], Supported, LIVE, "limits for the connections from one address"),
    row(Top, "max_subscriptions", &["max_subs"], Supported, FIXED, "subscriptions of a connection; 0 is unlimited"),
    row(Top, "max_sub_tokens", &["max_subscription_tokens"], Supported, FIXED, "tokens in a subscription's subject"),
    row(Top, "max_control_line", &[], Supported, LIVE, "bytes of arguments in a control line"),
    row(Top, "max_payload", &[], Supported, LIVE, "bytes of headers and payload in a message"),
    row(Top, "max_pending", &[], Supported, FIXED, "bytes queued for a connection"),
    row(Top, "max_closed_clients", &[], Supported, FIXED, "closed connections to remember"),
    row(Top, "max_traced_msg_len", &[], Supported, LIVE, "payload bytes in trace lines; 0 is all"),
    row(Top, "password_cache", &[], Supported, LIVE, "time for which a password is remembered to match its hash; 0s is not at all"),
    row(Top, "ping_interval", &[], Supported, LIVE, "time between PINGs to an idle client"),
    row(Top, "ping_max", &[], Supported, LIVE, "unanswered PINGs after which a connection is stale"),
    row(Top, "write_deadline", &[], Supported, LIVE, "time a socket may take nothing"),
    row(Top, "write_timeout", &[], Supported, FIXED, "what happens then: default, close or retry"),
    row(Top, "lame_duck_duration", &[], Supported, FIXED, "time lame duck mode takes in all"),
    row(Top, "lame_duck_grace_period", &[], Supported, FIXED, "time between its notice and the first close"),
    row(Top, "debug", &[], Supported, LIVE, "log debug messages"),
    row(Top, "trace", &[], Supported, LIVE, "log the protocol"),
    row(Top, "trace_verbose", &[], Supported, LIVE, "log the system account's protocol too"),
    row(Top, "trace_headers", &[], Supported, LIVE, "log headers only, not payloads"),
    row(Top, "logtime", &[], Supported, LIVE, "time stamps in the log"),
    row(Top, "logtime_utc", &[], Supported, LIVE, "those in UTC"),
    row(Top, "log_file", &["logfile"], Supported, LIVE, "log to this file"),
    row(Top, "log_size_limit", &["logfile_size_limit"], Supported, FIXED, "bytes after which a new log file is begun"),
    row(Top, "log_max_num", &["logfile_max_num"], Supported, FIXED, "log files to keep"),
    row(Top, "log_format", &[], Supported, FIXED, "text or json"),
    row(Top, "syslog", &[], Supported, LIVE, "log to the system's log"),
    row(Top, "remote_syslog", &[], Supported, LIVE, "log to a system's log elsewhere, as udp://host:port"),
    row(Top, "authorization", &[], Supported, LIVE, "who may connect"),
    row(Top, "no_auth_user", &[], Supported, LIVE, "user that clients without credentials get"),
    row(Top, "accounts", &[], Supported, LIVE, "separate spaces of subjects"),
    row(Top, "system_account", &["system"], Supported, FIXED, "account of the server's own messages"),
    row(Top, "no_system_account", &["no_system", "no_sys_acc"], Supported, FIXED, "have no system account"),
    row(Top, "mappings", &["maps"], Supported, LIVE, "where messages of the default account go instead"),
    row(Top, "cluster", &[], Supported, LIVE, "other servers to share messages with"),
    row(Top, "prof_port", &[], NotSupported, FIXED, "profiling"),
    row(Top, "prof_block_rate", &[], NotSupported, FIXED, "profiling"),
    row(Top, "proxy_protocol", &[], NotSupported, FIXED, "PROXY header before the client's own bytes"),
    row(Top, "feature_flags", &[], NotSupported, FIXED, "experiments of the reference server"),
    row(Top, "jetstream", &[], NotSupported, FIXED, "persistence"),
    row(Top, "store_dir", &["storedir"], NotSupported, FIXED, "persistence"),
    row(Top, "default_js_domain", &[], NotSupported, FIXED, "persistence"),
    row(Top, "leafnodes", &["leaf"], NotSupported, FIXED, "leaf nodes"),
    row(Top, "gateway", &[], NotSupported, FIXED, "clusters of clusters"),
    row(Top, "websocket", &["ws"], NotSupported, FIXED, "clients over WebSocket"),
    row(Top, "mqtt", &[], NotSupported, FIXED, "clients that speak MQTT"),
    row(Top, "operator", &["operators", "root", "roots", "root_operator", "root_operators"], NotSupported, FIXED, "accounts from JWTs"),
    row(Top, "trusted_keys", &["trusted"], NotSupported, FIXED, "accounts from JWTs"),
    row(Top, "resolver", &["account_resolver", "accounts_resolver"], NotSupported, FIXED, "accounts from JWTs"),
    row(Top, "resolver_tls", &[], NotSupported, FIXED, "accounts from JWTs"),
    row(Top, "resolver_preload", &[], NotSupported, FIXED, "accounts from JWTs"),
    row(Top, "resolver_pinned_accounts", &[], NotSupported, FIXED, "accounts from JWTs"),
    row(Top, "default_sentinel", &[], NotSupported, FIXED, "accounts from JWTs"),
    row(Top, "ocsp", &[], NotSupported, FIXED, "OCSP stapling"),
    row(Top, "ocsp_cache", &[], NotSupported, FIXED, "OCSP stapling"),
    row(Top, "proxies", &[], NotSupported, FIXED, "trusted proxies"),

    row(Tls, "cert_file", &[], Supported, LIVE, "certificate chain, PEM"),
    row(Tls, "key_file", &[], Supported, LIVE, "its private key, PEM"),
    row(Tls, "certs", &["certificates"], Supported, LIVE, "several of them: a list of {cert_file, key_file}"),
    row(Tls, "ca_file", &[], Supported, LIVE, "authorities, PEM; the system's by default"),
    row(Tls, "verify", &[], Supported, LIVE, "ask clients for a certificate and check it"),
    row(Tls, "verify_and_map", &[], Supported, FIXED, "the same, and find the user by it"),
    row(Tls, "verify_cert_and_check_known_urls", &[], Supported, LIVE, "in a cluster: only certificates of hosts in routes"),
    row(Tls, "insecure", &[], Supported, LIVE, "do not check the certificates of servers dialled"),
    row(Tls, "timeout", &[], Supported, LIVE, "time for the handshake, in seconds or as a duration"),
    row(Tls, "cipher_suites", &[], Supported, LIVE, "cipher suites to allow"),
    row(Tls, "allow_insecure_cipher_suites", &[], Supported, LIVE, "accept the names of weak ones"),
    row(Tls, "curve_preferences", &[], Supported, LIVE, "key exchange groups in order of preference"),
    row(Tls, "min_version", &[], Supported, LIVE, "\"1.2\" or \"1.3\""),
    row(Tls, "pinned_certs", &[], Supported, LIVE, "SHA-256 of the public keys to accept"),
    row(Tls, "handshake_first", &["first", "immediate"], Supported, LIVE, "handshake before INFO: a boolean, auto or a duration"),
    row(Tls, "connection_rate_limit", &[], Supported, FIXED, "handshakes a second; 0 is unlimited"),
    row(Tls, "watch", &[], Supported, LIVE, "how often to look for new certificates; off by default"),
    row(Tls, "ocsp_peer", &[], NotSupported, FIXED, "OCSP checks of peers"),
    row(Tls, "cert_store", &[], NotSupported, FIXED, "certificates from a store of Windows"),
    row(Tls, "cert_match", &[], NotSupported, FIXED, "certificates from a store of Windows"),
    row(Tls, "cert_match_by", &[], NotSupported, FIXED, "certificates from a store of Windows"),
    row(Tls, "ca_certs_match", &[], NotSupported, FIXED, "certificates from a store of Windows"),
    row(Tls, "cert_match_skip_invalid", &[], NotSupported, FIXED, "certificates from a store of Windows"),
    row(Certs, "cert_file", &[], Supported, LIVE, "certificate chain, PEM"),
    row(Certs, "key_file", &[], Supported, LIVE, "its private key, PEM"),

    row(AddressLimits, "max_connections", &["max_conn"], Supported, LIVE, "clients at a time; 0 is unlimited"),
    row(AddressLimits, "rate", &[], Supported, LIVE, "new connections a second; 0 is unlimited"),
    row(AddressLimits, "burst", &[], Supported, LIVE, "new connections at once; as many as the rate by default"),

    row(Authorization, "user", &["username"], Supported, LIVE, "the single user"),
    row(Authorization, "password", &["pass"], Supported, LIVE, "the single user's password, or its bcrypt hash"),
    row(Authorization, "token", &[], Supported, LIVE, "a token instead, or its bcrypt hash"),
    row(Authorization, "timeout", &[], Supported, LIVE, "time for CONNECT, in seconds or as a duration"),
    row(Authorization, "users", &[], Supported, LIVE, "several users"),
    row(Authorization, "default_permissions", &["default_permission", "permissions"], Supported, LIVE, "for users without their own"),
    row(Authorization, "auth_callout", &["auth_hook"], NotSupported, FIXED, "asking a service who may connect"),
    row(Authorization, "proxy_required", &[], NotSupported, FIXED, "trusted proxies"),
    row(User, "user", &["username"], Supported, LIVE, "name"),
    row(User, "password", &["pass"], Supported, LIVE, "password, or its bcrypt hash"),
    row(User, "nkey", &[], Supported, LIVE, "public key instead"),
    row(User, "permissions", &["permission", "authorization"], Supported, LIVE, "what the user may do"),
    row(User, "allowed_connection_types", &["connection_types", "clients"], Supported, LIVE, "kinds of connections"),
    row(User, "proxy_required", &[], NotSupported, FIXED, "trusted proxies"),
    row(Permissions, "publish", &["pub", "import"], Supported, LIVE, "subjects to publish to"),
    row(Permissions, "subscribe", &["sub", "export"], Supported, LIVE, "subjects to subscribe to"),
    row(Permissions, "allow_responses", &["publish_allow_responses"], Supported, LIVE, "answers to requests"),
    row(Subjects, "allow", &[], Supported, LIVE, "these"),
    row(Subjects, "deny", &[], Supported, LIVE, "not these"),
    row(Responses, "max", &["max_msgs", "max_messages", "max_responses"], Supported, LIVE, "answers; negative is unlimited"),
    row(Responses, "expires", &["expiration", "ttl"], Supported, LIVE, "time for them; negative is unlimited"),

    row(Cluster, "name", &[], Supported, LIVE, "the cluster's name"),
    row(Cluster, "listen", &[], Supported, FIXED, "address and port for routes"),
    row(Cluster, "host", &["net"], Supported, FIXED, "address for routes"),
    row(Cluster, "port", &[], Supported, FIXED, "port for routes; -1 lets the system choose one"),
    row(Cluster, "authorization", &[], Supported, LIVE, "what other servers log in with"),
    row(Cluster, "permissions", &[], Supported, LIVE, "what crosses routes: import and export"),
    row(Cluster, "routes", &[], Supported, LIVE, "servers to dial"),
    row(Cluster, "tls", &[], Supported, LIVE, "TLS of routes"),
    row(Cluster, "cluster_advertise", &["advertise"], Supported, LIVE, "host[:port] that other servers are told to dial"),
    row(Cluster, "no_advertise", &[], Supported, LIVE, "do not tell others where clients can connect"),
    row(Cluster, "connect_retries", &[], Supported, LIVE, "attempts to dial a server heard of"),
    row(Cluster, "connect_backoff", &[], Supported, LIVE, "double the time between attempts"),
    row(Cluster, "pool_size", &[], Supported, LIVE, "connections to each server; negative is no pool"),
    row(Cluster, "accounts", &[], Supported, LIVE, "accounts with connections of their own"),
    row(Cluster, "compression", &[], Supported, LIVE, "compression of routes"),
    row(Cluster, "ping_interval", &[], Supported, LIVE, "time between PINGs on a route, at most 30s"),
    row(Cluster, "ping_max", &[], Supported, LIVE, "unanswered PINGs after which a route is stale"),
    row(Cluster, "write_deadline", &[], Supported, LIVE, "time a route may take nothing"),
    row(Cluster, "write_timeout", &[], Supported, LIVE, "for monitoring alone: such a route is closed in any case"),
    row(Compression, "mode", &[], Supported, LIVE, "how much, and who decides"),
    row(Compression, "rtt_thresholds", &["thresholds", "rtts", "rtt"], Supported, LIVE, "round-trip times for the levels of s2_auto"),

    row(Account, "users", &[], Supported, LIVE, "who belongs to it"),
    row(Account, "nkey", &[], Supported, LIVE, "its public key"),
    row(Account, "imports", &[], Supported, LIVE, "what it takes from other accounts"),
    row(Account, "exports", &[], Supported, LIVE, "what it lets other accounts have"),
    row(Account, "default_permissions", &["default_permission", "permissions"], Supported, LIVE, "for users without their own"),
    row(Account, "mappings", &["maps"], Supported, LIVE, "where messages go instead"),
    row(Account, "limits", &[], Supported, LIVE, "its limits"),
    row(Account, "jetstream", &[], NotSupported, FIXED, "persistence"),
    row(Account, "msg_trace", &["trace_dest"], NotSupported, FIXED, "following messages by their traceparent"),
    row(Limits, "max_connections", &["max_conn"], Supported, LIVE, "connections at a time; 0 is none at all, negative is unlimited"),
    row(Limits, "max_subscriptions", &["max_subs"], Supported, LIVE, "subscriptions of a connection; likewise"),
    row(Limits, "max_payload", &["max_pay"], Supported, LIVE, "bytes in a message; likewise"),
    row(Limits, "max_leafnodes", &["max_leafs"], Ignored, LIVE, "leaf nodes at a time: there are none"),
    row(Export, "stream", &[], Supported, LIVE, "a subject whose messages others may have"),
    row(Export, "service", &[], Supported, LIVE, "a subject that answers requests of others"),
    row(Export, "accounts", &[], Supported, LIVE, "accounts that may; all by default"),
    row(Export, "response", &["response_type"], Supported, LIVE, "single, stream or chunked"),
    row(Export, "threshold", &["response_threshold", "response_max_time", "response_time"], Supported, LIVE, "time for the answer"),
    row(Export, "latency", &[], Supported, LIVE, "measures of the answers"),
    row(Export, "account_token_position", &[], Supported, LIVE, "token that must be the importing account's name"),
    row(Export, "allow_trace", &[], Ignored, LIVE, "following messages into other accounts: there is none"),
    row(Latency, "sampling", &[], Supported, LIVE, "per cent of requests, or headers"),
    row(Latency, "subject", &["dest"], Supported, LIVE, "where measures go"),
    row(Import, "stream", &[], Supported, LIVE, "messages of {account, subject}"),
    row(Import, "service", &[], Supported, LIVE, "answers of {account, subject}"),
    row(Import, "prefix", &[], Supported, LIVE, "tokens put before the subject"),
    row(Import, "to", &[], Supported, LIVE, "the subject here"),
    row(Import, "share", &[], Supported, LIVE, "tell the service who asks"),
    row(Import, "allow_trace", &[], Ignored, LIVE, "following messages into other accounts: there is none"),
    row(ImportFrom, "account", &[], Supported, LIVE, "the account that exports"),
    row(ImportFrom, "subject", &[], Supported, LIVE, "the subject there"),
    row(Destination, "destination", &["dest"], Supported, LIVE, "the subject to send to"),
    row(Destination, "weight", &[], Supported, LIVE, "per cent of the messages"),
    row(Destination, "cluster", &[], Supported, LIVE, "only in this cluster"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_block_has_a_name_twice() {
        for known in OPTIONS {
            for name in [known.name].iter().chain(known.aliases) {
                let found = find(known.block, name).unwrap();
                assert_eq!(found.name, known.name, "{name} in {:?}", known.block);
            }
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(find(Top, "MonItor_Port").unwrap().name, "http_port");
        assert!(find(Tls, "port").is_none());
    }
}
