//! flow-uring: a credential-injecting HTTP gateway in front of the CI&T Flow LLM Proxy.
//!
//! # The map
//!
//! `main.rs` calls [`cli::main`], that calls [`server::run`], each of its shards accepts connections, and each of their
//! requests goes through [`proxy::Proxy::handle`].
//!
//! * [`cli`], the command line: flags and commands (`args`, `help`), every setting as one row of a table
//!   (`settings::table`) with its form (`settings::form`) and the precedence of its sources (`settings::reading`), the
//!   subcommands (`check`, `online` with `alpn`, `healthcheck`, `wake`, `usage_report`, `explain`; at a terminal
//!   `init`, `exec`, `top`; texts of others in `shown_text`), completions and the manual page (`reference`), what
//!   commands print (`output`), how a start can fail (`failure`).
//! * [`config`], validated settings with units: time and size limits (`limits`), the upstream's URL (`upstream`), the
//!   proxy before it (`upstream_proxy`), pages and names that may use the gateway (`access`), usage (`usage`), the log
//!   (`logging`), hosts and ports (`authority`), the forms of other values (`value`, `keyword`), those that are not
//!   shown (`concealed`), and the CPUs, descriptors and look-ups of the process (`process`).
//! * [`server`], the process and its shards. One shard (`shard`): accepting (`acceptor`, `accept`), its open
//!   connections (`connections`), the places for them (`places`), the life of one (`connection`) with keep-alive
//!   and the lingering close, io_uring or epoll (`driver`), ports (`listener`). The main thread (`supervisor`)
//!   gives the shards their orders (`control`) and drains them (`shutdown`), and loads new credentials and
//!   certificates (`reload`, `certificate`, `prices`), with keys that fit the rest (`key_check`). The take-over by
//!   another gateway (`take_over`) has two sides (`hand_over`, `predecessor`), a place where they meet
//!   (`rendezvous`), and a protocol (`conversation`). Health, readiness, metrics and the live page with its API
//!   have a listener and a thread of their own (`admin`). Usage goes to its file by `usage_totals`.
//! * [`proxy`], one exchange, in rooms: its order of things (`mod.rs`), the decision about a request (`request`), who
//!   may make it (`guard`), both directions of an attempt (`attempt`), the body that is held and edited where it is
//!   asked for (`filter`), what its key allows (`admission`, by `key_accounts`), the first choice of a credential with
//!   the search for the owner of what is named (`owner_search`), another attempt and by whom (`failover`), the copy
//!   that it is sent from (`replay`), the answer on its way (`response`), open answers that only have to be relayed,
//!   without a task each (`stream`), bytes both ways after an upgrade (`websocket`), the events in them (`sse`),
//!   answers made here (`local_answer`, `error`), the end (`outcome`), what the gateway asks the upstream for itself
//!   (`own_request`, `price_question`, `quota_question`), and what all exchanges of a shard share (`resources`,
//!   `snapshot`).
//! * [`upstream`], the way to the API host: names (`resolve`), opening a connection (`connect`), a bounded number at a
//!   time (`connect_limit`), to which address first (`addresses`, `address_race`), through a company's proxy
//!   (`tunnel`), TLS and its trust anchors (`tls`), a connection in use (`connection`) and the idle
//!   ones (`pool`), which a sleep of the machine ends (`suspension`).
//! * [`credentials`], the identities with the upstream: the secrets file (`secrets_file`), what it gives (`credential`,
//!   `snapshot`), tokens (`token`) and how they are known when they come back (`token_traces`), which of them a request
//!   uses (`choice`), cooldowns as a whole and for one model (`standing`), the makers of stored objects (`owners`), what
//!   their users may still spend (`quota`), what must not be seen (`secret`), the keys of callers and what they may do
//!   (`api_keys`), files of secrets (`private_file`) and JSON with comments in them (`commented_json`).
//! * [`http1`], HTTP/1.1 on byte slices, without I/O: heads (`head`, `fields`, `interim`), the length of a body
//!   (`framing`), its end in a stream (`body`, `chunk`, `piece`), the rules of tokens (`grammar`), the time for which a
//!   server asks to be left alone (`retry_after`) or keeps an idle connection (`keep_alive`).
//! * `capture`, failed exchanges as files: the notes on one (`recording`, `head`, `seen`), the one maker of text that
//!   may be kept (`masker`, `key_places`), its `document`, the `directory`, and the thread that writes (`recorder`).
//! * [`json`], JSON that comes in pieces, without I/O: objects that can be closed wherever they break off (`text`), the
//!   strings in one (`members`), the `grammar` of a whole one, and texts that are begun anywhere (`middle`).
//! * [`usage`], what answers cost: the tokens and the cost that they tell of (`answer`, in the counts of `tokens` and
//!   `cost`), the prices of models (`prices`), the counts of each shard (`books`, `models`, `gen_ai`), and totals
//!   (`totals`) in a file (`store`), which a thread writes (`keeper`), and told as a `report`.
//! * [`io`], sockets and waits of one shard: `stream` over a socket's `halves`, with patience for who takes little
//!   (`stream::stall_watch`), TLS with clients (`tls`), `buffer`, time limits (`deadline`) by a `clock` that is read
//!   once a turn, clients that leave (`departure`), idle connections (`parking`), the phases of a drain (`lifecycle`),
//!   fairness (`turns`), two futures at once (`race`), the `timer` of the limits, a `wakeup` by another thread; and one
//!   request of the main thread before there are shards (`blocking_request`).
//! * [`observability`], the view of operators: the `log` with its outputs, a request's line (`exchange`), the start
//!   `banner`, the present work (`activity`), its counts (`counters`, `tally`, by credential `ledger`), durations
//!   (`histogram`), the liveness of a shard (`pulse`), and its last and its open exchanges (`shown`). No text of a
//!   client makes a line long (`shortened`), and no list of names (`name_list`).
//! * `whole_file`, the reading of files: bounded in size and time, without copies left behind in memory.
//! * `sync`, what threads share state by where the order of their steps is checked (`tests/models`).
//! * `demo`, with the feature of that name: an embedded upstream that answers like Flow (`routes`, `api`, `reply`) with
//!   a `memory` of what it served, of prompts and of its users' quotas, and knows the tokens it accepts (`access`), its
//!   name and credentials (`flow`), the text for newcomers (`guide`); requests for who looks at the live page (`life`),
//!   and what they ask it to play (`scene`).
//! * `bench`, with the feature of that name: the pure parts of an exchange for `benches/`.
//! * `fuzz`, with the feature of that name: the parsers of bytes from networks and files, for the targets of `fuzz/`.
//!
//! # Where it is decided
//!
//! | question | decided by |
//! | --- | --- |
//! | Does a 429, or any other failure, lead to another attempt? | [`proxy::failover::table::decide`] |
//! | May a request reach the upstream twice? | [`proxy::request::replayable::may_replay`] |
//! | Which credential makes it? | the first one: [`credentials::Selector::first`], which states the order of precedence, called by [`proxy::owner_search`]; another: `follow` in [`proxy::failover`] |
//! | Which credentials may it use? | [`credentials::Rotations`], by the caller's key |
//! | Which session is it of? | [`proxy::request::session::session_of`] |
//! | Whom does a stored object belong to? | `learn` and `tap` in [`proxy::failover::ownership`], kept by [`credentials::Owners`] |
//! | Is a credential left alone for a while, and for what? | [`proxy::failover::blame`], kept by `credentials::standing` |
//! | Is a user blocked, and how long do its credentials rest? | `credentials::quota`, told by [`proxy::quota_question`] |
//! | Of which model is a request, and does it name an object? | [`proxy::failover::subject`] |
//! | When is a token made, and where is it set? | [`credentials::TokenCache::authorization`]; [`proxy::request::token_place::TokenPlace`] |
//! | Is a body too large (413)? | [`proxy::request::plan::plan`]; in chunks: [`http1::body::BodyReader::read_within`] |
//! | May `.env` be used? | `read` in `cli::settings::dotenv::file` |
//! | Who may use the gateway? | [`proxy::guard::AccessRules::admit`], and by their key [`proxy::guard::key::check_key`] |
//! | What may a key do, and how much of it is used? | [`proxy::admission`]; the counts: [`proxy::key_accounts`] |
//! | What is a request answered here, and with what? | [`proxy::request::plan::plan`]; [`proxy::error::table`] |
//! | What of an answer is masked? | [`proxy::response::mask`]; what counts as a part of a token: [`credentials::TokenTraces`] |
//! | Which exchanges are kept, and what is masked in them? | `keep_failed` in [`proxy::exchange`]; `head` and `masker` of [`capture`] |
//! | Which upgrades go upstream, and what opens a tunnel? | [`proxy::request::upgrade::check`]; [`proxy::response::switching::check`] |
//! | Does the client's connection go on? | [`proxy::outcome::keeps_alive`] |
//! | Who relays an answer, a task or the pump? | `may_be_pumped` in [`proxy::attempt::relay`]; [`proxy::stream::Pump`] |
//! | How does a stream that breaks end? | `end_broken` in [`proxy::attempt::relay`], by [`proxy::sse::ending::error_event`] |
//! | Whose events are in a stream, and is its turn complete? | [`proxy::sse::events`] |
//! | Has a client that leaves had its answer? | [`proxy::outcome::Outcome::after_departure`] |
//! | What does a metric count? | its text in `server::admin::metrics`; [`observability::Count`]; `retries_total`: [`observability::RetryReason`], at the end of `follow` |
//! | Is a request refused because there is too much to do? | `standing_queue` in [`proxy::resources::overload`] |
//! | Which idle connection gives way to a new one? | `server::shard::places::Places::first_in_line`, in the order of `io::parking` |
//! | How large or long may something be? | [`config::Limits`], [`config::Timeouts`]; what cannot be set is a constant where it applies |
//!
//! # The words
//!
//! **downstream**: the client's side. **upstream**: the Flow side. **shard**: one pinned thread with its own runtime.
//! **credential**: one entry of `secrets.json`. **exchange**: one request with its answer. **attempt**: one try of an
//! exchange against the upstream with one credential. **pump**: the loop of a shard that relays open answers. **head**:
//! request or status line with its fields.
//!
//! # The import rule
//!
//! Imports form a DAG (held by `tests/architecture`): `config`, `http1`, `io`, `json`, `observability`, `demo`, `sync` and
//! `whole_file` import nothing else of the crate; `credentials` may import `sync` and `whole_file`; `capture` may import
//! `credentials`, `http1`, `observability` and `whole_file`; `usage` may import `json` and `whole_file`; `upstream` may
//! import `io`, `config`, `observability`, `whole_file`; `proxy` may import `upstream` and the leaves; `server` may
//! import all of these but `demo`; nothing below imports `server`, `proxy` or `cli`. Public is what the program and its
//! tests call; the rest is private, so that the compiler tells what nothing uses any more.

// Tests may block and lock (see clippy.toml).
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_types))]
#![cfg_attr(
    feature = "fuzz",
    allow(clippy::new_without_default, reason = "what is fuzzed is no interface of a library")
)]
// Each is argued for where it stands, and counted in docs/architecture.md (tests/architecture/unsafe_code.rs).
#![warn(clippy::undocumented_unsafe_blocks)]
#![allow(rustdoc::private_intra_doc_links, reason = "the map is for those who work on the crate")]

#[cfg(not(target_os = "linux"))]
compile_error!("flow-uring runs on Linux only: it is built on io_uring. Elsewhere run it in a container or in WSL2.");

#[cfg(feature = "bench")]
pub mod bench;
#[forbid(unsafe_code)]
mod capture;
#[expect(clippy::disallowed_methods, reason = "runs on the main thread before there are shards")]
pub mod cli;
pub mod config;
#[forbid(unsafe_code)]
pub mod credentials;
#[cfg(feature = "demo")]
#[expect(clippy::disallowed_methods, reason = "its runtime is its own, and has timers")]
pub mod demo;
#[cfg(feature = "fuzz")]
pub mod fuzz;
#[forbid(unsafe_code)]
mod http1;
mod io;
#[forbid(unsafe_code)]
mod json;
#[forbid(unsafe_code)]
mod observability;
#[forbid(unsafe_code)]
mod proxy;
pub mod server;
#[forbid(unsafe_code)]
mod sync;
#[forbid(unsafe_code)]
mod upstream;
#[forbid(unsafe_code)]
pub mod usage;
#[forbid(unsafe_code)]
mod whole_file;
