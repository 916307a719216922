//! How long the pure parts of an exchange take: `cargo bench --features bench`.
//!
//! Absolute times mean little on a shared machine; compare two states of the tree with `--save-baseline` and
//! `--baseline`. What an exchange costs with the kernel's part is measured by `scripts/bench` and `benches/load`.

#![expect(clippy::disallowed_types, reason = "a benchmark blocks on threads of its own; no shard runs here")]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flow_uring::bench::{Balancer, EVENTS, ExchangeBench};

fn heads(criterion: &mut Criterion) {
    let mut exchange = ExchangeBench::default();
    let mut out = Vec::with_capacity(8 * 1024);
    let mut group = criterion.benchmark_group("head");
    group.bench_function("scan a request", |bencher| bencher.iter(|| exchange.scan_request()));
    group.bench_function("parse a request", |bencher| bencher.iter(|| exchange.parse_request()));
    group.bench_function("plan and rewrite a request", |bencher| {
        bencher.iter(|| black_box(exchange.plan_request(&mut out)));
    });
    group.bench_function("parse and rewrite a response", |bencher| {
        bencher.iter(|| black_box(exchange.rewrite_response(&mut out)));
    });
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let exchange = ExchangeBench::default();
    let mut group = criterion.benchmark_group("body");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("relay events", |bencher| bencher.iter(|| black_box(exchange.relay_events())));
    group.finish();
}

fn credentials(criterion: &mut Criterion) {
    let exchange = ExchangeBench::default();
    let mut group = criterion.benchmark_group("credentials");
    group.bench_function("look a token up", |bencher| bencher.iter(|| black_box(exchange.look_up_token())));
    for count in [1, 3, 500] {
        let balancer = Balancer::of(count);
        group.bench_function(format!("take a turn of {count}"), |bencher| bencher.iter(|| balancer.take_turn()));
        let session = b"0b6e0c2e-6f44-4d5f-9f43-5a1c7a0a7d11";
        group.bench_function(format!("choose of {count} for a session"), |bencher| {
            bencher.iter(|| balancer.choose_for(session));
        });
    }
    let balancer = Balancer::of(3);
    group.bench_function("take a turn while another thread does", |bencher| {
        bencher.iter_custom(|turns| contended(&balancer, turns));
    });
    group.finish();
}

/// The time of so many turns on each of two threads at the same time.
fn contended(balancer: &Balancer, turns: u64) -> Duration {
    let begin = Barrier::new(2);
    let take = || {
        begin.wait();
        let began = Instant::now();
        for _ in 0..turns {
            black_box(balancer.take_turn());
        }
        began.elapsed()
    };
    thread::scope(|scope| {
        let other = scope.spawn(take);
        let own = take();
        own.max(other.join().expect("it only counts"))
    })
}

criterion_group!(benches, heads, events, credentials);
criterion_main!(benches);
