//! Every bound that the node promises or relies on, named once.
//!
//! Units stand last in a name. Limits that must agree with each other are checked at compile time
//! below, so that a change to one that breaks another does not build.

/// Longest key after percent-decoding, in bytes. A longer one is refused with 414.
pub const KEY_BYTES_MAX: usize = 1_024;

/// Largest request head (request line and fields, with their line ends). Over it: 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// Most header fields in a request. Over it: 431.
pub const HEAD_FIELDS_MAX: usize = 100;

/// Longest request target. Over it: 414.
pub const TARGET_BYTES_MAX: usize = 8 * 1_024;

/// Longest chunk-size line of a chunked body, extensions included.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Most bytes of trailers behind a chunked body.
pub const TRAILER_BYTES_MAX: usize = 8 * 1_024;

/// Longest token, key or password in a credential field. Checked before any cryptography.
pub const CREDENTIAL_BYTES_MAX: usize = 4 * 1_024;

/// Deepest nesting of a JSON document from the network.
pub const JSON_DEPTH_MAX: usize = 32;

/// Size of the buffer a connection reads into while it has unanswered input.
pub const BLOCK_BYTES: usize = 32 * 1_024;

/// Size of the buffer an incomplete head is parked in while the connection waits for the rest.
pub const SMALL_BLOCK_BYTES: usize = 2 * 1_024;

/// Values up to this size travel by copy; larger ones are shared and sent from where they lie.
pub const VALUE_COPY_BYTES_MAX: usize = 32 * 1_024;

/// Answers up to this size are copied next to their head; longer ones are sent with `writev`.
pub const ANSWER_COPY_BYTES_MAX: usize = 8 * 1_024;

/// Requests of one connection that other cores may be working on at a time.
pub const CONNECTION_HOPS_MAX: usize = 64;

/// Capacity of the queue between a pair of reactors, in messages.
pub const MESH_QUEUE_MESSAGES: usize = 4_096;

/// Operations under way between a pair of reactors, in one direction. The rest of the queue is kept
/// for answers, which is why an answer always finds room.
pub const MESH_OPERATIONS_MAX: usize = MESH_QUEUE_MESSAGES / 2 - 64;

/// Connections handed to one reactor and not yet taken by it.
pub const MESH_HANDOVERS_MAX: usize = 64;

/// Requests prepared together, so that their cache misses overlap.
pub const BATCH_REQUESTS_MAX: usize = 64;

/// Most operations in `POST /api/kv/batch`.
pub const BATCH_OPERATIONS_MAX: usize = 1_000;

/// Bytes of values that one batch answers; gets past it are answered 413.
pub const BATCH_ANSWER_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// Largest and default page of a listing, in keys.
pub const LIST_KEYS_MAX: usize = 1_000;
/// Page of a listing when the caller names none, in keys.
pub const LIST_KEYS_DEFAULT: usize = 100;

/// Most values of a list.
pub const LIST_VALUES_MAX: u32 = 100_000;

/// Values of a list that are worked on in one turn of the loop, and bytes of their text: a quarter of a
/// millisecond.
pub const LIST_VALUES_PER_TURN: usize = 1_024;
/// See [`LIST_VALUES_PER_TURN`].
pub const LIST_BYTES_PER_TURN: usize = 128 * 1_024;

/// Keys and values in a block of a dump, in bytes: about what is in memory at a time for each shard that it
/// goes through. One entry more may be in it.
pub const DUMP_BLOCK_BYTES: usize = 256 * 1_024;

/// Entries that a dump looks at in one turn of the loop, and bytes of them that it writes as lines: a
/// quarter of a millisecond.
pub const DUMP_ENTRIES_PER_TURN: usize = 1_024;
/// See [`DUMP_ENTRIES_PER_TURN`].
pub const DUMP_BYTES_PER_TURN: usize = 128 * 1_024;

/// Long lists that a dump leaves for later before it sees to them.
pub const DUMP_LISTS_MAX: usize = 64;

/// Blocks of a dump that are on their way at a time.
pub const DUMP_SHARDS_MAX: usize = 4;

/// Longest `Content-Type` kept with a value.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

/// Longest body of a PATCH.
pub const PATCH_BODY_BYTES_MAX: usize = 4 * 1_024;

/// Most fields in a body of the databases family.
pub const FORM_FIELDS_MAX: usize = 1_000;

/// Longest head of a part of a multipart form.
pub const MULTIPART_HEAD_BYTES_MAX: usize = 4 * 1_024;

/// Entries that each of the databases with clients' log messages has at most.
pub const LOG_ENTRIES_MAX: u32 = 1_000;

/// Longest log message from a client.
pub const LOG_MESSAGE_BYTES_MAX: usize = 16 * 1_024;

/// Bytes of a database that are gathered before they are sent, when all of it is asked for.
pub const DATABASE_PAGE_BYTES: usize = 64 * 1_024;

/// Entries of a database that are brought together for that.
pub const DATABASE_PAGE_ENTRIES: usize = 512;

/// Longest query of `/execute`.
pub const QUERY_BYTES_MAX: usize = 64 * 1_024;

/// Longest body that makes, renames or rotates an API key or app.
pub const FORM_BODY_BYTES_MAX: usize = 16 * 1_024;

/// Body bytes of a refused request that are read and thrown away so that the connection lives on.
pub const DRAIN_BYTES_MAX: u64 = 64 * 1_024;

/// Largest window that a stored zstd frame may ask for when it is decoded: 8 MiB, as RFC 9659 has
/// it for content codings.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Longest time-to-live in seconds.
pub const TTL_SECONDS_MAX: u64 = u32::MAX as u64;

/// Ciphertext that one TLS connection holds for its client at most, before what makes records of it.
pub const TLS_OUTPUT_BYTES_MAX: usize = 64 * 1_024;

/// What a client may send before its TLS handshake is complete. Usual ones send less than 2 KiB.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 16 * 1_024;

/// Most reactors. Each pair shares two queues, so their memory grows with the square.
pub const WORKERS_MAX: usize = 128;

/// Least memory for each reactor's shard, connections and queues.
pub const WORKER_MEMORY_BYTES_MIN: u64 = 4 * 1_024 * 1_024;

/// Values of the largest size that the memory limit must hold for each reactor.
pub const VALUES_IN_FLIGHT_MIN: u64 = 4;

const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(HEAD_BYTES_MAX < BLOCK_BYTES);
const _: () = assert!(BLOCK_BYTES <= u16::MAX as usize + 1);
const _: () = assert!(3 * KEY_BYTES_MAX < TARGET_BYTES_MAX);
const _: () = assert!(ANSWER_COPY_BYTES_MAX <= VALUE_COPY_BYTES_MAX);
const _: () = assert!(2 * MESH_OPERATIONS_MAX + MESH_HANDOVERS_MAX <= MESH_QUEUE_MESSAGES);
