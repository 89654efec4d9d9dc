//! Every default and every ceiling, by name.
//!
//! The defaults are the reference server's, so that a client or an operator who knows that one is at home here; a
//! constant that has no counterpart there says so.

use std::time::Duration;

/// TCP port for clients.
pub const PORT: u16 = 4222;
/// Address on which clients are accepted: every IPv4 interface.
pub const HOST: &str = "0.0.0.0";
/// Bytes of arguments in one control line, from the first non-blank after the verb to the line's end.
pub const MAX_CONTROL_LINE: usize = 4096;
/// Bytes of headers and payload in one message.
pub const MAX_PAYLOAD: usize = 1024 * 1024;
/// A `max_payload` above this is warned about at start.
pub const MAX_PAYLOAD_ADVISED: usize = 8 * 1024 * 1024;
/// Bytes queued for one connection; more makes it a slow consumer.
pub const MAX_PENDING: usize = 64 * 1024 * 1024;
/// Client connections at a time.
pub const MAX_CONNECTIONS: usize = 65536;
/// Time between PINGs to an idle client.
pub const PING_INTERVAL: Duration = Duration::from_secs(120);
/// Unanswered PINGs after which a connection is stale.
pub const PING_MAX: u32 = 2;
/// Time a socket may take nothing before its connection is a slow consumer.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Time a client has for its CONNECT where credentials are needed.
pub const AUTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a TLS handshake.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(2);
/// What a client has beyond the TLS timeout for its CONNECT, where that is not set.
pub const AUTH_TIMEOUT_AFTER_TLS: Duration = Duration::from_secs(1);
/// An `authorization.timeout` or TLS timeout above this is warned about.
pub const TIMEOUT_ADVISED: Duration = Duration::from_secs(60);
/// Time a client has to start a handshake where `handshake_first` is `auto`.
pub const HANDSHAKE_FIRST_FALLBACK: Duration = Duration::from_millis(50);
/// Answers to one request where `allow_responses` names no number.
pub const RESPONSES_MAX: u32 = 1;
/// Time for them where it names none.
pub const RESPONSES_EXPIRE: Duration = Duration::from_secs(120);
/// Time for the answers of a service to a request from another account, where its export names none.
pub const RESPONSE_THRESHOLD: Duration = Duration::from_secs(120);
/// Time another server has to say who it is, where it need not log in (midge's own).
pub const ROUTE_GREETING: Duration = Duration::from_secs(10);
/// Bytes in a message from another server, where `max_payload` is less (midge's own): its `max_payload` may be more.
pub const ROUTE_PAYLOAD_MAX: usize = 64 * 1024 * 1024;
/// Bytes of headers that servers may add to a message before it comes to another one: who asks a service, or the hop of a
/// trace.
pub const ROUTE_HEADERS_ADDED_MAX: usize = 64 * 1024;
/// Bytes of the names of queue groups in one line for another server. That takes 64 KiB of arguments, unless its
/// `max_control_line` is another, and closes the connection above.
pub const ROUTE_GROUPS_BYTES_MAX: usize = 48 * 1024;
/// Subjects that another server may be interested in, over one connection (midge's own).
pub const ROUTE_INTEREST_MAX: usize = 16 * 1024 * 1024;
/// Time between PINGs on a route, at the most.
pub const ROUTE_PING_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// Connections to each other server of a cluster.
pub const ROUTE_POOL_SIZE: u32 = 3;
/// Round-trip times of a route up to which it is not compressed, a little, and more, where that goes by them.
pub const COMPRESSION_RTTS: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
];
/// How many such times there can be.
pub const COMPRESSION_RTTS_MAX: usize = 4;
/// Bytes of a compressed route that are written at once, but for the rest of the chunk that makes it more.
pub const COMPRESSED_WRITE_BYTES: usize = 64 * 1024;
/// Every how many failed first attempts to dial a server are logged as errors.
pub const CONNECT_ERROR_REPORTS: u32 = 3600;
/// Every how many failed attempts to dial one again are.
pub const RECONNECT_ERROR_REPORTS: u32 = 1;
/// Shortest `lame_duck_duration`.
pub const LAME_DUCK_DURATION_MIN: Duration = Duration::from_secs(30);
/// Time lame duck mode takes in all.
pub const LAME_DUCK_DURATION: Duration = Duration::from_secs(120);
/// Time between the lame duck notice and the first close.
pub const LAME_DUCK_GRACE_PERIOD: Duration = Duration::from_secs(10);
/// Entries in the history of closed connections.
pub const MAX_CLOSED_CLIENTS: usize = 10_000;
/// Worker threads at the most (midge's own).
pub const WORKERS_MAX: usize = 64;

// What follows has no counterpart in the reference server.

/// Bytes that one read takes from a socket, which is also a connection's budget for one turn of the loop.
pub const READ_BYTES: usize = 128 * 1024;
/// The same where `max_pending` is small.
pub const READ_BYTES_MIN: usize = 4 * 1024;
/// The same at the most, while turns are short.
pub const READ_BYTES_MAX: usize = 512 * 1024;
/// Bytes that the reads of one turn take before none of the rest takes more than [`READ_BYTES`].
pub const READ_TURN_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one buffer in a connection's output queue.
pub const CHUNK_BYTES: usize = 32 * 1024;
/// Buffers of that size that a worker's queues may have; whatever more they need is smaller.
pub const CHUNKS_LENT_MAX: usize = 256;
/// Bytes of such a smaller one.
pub const SMALL_CHUNK_BYTES: usize = 4 * 1024;
/// Messages from this size on are shared between queues, not copied into each.
pub const SHARE_BYTES_MIN: usize = 8 * 1024;
/// Bytes that are worth a write of their own.
pub const WRITE_BYTES: usize = 16 * 1024;
/// Bytes that a turn may always queue before it writes.
pub const TURN_BYTES_MIN: usize = 1024 * 1024;
/// Bytes queued in one turn after which they are written in any case before the turn goes on; a quarter of `memory_limit`
/// where that is less.
pub const TURN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Subscriptions of one worker from which on a message for them is kept once, not copied for each.
pub const FAN_OUT_MIN: usize = 8;
/// Bytes of such messages that make a write to one of a few subscribers; where there are many, [`WRITE_BYTES`] do.
pub const FAN_OUT_WRITE_BYTES: usize = 64 * 1024;
/// Bytes of such messages after which they are written in any case before the turn goes on.
pub const FAN_OUT_BYTES_MAX: usize = 256 * 1024;
/// The same for runs of such messages, where a subscriber has several.
pub const FAN_OUT_RUNS_MAX: usize = 128 * 1024;
/// Bytes that spare buffers may hold on to while a worker is busy.
pub const SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes for another worker after which they are handed over before the turn ends.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Bytes waiting for another worker above which their producers pause.
pub const MAILBOX_BYTES_MAX: usize = 1024 * 1024;
/// Bytes queued for a connection above which its producers pause briefly, to let it catch up.
pub const CROWDED_BYTES: usize = 2 * 1024 * 1024;
/// How briefly.
pub const CROWDED_PAUSE: Duration = Duration::from_millis(5);
/// How long its socket may have taken nothing before they pause no more: it has stopped, and there is room for more.
pub const CROWDED_PATIENCE: Duration = Duration::from_millis(100);
/// How long a producer pauses at a time while a consumer is at three quarters of `max_pending`, and how long that one's
/// socket may have taken nothing before it does so no more.
pub const STALL_PAUSE: Duration = Duration::from_secs(1);
/// Bytes that a producer queues for such a consumer, between pauses of [`LEEWAY_PAUSE`]: at this pace the reference server
/// lets it.
pub const LEEWAY_BYTES: usize = 64 * 1024;
/// See [`LEEWAY_BYTES`].
pub const LEEWAY_PAUSE: Duration = Duration::from_millis(10);
/// Time after which connections are looked for that could not be accepted for want of a descriptor.
pub const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Time for connected clients to take what is queued for them when the server stops.
pub const FLUSH_AT_STOP: Duration = Duration::from_secs(3);
/// Time after which a worker that has read something gives spare memory back, whether it is idle by then or not.
pub const TRIM_AFTER: Duration = Duration::from_secs(1);
/// Time that a peer has to read our last words and close its side.
pub const PARTING: Duration = Duration::from_secs(1);
/// Bytes of a configuration, its includes and environment values counted in.
pub const CONFIG_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a file with certificates or a key.
pub const TLS_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Values plus bytes of text in a configuration with every variable written out.
pub const CONFIG_EXPANDED_MAX: usize = 16 * 1024 * 1024;
/// Levels of maps and arrays in a configuration, those inside variables counted in.
pub const CONFIG_DEPTH_MAX: usize = 64;
/// Files that include each other in a row.
pub const CONFIG_INCLUDE_DEPTH_MAX: usize = 16;
/// Errors in one configuration after which reading stops.
pub const CONFIG_ERRORS_MAX: usize = 50;
/// Connections that a worker is given in a row. Those opened together tend to talk to each other, and a message that
/// stays with its worker costs half of one that changes hands.
pub const CONNECTIONS_TOGETHER: usize = 16;
/// Subjects for which a connection with permissions remembers the last answer.
pub const REMEMBERED_SUBJECTS: usize = 32;
/// A longer subject is looked up every time.
pub const REMEMBERED_SUBJECT_BYTES_MAX: usize = 128;
/// Requests that one connection with `allow_responses` may have open; the oldest can no longer be answered then.
pub const RESPONSE_PERMITS_MAX: usize = 4096;
/// Bytes of their reply subjects.
pub const RESPONSE_PERMIT_BYTES_MAX: usize = 256 * 1024;
/// What is told of one message that is traced; whoever it goes to beyond that gets it all the same.
pub const TRACE_STEPS_MAX: usize = 1024;
/// The same in bytes of its text.
pub const TRACE_BYTES_MAX: usize = 256 * 1024;
/// What messages that are traced, and what is told of them, may take before their publisher pauses.
pub const TRACED_BYTES_MAX: usize = 1024 * 1024;
/// Requests to services of other accounts that the connections of one account have open at one worker; the oldest can no
/// longer be answered then.
pub const WAYS_BACK_MAX: usize = 16 * 1024;
/// Bytes of their reply subjects.
pub const WAY_BACK_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Room for so many stays when none is open.
pub const WAYS_BACK_KEPT: usize = 64;
/// Characters of the number in such a reply subject, enough for 64 bits in base 62.
pub const WAY_BACK_DIGITS: usize = 11;
/// Accounts that a request may pass on its way to a service, each importing what the one before it asks.
pub const SERVICE_CHAIN_MAX: u8 = 16;
/// Connections of one worker that have not sent CONNECT where they need to; the oldest goes when one more comes.
pub const UNAUTHENTICATED_MAX: usize = 2048;
/// Bytes that one read takes from such a connection: what it sends behind its CONNECT waits, and takes up room.
pub const UNAUTHENTICATED_READ_BYTES: usize = 4096;
/// Addresses without a connection whose `address_limits` are kept track of.
pub const ADDRESSES_MAX: usize = 16 * 1024;
/// Password hashes waiting to be computed.
pub const VERIFICATIONS_MAX: usize = 1024;
/// Threads that compute them.
pub const VERIFIERS_MAX: usize = 4;
/// Passwords that are remembered to be right.
pub const VERIFIED_MAX: usize = 1024;
/// For how long.
pub const VERIFIED_LIFE: Duration = Duration::from_secs(60);
/// How long a worker looks for the next message before it sleeps: what a client on another core takes to answer one that
/// is small, and not more than waking the worker would cost.
pub const BUSY_POLL: Duration = Duration::from_micros(30);
/// The most that it can be set to. Nothing that takes longer is helped by it.
pub const BUSY_POLL_MAX: Duration = Duration::from_millis(1);
/// Connections to the monitoring port at a time; the one that has been idle longest goes when one more comes.
pub const MONITOR_CONNECTIONS_MAX: usize = 128;
/// Time for a request's head to be there, once it has begun.
pub const MONITOR_HEAD_TIME: Duration = Duration::from_secs(5);
/// Time that a reader of a page may take nothing.
pub const MONITOR_WRITE_TIME: Duration = Duration::from_secs(10);
/// Entries on one page, whatever limit the request gives.
pub const MONITOR_PAGE_MAX: usize = 100_000;
/// Bytes of pages that wait for their readers; the next page is not made before there are fewer.
pub const MONITOR_PENDING_MAX: usize = 32 * 1024 * 1024;
/// Requests to the server over its own protocol that wait for the control thread, and as many for their pages.
pub const SYSTEM_REQUESTS_MAX: usize = 256;
/// Bytes of one of them.
pub const SYSTEM_REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Servers of which an account's connections are counted.
pub const SERVERS_COUNTED_MAX: usize = 1024;
/// Time between two reports of how many connections accounts have, in the long run, while they have any.
pub const CONNS_INTERVAL: Duration = Duration::from_secs(30);
/// Time that other servers have for their answers to what an account asks about itself.
pub const SYSTEM_ANSWERS_TIME: Duration = Duration::from_secs(60);
/// Time from the first one who may hear the reports of the counters, or a new server of the cluster, to the first report.
pub const STATSZ_FIRST: Duration = Duration::from_millis(250);
/// Time to the second one; it doubles from then on.
pub const STATSZ_SECOND: Duration = Duration::from_secs(1);
/// Time between two reports in the long run, while anybody may hear them.
pub const STATSZ_INTERVAL: Duration = Duration::from_secs(10);
/// Bytes of the history of closed connections, and as many that are on their way there.
pub const CLOSED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of subscriptions that one entry of it holds.
pub const CLOSED_LISTING_BYTES_MAX: usize = 16 * 1024;
/// Time that a worker spends on surveys between two turns, by which messages come later.
pub const SURVEY_SLICE: Duration = Duration::from_micros(200);
/// Slots that it looks at before it looks at the clock: some microseconds.
pub const SURVEY_SLOTS: usize = 64;
/// Connections that it describes before it looks at the clock.
pub const SURVEY_DETAILS: usize = 8;
/// Bytes of a name that came from a peer and appears in the log.
pub const LOGGED_NAME_BYTES_MAX: usize = 256;
/// Bytes of TLS that one connection keeps because more has to come: a record, or a message of a handshake.
pub const TLS_KEPT_BYTES_MAX: usize = 64 * 1024;
/// Steps of TLS handshakes that a worker does in one turn: each takes as long as thousands of messages.
pub const HANDSHAKES_PER_TURN: usize = 4;
/// The window in which `connection_rate_limit` counts.
pub const TLS_RATE_WINDOW: Duration = Duration::from_secs(1);
