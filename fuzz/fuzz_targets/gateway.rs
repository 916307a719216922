//! Whole gateways, on io_uring and on epoll, between clients and an upstream that do what the input says: see
//! `flow_uring_fuzz::gateway`.
#![no_main]

use flow_uring_fuzz::gateway::World;
use flow_uring_fuzz::gateway::memory::CountingAllocator;
use flow_uring_fuzz::gateway::script::Script;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fuzz_target!(|data: &[u8]| World::get().run(&Script::of_bytes(data)));
