//! `NO_PROXY`: the hosts that are reached without a proxy.
//!
//! No standard defines its entries; they are read as curl and Go read them, which differ little. An entry that cannot
//! be read names no host, as with both: the variable is written for many programs, some of which know other forms.

use std::net::{IpAddr, Ipv6Addr};

use crate::config::authority::{Authority, without_root_dot};
use crate::config::value::parse_digits;

/// Returns whether an entry of `list` names `host` (without brackets) at `port`. The entries, between commas or blanks:
///
/// * `*`: every host;
/// * `example.com`, `.example.com` or `*.example.com`: that host and all below it;
/// * `10.0.0.7` or `[::1]`: that address; `10.0.0.0/8` or `fd00::/8`: those of that network. No name is resolved for
///   it;
/// * any of them but a network, followed by `:port`: at that port only.
pub fn is_named_by_no_proxy(list: &str, host: &str, port: u16) -> bool {
    let host = without_root_dot(host);
    let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    list.split([',', ' ', '\t']).any(|entry| names(entry, host, address, port))
}

fn names(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if let Some((network, bits)) = entry.split_once('/') {
        return address.is_some_and(|address| is_in_network(address, network, bits));
    }
    let Some((name, only_port)) = split_port(entry) else { return false };
    if only_port.is_some_and(|only_port| only_port != port) {
        return false;
    }
    match (name, address) {
        ("*", _) => true,
        (name, Some(address)) => {
            without_root_dot(name).parse::<IpAddr>().is_ok_and(|named| named.to_canonical() == address)
        }
        (name, None) => is_at_or_below(host, name),
    }
}

/// Returns the host of an entry and its port, if it has one. `None`: it cannot be read.
fn split_port(entry: &str) -> Option<(&str, Option<u16>)> {
    // Without a port an IPv6 address needs no brackets.
    if entry.parse::<Ipv6Addr>().is_ok() {
        return Some((entry, None));
    }
    let authority = Authority::split(entry)?;
    match authority.port {
        None => Some((authority.host, None)),
        Some(_) => Some((authority.host, Some(authority.port_number()?))),
    }
}

fn is_in_network(address: IpAddr, network: &str, bits: &str) -> bool {
    let Some(bits) = parse_digits(bits).and_then(|bits| u32::try_from(bits).ok()) else { return false };
    // The bits that differ must all come after the network's. `checked_shr` gives `None` for a shift by the whole
    // width.
    match (address, network.parse()) {
        (IpAddr::V4(address), Ok(IpAddr::V4(network))) if bits <= u32::BITS => {
            let difference = address.to_bits() ^ network.to_bits();
            difference.checked_shr(u32::BITS - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), Ok(IpAddr::V6(network))) if bits <= u128::BITS => {
            let difference = address.to_bits() ^ network.to_bits();
            difference.checked_shr(u128::BITS - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Returns whether a host is the named one or a subdomain of it: the name is a suffix of the host and begins at a
/// label.
fn is_at_or_below(host: &str, name: &str) -> bool {
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    let name = without_root_dot(name.strip_prefix('.').unwrap_or(name));
    let Some(start) = host.len().checked_sub(name.len()).filter(|_| !name.is_empty()) else { return false };
    let ends_alike = host.get(start..).is_some_and(|end| end.eq_ignore_ascii_case(name));
    ends_alike && (start == 0 || host.as_bytes()[start - 1] == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_a_host_as_curl_and_go_read_it() {
        let flow = "flow.ciandt.com";
        for (list, host, is_named) in [
            ("", flow, false),
            ("*", flow, true),
            ("other.com, * ", flow, true),
            ("flow.ciandt.com", flow, true),
            ("FLOW.ciandt.COM", flow, true),
            ("flow.ciandt.com.", flow, true),
            (flow, "Flow.ciandt.com.", true),
            ("ciandt.com", flow, true),
            (".ciandt.com", flow, true),
            ("*.ciandt.com", flow, true),
            (".ciandt.com", "ciandt.com", true),
            ("com", flow, true),
            ("iandt.com", flow, false),
            ("*iandt.com", flow, false),
            ("flow.ciandt.com", "dev.flow.ciandt.com", true),
            ("dev.flow.ciandt.com", flow, false),
            ("flow", flow, false),
            (".", flow, false),
            ("*.", flow, false),
            ("a,b.com,ciandt.com,c", flow, true),
            ("a ciandt.com\tb", flow, true),
            (",, ,", flow, false),
            ("flow.ciandt.com:443", flow, true),
            ("ciandt.com:443", flow, true),
            ("*:443", flow, true),
            ("*:8443", flow, false),
            ("ciandt.com:8443", flow, false),
            ("ciandt.com:", flow, false),
            ("ciandt.com:x", flow, false),
            ("ciandt.com:+443", flow, false),
            ("ciandt.com:443:443", flow, false),
            ("ciandt.com:65979", flow, false),
            ("é.com", flow, false),
        ] {
            assert_eq!(is_named_by_no_proxy(list, host, 443), is_named, "{list:?}: {host}");
        }
    }

    #[test]
    fn addresses_are_named_by_themselves_or_by_their_network() {
        for (list, host, is_named) in [
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7.", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.7.", true),
            ("10.0.0.7", "10.0.0.70", false),
            ("0.0.7", "10.0.0.7", false),
            (".0.0.7", "10.0.0.7", false),
            ("10.0.0.7:443", "10.0.0.7", true),
            ("10.0.0.7:80", "10.0.0.7", false),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("10.0.0.6/31", "10.0.0.7", true),
            ("10.0.0.6/32", "10.0.0.7", false),
            ("0.0.0.0/0", "10.0.0.7", true),
            ("0.0.0.0/0", "fd00::1", false),
            ("10.0.0.0/33", "10.0.0.7", false),
            ("10.0.0.0/-1", "10.0.0.7", false),
            ("10.0.0.0/", "10.0.0.7", false),
            ("/8", "10.0.0.7", false),
            ("10.0.0.0/8", "ten.example.com", false),
            ("fd00::1", "fd00::1", true),
            ("fd00:0:0::1", "fd00::1", true),
            ("[fd00::1]", "fd00::1", true),
            ("[fd00::1]:443", "fd00::1", true),
            ("[fd00::1]:80", "fd00::1", false),
            ("[fd00::1]443", "fd00::1", false),
            ("[fd00::1", "fd00::1", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::/0", "fd00::1", true),
            ("fd00::1/128", "fd00::1", true),
            ("fd00::1/129", "fd00::1", false),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("10.0.0.0/8", "::ffff:10.0.0.7", true),
        ] {
            assert_eq!(is_named_by_no_proxy(list, host, 443), is_named, "{list:?}: {host}");
        }
    }
}
