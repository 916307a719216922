//! The log of the gateways, as a layer that keeps each event.

use std::fmt::Debug;
use std::fmt::Write as _;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

/// An event of the log.
#[derive(Debug, Clone)]
pub struct Line {
    pub level: Level,
    /// The fields with their names, the message first or last.
    pub text: String,
    fields: Vec<(&'static str, String)>,
}

impl Line {
    pub fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The line of an exchange that is over.
    pub fn is_of_exchange(&self) -> bool {
        self.value("message") == Some("exchange")
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.value(name)?.parse().ok()
    }
}

/// Keeps the events of this process from here on.
pub fn start() {
    let subscriber = tracing_subscriber::registry().with(Keeper);
    tracing::subscriber::set_global_default(subscriber).expect("the only subscriber");
}

/// Returns what was logged since the last call.
pub fn take() -> Vec<Line> {
    std::mem::take(&mut LINES.lock().unwrap())
}

struct Keeper;

impl<S: Subscriber> Layer<S> for Keeper {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::DEBUG
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line { level: *event.metadata().level(), text: String::new(), fields: Vec::new() };
        event.record(&mut line);
        LINES.lock().unwrap().push(line);
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        write!(self.text, "{}={value} ", field.name()).expect("a String takes all");
        self.fields.push((field.name(), value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
