//! Makes series of the table's metrics, and renders them.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::names::{self, Kind, Metric, Unit};
use crate::grpc::ErrorReason;

/// What a series is registered with; the exporter reads none of it.
const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// One server's series.
pub(super) struct Recorder(
    /// Makes them. Without it, series are made that keep nothing.
    Option<PrometheusRecorder>,
);

impl Recorder {
    /// Empty, with the buckets and descriptions of the table.
    pub(super) fn new(counting: bool) -> Self {
        if !counting {
            return Self(None);
        }
        let recorder = with_buckets().build_recorder();
        for metric in names::ALL {
            let name = KeyName::from_const_str(metric.name);
            let unit = match metric.unit {
                Unit::Count => metrics::Unit::Count,
                Unit::Seconds => metrics::Unit::Seconds,
            };
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, Some(unit), metric.help.into()),
                Kind::Gauge => recorder.describe_gauge(name, Some(unit), metric.help.into()),
                Kind::Histogram(_) => recorder.describe_histogram(name, Some(unit), metric.help.into()),
            }
        }
        Self(Some(recorder))
    }

    /// Makes the series whose labels are known beforehand, so that a rate has a zero to start from.
    pub(super) fn prepare(&self) {
        for mode in ["exclusive", "shared", "permits"] {
            for outcome in [
                "granted",
                "would_wait",
                "wait_timeout",
                "cancelled",
                "not_held",
                "disconnected",
            ] {
                self.counter(&names::ACQUISITIONS, &[mode, outcome]).increment(0);
            }
        }
        for reason in ["expired", "disconnected", "revoked", "max_hold", "not_acked"] {
            self.counter(&names::LOSSES, &[reason]).increment(0);
        }
        for outcome in ["renewed", "not_held", "invalid_ttl"] {
            self.counter(&names::RENEWALS, &[outcome]).increment(0);
        }
        for outcome in [
            "released",
            "cancelled",
            "already_released",
            "not_found",
            "lock_by_other",
        ] {
            self.counter(&names::UNLOCKS, &[outcome]).increment(0);
        }
        for kind in ["fenced", "unavailable", "unknown", "corrupt"] {
            self.counter(&names::STORE_FAILURES, &[kind]).increment(0);
        }
        for reason in ErrorReason::ALL {
            self.counter(&names::ERRORS, &[reason.name()]).increment(0);
        }
    }

    /// A counter.
    pub(super) fn counter(&self, metric: &Metric, labels: &[&str]) -> Counter {
        let register = |recorder: &PrometheusRecorder| recorder.register_counter(&key(metric, labels), &METADATA);
        self.0.as_ref().map_or_else(Counter::noop, register)
    }

    /// A gauge.
    pub(super) fn gauge(&self, metric: &Metric, labels: &[&str]) -> Gauge {
        let register = |recorder: &PrometheusRecorder| recorder.register_gauge(&key(metric, labels), &METADATA);
        self.0.as_ref().map_or_else(Gauge::noop, register)
    }

    /// A histogram.
    pub(super) fn histogram(&self, metric: &Metric, labels: &[&str]) -> Histogram {
        let register = |recorder: &PrometheusRecorder| recorder.register_histogram(&key(metric, labels), &METADATA);
        self.0.as_ref().map_or_else(Histogram::noop, register)
    }

    /// Renders.
    pub(super) fn handle(&self) -> Option<PrometheusHandle> {
        self.0.as_ref().map(PrometheusRecorder::handle)
    }
}

/// A builder with the buckets of every histogram of the table.
fn with_buckets() -> PrometheusBuilder {
    names::ALL
        .iter()
        .fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
            Kind::Histogram(buckets) => {
                let matcher = Matcher::Full(metric.name.to_owned());
                match builder.set_buckets_for_metric(matcher, buckets) {
                    Ok(builder) => builder,
                    Err(error) => unreachable!("{}: buckets are there: {error}", metric.name),
                }
            }
            Kind::Counter | Kind::Gauge => builder,
        })
}

/// A series' name and labels.
fn key(metric: &Metric, values: &[&str]) -> Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let label = |(&name, &value): (&&'static str, &&str)| Label::new(name, value.to_owned());
    let labels: Vec<Label> = metric.labels.iter().zip(values).map(label).collect();
    Key::from_parts(KeyName::from_const_str(metric.name), labels)
}
