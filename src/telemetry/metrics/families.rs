//! Small makers for the exposition's data model.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::cells::Reading;

pub(super) fn family(
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    metrics: Vec<Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.into());
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    Metric::from_label(
        labels
            .iter()
            .map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name((*name).into());
                pair.set_value((*value).into());
                pair
            })
            .collect(),
    )
}

pub(super) fn counters(
    label: &'static str,
    values: impl Iterator<Item = (&'static str, u64)>,
) -> Vec<Metric> {
    values
        .map(|(name, value)| counter(&[(label, name)], value))
        .collect()
}

pub(super) fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut metric = labelled(labels);
    metric.set_counter(counted(whole(value)));
    metric
}

/// A counter of something that does not come in ones, without labels.
pub(super) fn fractional(value: f64) -> Metric {
    let mut metric = labelled(&[]);
    metric.set_counter(counted(value));
    metric
}

fn counted(value: f64) -> Counter {
    let mut counter = Counter::default();
    counter.set_value(value);
    counter
}

pub(super) fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

pub(super) fn histogram(labels: &[(&str, &str)], reading: &Reading) -> Metric {
    let buckets = reading.cumulative.iter().map(|(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(seconds(*bound));
        bucket.set_cumulative_count(*count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(reading.count);
    histogram.set_sample_sum(seconds(reading.sum));
    let mut metric = labelled(labels);
    metric.set_histogram(histogram);
    metric
}

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    whole(nanoseconds) / 1e9
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows only floats; counts are exact to 2^53"
)]
pub(super) fn whole(value: u64) -> f64 {
    value as f64
}
