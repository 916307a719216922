//! The log of the gateways, as a layer that keeps each event.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::thread;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

static LOG: Mutex<Log> = Mutex::new(Log { lines: Vec::new(), gateways: BTreeMap::new(), newcomers_are_of: 0 });

/// The lines of each gateway, which are told apart by the thread that writes them.
struct Log {
    lines: Vec<Vec<Line>>,
    gateways: BTreeMap<String, usize>,
    newcomers_are_of: usize,
}

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

/// Threads that log for the first time are of this gateway from here on.
pub fn attribute_to(gateway: usize) {
    LOG.lock().unwrap().newcomers_are_of = gateway;
}

/// Returns what a gateway has logged since the last call.
pub fn take(gateway: usize) -> Vec<Line> {
    LOG.lock().unwrap().lines.get_mut(gateway).map(std::mem::take).unwrap_or_default()
}

struct Keeper;

impl<S: Subscriber> Layer<S> for Keeper {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= Level::DEBUG
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line { level: *event.metadata().level(), text: String::new(), fields: Vec::new() };
        event.record(&mut line);
        let thread = format!("{:?}", thread::current().id());
        let mut log = LOG.lock().unwrap();
        let newcomer = log.newcomers_are_of;
        let gateway = *log.gateways.entry(thread).or_insert(newcomer);
        let count = log.lines.len().max(gateway + 1);
        log.lines.resize_with(count, Vec::new);
        log.lines[gateway].push(line);
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
