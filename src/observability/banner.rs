//! The banner that is printed when the listener is ready: the settings, and the lines to paste into a client's shell.
//!
//! Made of plain values, so that it depends on no configuration; of credentials it holds the names alone.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The start banner, from plain values.
#[derive(Debug, Clone)]
pub struct Banner<'a> {
    /// The host as it was written.
    pub host: &'a str,
    /// The address that the listener is bound to.
    pub bound: SocketAddr,
    /// Set when clients speak TLS to it.
    pub is_tls: bool,
    /// The address of the admin pages, or that they are off.
    pub admin: &'a str,
    pub shards_count: usize,
    pub secrets_file: &'a str,
    pub log_level: &'a str,
    pub io_driver: &'a str,
    pub upstream_url: &'a str,
    /// The setting that named the upstream's URL.
    pub upstream_source: &'a str,
    /// The URL of the proxy in front of the upstream, without user and password, and the setting that named it.
    pub upstream_proxy: Option<(&'a str, &'a str)>,
    pub credential_names: Vec<&'a str>,
}

impl Banner<'_> {
    /// Returns the URL at which a client on this machine reaches the gateway.
    pub fn base_url(&self) -> String {
        base_url(self.bound, self.is_tls)
    }
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "flow-uring {} is ready", env!("CARGO_PKG_VERSION"))?;
        writeln!(formatter, "  host         {}", self.host)?;
        writeln!(formatter, "  port         {}", self.bound.port())?;
        writeln!(formatter, "  admin        {}", self.admin)?;
        if let Some(url) = self.admin.split(' ').next().filter(|url| url.starts_with("http")) {
            writeln!(formatter, "  live page    {url}/")?;
        }
        writeln!(formatter, "  shards       {}", self.shards_count)?;
        writeln!(formatter, "  I/O driver   {}", self.io_driver)?;
        writeln!(formatter, "  upstream     {} (from {})", self.upstream_url, self.upstream_source)?;
        if let Some((url, source)) = self.upstream_proxy {
            writeln!(formatter, "  proxy        {url} (from {source})")?;
        }
        writeln!(formatter, "  secrets      {}", self.secrets_file)?;
        writeln!(formatter, "  credentials  {}", self.credential_names.join(", "))?;
        writeln!(formatter, "  log level    {}", self.log_level)?;
        let base_url = self.base_url();
        writeln!(formatter, "Paste into the shell of your client:")?;
        writeln!(formatter, "  export OPENAI_BASE_URL={base_url}/v1")?;
        writeln!(formatter, "  export ANTHROPIC_BASE_URL={base_url}")
    }
}

/// Returns the URL at which a client on this machine reaches a listener.
pub fn base_url(bound: SocketAddr, is_tls: bool) -> String {
    let scheme = if is_tls { "https" } else { "http" };
    format!("{scheme}://{}", reachable(bound))
}

/// Returns the address at which a client on this machine reaches a listener: a wildcard bind is reached over loopback.
pub fn reachable(bound: SocketAddr) -> SocketAddr {
    let mut address = bound;
    if bound.ip().is_unspecified() {
        address.set_ip(if bound.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(bound: &str) -> String {
        let banner = Banner {
            host: "localhost",
            bound: bound.parse().expect("an address"),
            is_tls: false,
            admin: "http://127.0.0.1:8900",
            shards_count: 4,
            secrets_file: "secrets.json",
            log_level: "INFO",
            io_driver: "io_uring",
            upstream_url: "https://flow.ciandt.com/flow-llm-proxy",
            upstream_source: "environment FLOW_PROXY_TARGET_URL",
            upstream_proxy: Some(("http://proxy.corp:3128", "environment HTTPS_PROXY")),
            credential_names: vec!["team-a", "team-b"],
        };
        banner.to_string()
    }

    #[test]
    fn the_banner_says_where_it_listens_where_it_sends_and_what_to_paste() {
        let expected = format!(
            "flow-uring {} is ready\n  \
               host         localhost\n  \
               port         8899\n  \
               admin        http://127.0.0.1:8900\n  \
               live page    http://127.0.0.1:8900/\n  \
               shards       4\n  \
               I/O driver   io_uring\n  \
               upstream     https://flow.ciandt.com/flow-llm-proxy (from environment FLOW_PROXY_TARGET_URL)\n  \
               proxy        http://proxy.corp:3128 (from environment HTTPS_PROXY)\n  \
               secrets      secrets.json\n  \
               credentials  team-a, team-b\n  \
               log level    INFO\n\
             Paste into the shell of your client:\n  \
               export OPENAI_BASE_URL=http://127.0.0.1:8899/v1\n  \
               export ANTHROPIC_BASE_URL=http://127.0.0.1:8899\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(banner("127.0.0.1:8899"), expected);
    }

    #[test]
    fn the_base_urls_are_ones_that_this_machine_can_use() {
        for (bound, url) in [
            ("0.0.0.0:1", "http://127.0.0.1:1\n"),
            ("[::]:1", "http://[::1]:1\n"),
            ("[::1]:1", "http://[::1]:1\n"),
            ("10.0.0.1:1", "http://10.0.0.1:1\n"),
        ] {
            assert!(banner(bound).contains(&format!("ANTHROPIC_BASE_URL={url}")), "{bound}");
        }
    }
}
