//! Fixed sequences of the pure parts of an exchange, so that `scripts/instructions` can count what they take under
//! `valgrind --tool=callgrind`: `heads` or `events`, and how many times.

use std::hint::black_box;

use flow_uring::bench::ExchangeBench;

fn main() {
    // `cargo bench` adds words of its own.
    let words: Vec<String> = std::env::args().skip(1).collect();
    let times = words.iter().find_map(|word| word.parse::<u32>().ok()).unwrap_or(1);
    let is_wanted = |name: &str| words.iter().any(|word| word == name);
    let mut exchange = ExchangeBench::default();
    let mut out = Vec::with_capacity(8 * 1024);
    for _ in 0..times {
        if is_wanted("heads") {
            black_box(exchange.scan_request());
            black_box(exchange.plan_request(&mut out));
            black_box(exchange.rewrite_response(&mut out));
        }
        if is_wanted("events") {
            black_box(exchange.relay_events());
        }
    }
}
