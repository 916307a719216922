//! The subscriber of the log: the events it takes, and the form of their lines.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use super::fields::SafeFields;

/// The target of this crate's events.
const OWN_TARGET: &str = env!("CARGO_CRATE_NAME");

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// `2026-11-22T22:13:32.123456Z  INFO message name=value`
    Text,
    /// One flat JSON object.
    Json,
}

/// Set when this process's log has ended: threads that outlive it (the one that resolves names) may still log, which
/// then goes to no output, and counts as lost in none.
pub static HAS_ENDED: AtomicBool = AtomicBool::new(false);

pub fn subscriber(
    level: Level,
    line_format: LineFormat,
    is_coloured: bool,
    stderr: NonBlocking,
    file: Option<NonBlocking>,
) -> impl Subscriber + Send + Sync {
    let others = LevelFilter::from_level(level).min(LevelFilter::WARN);
    let filter = Targets::new().with_target(OWN_TARGET, level).with_default(others);
    let layers = match file {
        None => vec![layer(level, line_format, is_coloured, stderr)],
        // JSON is never coloured. Where both outputs get the same bytes, they are made once.
        Some(file) if !is_coloured || line_format == LineFormat::Json => {
            vec![layer(level, line_format, false, stderr.and(file))]
        }
        Some(file) => vec![layer(level, line_format, true, stderr), layer(level, line_format, false, file)],
    };
    Registry::default().with(layers.with_filter(filter))
}

fn layer(
    level: Level,
    line_format: LineFormat,
    is_coloured: bool,
    writer: impl for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    // The origin of an event helps those who debug this program, and is noise to those who run it.
    let with_origin = level >= Level::DEBUG;
    let writer = writer.with_filter(|_| !HAS_ENDED.load(Ordering::Relaxed));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_target(with_origin);
    let layer = layer.with_thread_names(with_origin);
    match line_format {
        LineFormat::Text => layer.fmt_fields(SafeFields).with_ansi(is_coloured).boxed(),
        LineFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    }
}
