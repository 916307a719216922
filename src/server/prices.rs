//! The source of prices, and the thread that reads what the upstream answers when it is asked for them.
//!
//! Invariant: what cannot be used changes nothing.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use crate::config::PriceSource;
use crate::proxy::resources::prices::Prices;
use crate::server::error::RunError;
use crate::usage::prices::{LoadedPrices, PriceTable, load_prices};
use crate::whole_file::FileKinds;

/// Loads the prices of a file, or starts the thread for those of the upstream.
///
/// # Errors
/// The file cannot be used, or the thread cannot be started.
pub fn open(source: &PriceSource) -> Result<Arc<Prices>, RunError> {
    match source {
        PriceSource::Nothing => Ok(Arc::new(Prices::fixed(None))),
        PriceSource::File(path) => {
            let loaded = load_prices(path, FileKinds::RegularOrPipe).map_err(RunError::Prices)?;
            let table = told(loaded, path, "the file of prices was loaded");
            Ok(Arc::new(Prices::fixed(Some(Arc::new(table)))))
        }
        PriceSource::Upstream => {
            let (sender, answers) = channel();
            let prices = Arc::new(Prices::asked(sender));
            start_reader(prices.clone(), answers).map_err(RunError::Thread)?;
            Ok(prices)
        }
    }
}

/// Loads the file anew; the prices before stay in use where it cannot be used.
pub fn reload(source: &PriceSource, prices: &Prices) {
    let PriceSource::File(path) = source else { return };
    match load_prices(path, FileKinds::Regular) {
        Ok(loaded) => prices.store(told(loaded, path, "the file of prices was loaded anew"), Instant::now()),
        Err(error) => tracing::error!("the prices loaded before stay in use: {error}"),
    }
}

fn told(loaded: LoadedPrices, path: &Path, what: &str) -> PriceTable {
    let LoadedPrices { table, entries, warnings } = loaded;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(models = table.len(), entries, path = %path.display(), "{what}");
    table
}

fn start_reader(prices: Arc<Prices>, answers: Receiver<Vec<u8>>) -> io::Result<()> {
    // Started by the main thread, so it is on no shard's CPU: a large answer takes tens of milliseconds.
    thread::Builder::new()
        .name("flow-prices".into())
        .spawn(move || answers.iter().for_each(|answer| read(&prices, &answer)))?;
    Ok(())
}

/// Reads an answer of the upstream.
fn read(prices: &Prices, answer: &[u8]) {
    match PriceTable::from_model_info(answer) {
        Ok(table) => {
            let (models, several_prices) = (table.len(), table.several_prices_count());
            if prices.table().is_none() {
                tracing::info!(models, several_prices, "the upstream told the prices of its models");
            } else {
                tracing::debug!(models, several_prices, "the upstream told the prices of its models again");
            }
            prices.store(table, Instant::now());
        }
        Err(fault) if prices.is_first_refusal() => tracing::info!("the upstream's list of prices {fault}"),
        Err(fault) => tracing::debug!("the upstream's list of prices {fault}"),
    }
    prices.end_question();
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"a": {"input_cost_per_token": 1e-6}}"#;

    #[test]
    fn a_bad_file_keeps_a_gateway_from_starting_and_changes_nothing_later() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("prices.json");
        let source = PriceSource::File(path.clone());
        let error = open(&source).err().expect("no file").to_string();
        assert!(error.starts_with("the file of prices ") && error.contains("cannot be read"), "{error}");
        std::fs::write(&path, FILE).expect("written");
        let prices = open(&source).expect("prices");
        let models = || prices.table().map(|table| table.len());
        assert_eq!(models(), Some(1));
        std::fs::write(&path, "{").expect("written");
        reload(&source, &prices);
        assert_eq!(models(), Some(1));
        std::fs::write(&path, FILE.replace("}}", "}, \"b\": {\"input_cost_per_token\": 1e-6}}")).expect("written");
        reload(&source, &prices);
        assert_eq!(models(), Some(2));
    }

    #[test]
    fn an_answer_that_cannot_be_used_changes_nothing() {
        let prices = Prices::asked(channel().0);
        read(&prices, b"<html>");
        assert!(prices.table().is_none());
        read(&prices, br#"{"data": [{"model_name": "a", "model_info": {"input_cost_per_token": 1e-06}}]}"#);
        read(&prices, b"{}");
        assert_eq!(prices.table().map(|table| table.len()), Some(1));
    }
}
