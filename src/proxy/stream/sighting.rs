//! Open answers as they are shown: looked up when somebody asks, so that nothing is noted while they are relayed.

use super::entry::{StreamEntry, Streaming};
use super::open_exchange::OpenExchange;
use super::table::StreamTable;
use crate::observability::{OpenStream, STREAMS_MAX};
use crate::proxy::exchange::Exchange;
use crate::proxy::resources::Resources;
use crate::usage::models::ModelRef;

/// Entries that are looked at, each of which is some cache lines from memory: a tenth of a millisecond, once a second
/// while somebody looks.
const LOOKED_AT_MAX: usize = 1024;

/// Limit on each text that is shown.
const TEXT_CHARS_MAX: usize = 200;

/// Returns the longest of those that are looked at.
pub fn longest<T>(table: &StreamTable<T>, resources: &Resources) -> Vec<OpenStream> {
    let mut entries: Vec<&StreamEntry<T>> = table.entries().take(LOOKED_AT_MAX).collect();
    entries.sort_by_key(|entry| entry.stream().open.exchange.began);
    entries.truncate(STREAMS_MAX);
    entries.into_iter().map(|entry| sighting(entry.stream(), resources)).collect()
}

fn sighting<T>(stream: &Streaming<T>, resources: &Resources) -> OpenStream {
    let OpenExchange { answer, exchange, .. } = &stream.open;
    let Exchange { id, began, snapshot, credential, key, progress, .. } = exchange;
    let text_bytes = answer.body.streamed_text().map_or_else(|| answer.body.reader.data_bytes(), |text| text.bytes);
    let path = stream.downstream.path.split(['?', '#']).next().unwrap_or_default();
    OpenStream {
        id: *id,
        began: *began,
        model: model(progress.usage.request_model.borrow().as_ref(), resources),
        key: key.and_then(|key| snapshot.key_name(key)).map(begin_of),
        credential: credential.map(|credential| begin_of(snapshot.name(credential))),
        path: begin_of(path),
        text_bytes,
    }
}

fn model(named: Option<&ModelRef>, resources: &Resources) -> Option<String> {
    Some(begin_of(resources.usage.as_ref()?.models().text(named?)))
}

fn begin_of(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
