//! Families of metrics, and their text in the Prometheus format.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use crate::observability::{BOUNDS, RATE_BOUNDS, RateSpread, Spread};

const MICROS_IN_SECOND: f64 = 1_000_000.0;

/// The labels of a sample, in their order.
pub type Labels = Vec<(&'static str, String)>;

/// The labels of a sample and its value.
pub type Sample = (Labels, f64);

/// Returns the one sample of a family without labels.
pub fn plain(value: f64) -> [Sample; 1] {
    [(Vec::new(), value)]
}

/// The samples of a histogram.
pub struct Distribution {
    /// The upper bound of each bucket but the last.
    bounds: Vec<f64>,
    /// The count of each bucket, without those of the smaller ones.
    buckets: Vec<u64>,
    sum: f64,
}

impl From<&Spread> for Distribution {
    fn from(spread: &Spread) -> Self {
        Distribution {
            bounds: BOUNDS.iter().map(|bound| bound.as_secs_f64()).collect(),
            buckets: spread.buckets.to_vec(),
            sum: spread.sum_micros as f64 / MICROS_IN_SECOND,
        }
    }
}

impl Distribution {
    /// Makes one of the bounds and counts of its buckets.
    pub fn new(bounds: &[f64], buckets: Vec<u64>, sum: f64) -> Self {
        Distribution { bounds: bounds.to_vec(), buckets, sum }
    }
}

impl From<&RateSpread> for Distribution {
    fn from(spread: &RateSpread) -> Self {
        let bounds = RATE_BOUNDS.iter().map(|bound| f64::from(*bound)).collect();
        Distribution { bounds, buckets: spread.buckets.to_vec(), sum: spread.sum }
    }
}

impl Distribution {
    fn metric(&self) -> Histogram {
        let mut count = 0;
        let bounded = self.bounds.iter().zip(&self.buckets).map(|(bound, in_bucket)| {
            count += in_bucket;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(bounded.collect());
        histogram.set_sample_count(self.buckets.iter().sum());
        histogram.set_sample_sum(self.sum);
        histogram
    }
}

/// The page so far.
#[derive(Default)]
pub struct Exposition {
    families: Vec<MetricFamily>,
}

impl Exposition {
    pub fn counter(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        self.family(name, help, MetricType::COUNTER, samples, |metric, value| {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        });
    }

    pub fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        self.family(name, help, MetricType::GAUGE, samples, |metric, value| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        });
    }

    pub fn histogram(&mut self, name: &str, help: &str, distribution: Distribution) {
        self.histograms(name, help, [(Vec::new(), distribution)]);
    }

    /// Adds a histogram with one distribution for each set of labels.
    pub fn histograms(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (Labels, Distribution)>) {
        self.family(name, help, MetricType::HISTOGRAM, samples, |metric, distribution| {
            metric.set_histogram(distribution.metric());
        });
    }

    /// Encodes all families.
    ///
    /// # Errors
    /// A name is not valid.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.families, &mut text)?;
        Ok(text)
    }

    /// Adds a family, unless it has no samples.
    fn family<V>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl IntoIterator<Item = (Labels, V)>,
        set: impl Fn(&mut Metric, V),
    ) {
        let metric = |(labels, value): (Labels, V)| {
            let mut metric = Metric::from_label(labels.into_iter().map(label).collect());
            set(&mut metric, value);
            metric
        };
        let metrics: Vec<Metric> = samples.into_iter().map(metric).collect();
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.families.push(family);
    }
}

fn label((name, value): (&str, String)) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value);
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(page: &Exposition) -> String {
        String::from_utf8(page.encode().unwrap()).unwrap()
    }

    #[test]
    fn labels_are_escaped_and_an_empty_family_is_left_out() {
        let mut page = Exposition::default();
        page.gauge("nothing", "Nothing.", []);
        page.counter("a_total", "A.", [(vec![("name", "a \"b\" \\ \n c".to_owned())], 2.0)]);
        assert_eq!(
            text(&page),
            "# HELP a_total A.\n# TYPE a_total counter\na_total{name=\"a \\\"b\\\" \\\\ \\n c\"} 2\n"
        );
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up() {
        let mut spread = Spread { sum_micros: 1_500_000, ..Spread::default() };
        spread.buckets[0] = 1;
        spread.buckets[2] = 2;
        *spread.buckets.last_mut().unwrap() = 4;
        let mut page = Exposition::default();
        page.histogram("a_seconds", "A.", Distribution::from(&spread));
        let text = text(&page);
        for line in [
            "a_seconds_bucket{le=\"0.001\"} 1",
            "a_seconds_bucket{le=\"0.005\"} 1",
            "a_seconds_bucket{le=\"0.025\"} 3",
            "a_seconds_bucket{le=\"600\"} 3",
            "a_seconds_bucket{le=\"+Inf\"} 7",
            "a_seconds_sum 1.5",
            "a_seconds_count 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
