//! Lucid: an in-memory key-value node spoken to over HTTP/1.1.
//!
//! # Threads
//!
//! One *reactor* per core does all the work. Each owns one *shard*: a part of all keys, chosen by
//! hash. Nothing of a shard is ever touched by another thread, so there are no locks, and operations
//! on one key are linearizable.
//!
//! ```text
//!           clients                                  clients
//!              │ SO_REUSEPORT                           │
//!   ┌──────────▼───────────────────┐         ┌──────────▼───────────────────┐
//!   │ reactor 0                    │         │ reactor 1                    │
//!   │ net ► http ► api ► shard 0   │◄─mesh──►│ net ► http ► api ► shard 1   │
//!   └──────┬───────────────────────┘  SPSC   └──────┬───────────────────────┘
//!          │ values to decode                       │
//!          ├───────────────► helper ◄───────────────┤
//!          │ records of what was done               │
//!          └──────► journal ► sync, disk ◄──────────┘     with persistence
//!   main: signals, start, stop, reload; a log thread for each output; a watchdog under a supervisor;
//!   at the start one that checks what was kept, at the end one that sees to it that it is
//! ```
//!
//! Reactors never block, never lock and never wait for another thread. What would hold one up
//! (decoding a stored encoding) goes to the helper thread and comes back as a message. What they log goes
//! into a bounded queue of each output. Settings that change while the node runs come to them from the main
//! thread as a message too.
//!
//! # The life of a GET
//!
//! 1. [`net`]: the turn of the loop begins; every ready connection, plain or in TLS, is read once into a
//!    block from the reactor's pool.
//! 2. [`http`]: each complete head in it becomes a [`http::Request`]: a few offsets, no copies.
//! 3. [`api`]: the route table names family and grant; [`auth`] compares the token with the one this
//!    connection showed before; the key is decoded in place and hashed.
//! 4. The hash names the owner. *If it is this core*, the request waits in its connection's queue
//!    while the index line of every request of the turn is prefetched, then the entries' lines; then
//!    [`shard`] executes it and `api` writes the answer's head and the value into one buffer.
//! 5. *If it is another core*, the key is copied into a pooled job and pushed into the ring to its
//!    owner, who is woken only if it sleeps. The owner prefetches all it was asked in this turn, answers
//!    into the jobs and pushes them back. The connection answers in the order of its requests,
//!    whichever core was faster.
//! 6. Each connection is written to once. What the socket does not take waits, and the connection is
//!    neither read nor answered until the client has read on.
//!
//! A PUT differs in its body: one that fits stays in the block; a larger one is read straight into
//! its place, within a budget that all reactors share. What bodies, connections and slow readers do not
//! need of the memory limit belongs to the shards ([`memory`]).
//!
//! With persistence the shard hands a record of each outcome to its [`journal`], whose thread writes and syncs
//! what all shards brought as one group. Whatever shows something that is not kept yet waits in its
//! connection, or with the core that owns the key, while the reactor goes on with others.
//!
//! # The start
//!
//! The reactors run before what was kept is read, and answer for the node: it is alive, it is not ready. The
//! main thread takes the folder first and refuses what can be refused at once; a thread beside the reactors reads it.
//! When all of it is good each reactor is told, as of changed settings, who there is and what its part is, and brings that back a slice
//! each turn. The node serves when the last one has.
//!
//! # Layers
//!
//! | module | may import |
//! |---|---|
//! | base: [`limits`], [`clock`], [`constant_time`], [`doorbell`], [`etag`], [`memory`], [`op`], [`primitive`], [`raw`] | one another |
//! | [`http`] | base, not `op` |
//! | [`store`] | base |
//! | [`journal`] | base, `store` |
//! | [`shard`] | base, `store`, `journal` |
//! | [`auth`] | base, `config` |
//! | [`api`] | base, `http`, `shard`, `auth`, `config` |
//! | [`net`] | base, `api`, `http`, `shard`, `auth`, `config` |
//! | [`server`], [`cli`], `main` | all of the above |
//!
//! `http` and `store` never meet. mio and rustls are used in `net` alone, httparse in `http`, hashbrown in
//! `store`; time is read in `clock`; `unsafe` stands in `raw`. `tests/tidy.rs` holds the tree to it.

pub mod api;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod constant_time;
pub mod doorbell;
pub mod etag;
pub mod http;
pub mod journal;
pub mod limits;
pub mod memory;
pub mod net;
pub mod op;
pub mod primitive;
pub mod raw;
pub mod server;
pub mod shard;
pub mod store;
