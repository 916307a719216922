//! The metrics of the program: its version, its driver, its shards, what it knows of stored objects and of
//! prices, and its log.

use super::exposition::{Exposition, plain};
use crate::capture::recorder::Recorder;
use crate::credentials::Shelf;
use crate::io::turns::long_turns_count;
use crate::observability::log::lost_lines;
use crate::server::admin::gateway_state::GatewayState;
use crate::server::shard::driver::Driver;

/// Writes the version, the I/O driver and the shards, of which `alive` answer.
pub fn build(page: &mut Exposition, gateway: &GatewayState, alive: usize) {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    page.gauge("flow_uring_build_info", "Always 1; the label says which version runs.", [(version, 1.0)]);
    let (driver, detail) = match &gateway.driver {
        Driver::Uring(step) => ("io_uring", (*step).to_owned()),
        Driver::Epoll => ("epoll", "asked for".to_owned()),
        Driver::EpollFallback(why) => ("epoll", format!("io_uring was refused: {why}")),
    };
    let driver = vec![("driver", driver.to_owned()), ("detail", detail)];
    page.gauge(
        "flow_uring_io_driver_info",
        "Always 1; the labels say which I/O driver the shards run on, and on which step of its ladder or why.",
        [(driver, 1.0)],
    );
    let shards = gateway.shared.config.shards.get();
    page.gauge("flow_uring_shards", "Threads that serve requests.", plain(shards as f64));
    page.gauge("flow_uring_shards_answering", "Shards that answered within a second.", plain(alive as f64));
    page.counter(
        "flow_uring_long_turns_total",
        "Turns of shards in which TLS handshakes, or the search and change of bodies, took more than 4 ms of the CPU, while \
         all other connections of the shard waited. There should be none.",
        plain(long_turns_count() as f64),
    );
}

/// Writes how many stored objects have a known owner.
pub fn known_objects(page: &mut Exposition, gateway: &GatewayState) {
    let kinds = [("responses", Shelf::Responses), ("others", Shelf::Others)];
    page.gauge(
        "flow_uring_known_objects",
        "Stored objects whose owner is known, at most 16384 of each kind.",
        kinds.map(|(kind, shelf)| (vec![("kind", kind.to_owned())], gateway.shared.owners.count(shelf) as f64)),
    );
}

/// Writes how many models have a price.
pub fn prices(page: &mut Exposition, gateway: &GatewayState) {
    let models = gateway.shared.prices.table().map_or(0, |table| table.len());
    page.gauge(
        "flow_uring_prices_models",
        "Models that have a price, by which costs are estimated that the upstream does not report.",
        plain(models as f64),
    );
}

/// Writes how many failed exchanges were kept, and how many were not; 0 where none are.
pub fn captures(page: &mut Exposition, gateway: &GatewayState) {
    let count = |of: fn(&Recorder) -> u64| plain(gateway.shared.recorder.as_ref().map_or(0, of) as f64);
    page.counter(
        "flow_uring_captures_total",
        "Failed exchanges that were kept in --capture-dir.",
        count(Recorder::written),
    );
    page.counter(
        "flow_uring_captures_lost_total",
        "Failed exchanges that were to be kept and were not: too many at once, or the directory could not be written.",
        count(Recorder::lost),
    );
}

/// Writes how many lines of the log were lost.
pub fn logs(page: &mut Exposition) {
    page.counter(
        "flow_uring_log_lines_dropped_total",
        "Lines of the log that were lost because an output was too slow for them, or could not be written.",
        lost_lines().map(|(output, count)| (vec![("output", output.to_owned())], count as f64)),
    );
}
