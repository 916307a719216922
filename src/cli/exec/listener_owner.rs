//! The users whose programs listen on a port of this machine.
//!
//! Whoever has the port first sees what the command sends. Another person's program on it, whatever it says of itself,
//! is not the gateway that the user has in mind.

use std::fs;
use std::ops::RangeInclusive;

use rustix::process::getuid;

/// The sockets of this network namespace (proc_pid_net(5)); a wildcard of IPv6 takes IPv4 connections too.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The state of a listening socket there: `TCP_LISTEN` of the kernel's tcp_states.h.
const LISTENING: &str = "0A";
/// The identities of services, those of the system and those that systemd makes up (its Users, Groups, UIDs and GIDs). All
/// others are people's, or what people have for their containers.
const SERVICES: [RangeInclusive<u32>; 2] = [0..=999, 61_184..=65_519];

/// Returns true where nobody but this user and services of the system listens on the port, as far as that is known.
pub fn is_trusted(port: u16) -> bool {
    let ours = getuid().as_raw();
    let tables = TABLES.iter().filter_map(|table| fs::read_to_string(table).ok());
    tables.flat_map(|table| owners(&table, port)).all(|owner| owner == ours || is_service(owner))
}

fn is_service(owner: u32) -> bool {
    SERVICES.iter().any(|services| services.contains(&owner))
}

/// Lists the owners of the listening sockets of this port.
fn owners(table: &str, port: u16) -> Vec<u32> {
    let owner = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, state, owner) = (words.get(1)?, words.get(3)?, words.get(7)?);
        let is_wanted = *state == LISTENING && local.rsplit_once(':')?.1 == format!("{port:04X}");
        if is_wanted { owner.parse().ok() } else { None }
    };
    table.lines().filter_map(owner).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 0100007F:22C3 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 13 1 0 100 0 0 10 0\n   \
        1: 0100007F:22C3 0100007F:9000 01 00000000:00000000 00:00000000 00000000  1002        0 14 1 0 100 0 0 10 0\n   \
        2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 15 1 0 100 0 0 10 0\n";

    #[test]
    fn only_listeners_of_the_port_count() {
        assert_eq!(owners(TABLE, 0x22C3), [1001]);
        assert_eq!(owners(TABLE, 22), [0]);
        assert!(owners(TABLE, 1).is_empty());
    }

    #[test]
    fn people_their_containers_and_those_of_a_directory_service_are_no_services() {
        assert!([0, 33, 999, 61_184, 65_519].into_iter().all(is_service));
        assert!(![1000, 60_000, 60_001, 100_000, 2_000_000].into_iter().any(is_service));
    }

    #[test]
    fn our_own_listener_is_found_and_trusted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let table = fs::read_to_string(TABLES[0]).expect("it can be read");
        assert_eq!(owners(&table, port), [getuid().as_raw()]);
        assert!(is_trusted(port));
    }
}
