//! Parsing of the gateway's log: the values of a line, and the counts of the last line.

use std::collections::BTreeMap;

use super::Gateway;

/// Returns the value of `name=` in a line, without its quotes.
pub fn value_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = line.split_once(&format!(" {name}="))?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split(' ').next(),
    }
}

/// Returns the lines with this message, in their order.
pub fn lines_saying(log: &[String], message: &str) -> Vec<String> {
    log.iter().filter(|line| line.contains(&format!(" {message} "))).cloned().collect()
}

/// The counts of a gateway from its start to the end of a graceful stop.
#[derive(Debug)]
pub struct Totals(BTreeMap<String, u64>);

impl Totals {
    /// Stops the gateway; afterwards its log is complete.
    pub fn at_the_end_of(gateway: &mut Gateway) -> Self {
        gateway.terminate();
        assert!(gateway.wait().success(), "{}", gateway.log().join("\n"));
        let line = gateway.wait_for_log(" in all requests=");
        let (_, counts) = line.split_once(" in all ").expect("it was just found");
        let count = |pair: &str| {
            let (name, count) = pair.split_once('=').unwrap_or_else(|| panic!("not a count: {pair:?} in {line}"));
            (name.to_owned(), count.parse().unwrap_or_else(|_| panic!("not a count: {pair:?} in {line}")))
        };
        Self(counts.split(' ').map(count).collect())
    }

    pub fn of(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name}= in {:?}", self.0))
    }
}
