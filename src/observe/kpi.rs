//! The KPI document behind `/stats` (`design.md` 6): how fast, how much, how reliably.
//!
//! A fact that was not measured is an absent key; there is no energy section until energy is measured.

use serde::Serialize;

use super::Metrics;
use super::process;

/// What the ledger's own record tells about the daemon's past; `None` where it cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Record {
    /// Share of the recorded time in which the daemon ran; planned stops count against it.
    pub availability_percent: Option<f64>,
    /// Share of the recorded files that were refused or expired; without it, that of this process.
    pub error_rate_percent: Option<f64>,
    /// Mean time of running between unplanned ends.
    pub mtbf_hours: Option<f64>,
    /// Mean time from an unplanned end to the next start.
    pub mttr_minutes: Option<f64>,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// Speed and cost.
    pub performance: Performance,
    /// Trust.
    pub reliability: Reliability,
}

/// Speed and cost of this process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Performance {
    /// Files settled per second, mean of the last 10 s.
    pub throughput_files_per_second: f64,
    /// Sighting to durable outcome, half of the files; over the newest minutes with traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p50_ms: Option<f64>,
    /// The same, 95 of 100 files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p95_ms: Option<f64>,
    /// The same, 99 of 100 files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_p99_ms: Option<f64>,
    /// Resident memory in MB of 1,000,000 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_footprint_mb: Option<f64>,
    /// See [`Metrics::cpu_percent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_utilization_percent: Option<f64>,
}

/// See [`Record`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reliability {
    /// See [`Record`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_percent: Option<f64>,
    /// See [`Record`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate_percent: Option<f64>,
    /// See [`Record`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtbf_hours: Option<f64>,
    /// See [`Record`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mttr_minutes: Option<f64>,
}

/// The document as of now.
pub fn document(metrics: &Metrics, record: &Record) -> Document {
    let pace = metrics.pace();
    let quantiles = metrics.latency([0.50, 0.95, 0.99]);
    let millis = |i: usize| quantiles.map(|found| rounded(found[i].as_secs_f64() * 1e3, 3));
    let totals = metrics.totals();
    let errors = (totals.ended() > 0).then(|| 100.0 * totals.failed() as f64 / totals.ended() as f64);
    Document {
        performance: Performance {
            throughput_files_per_second: rounded(pace.throughput, 1),
            latency_p50_ms: millis(0),
            latency_p95_ms: millis(1),
            latency_p99_ms: millis(2),
            memory_footprint_mb: process::resident_bytes().map(|bytes| rounded(bytes as f64 / 1e6, 1)),
            cpu_utilization_percent: metrics.cpu_percent().map(|percent| rounded(percent, 1)),
        },
        reliability: Reliability {
            availability_percent: record.availability_percent.map(|percent| rounded(percent, 4)),
            error_rate_percent: record.error_rate_percent.or(errors).map(|percent| rounded(percent, 4)),
            mtbf_hours: record.mtbf_hours.map(|hours| rounded(hours, 2)),
            mttr_minutes: record.mttr_minutes.map(|minutes| rounded(minutes, 2)),
        },
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Mono;
    use crate::fate::Fate;
    use serde_json::json;
    use std::time::Duration;

    fn value(metrics: &Metrics, record: &Record) -> serde_json::Value {
        serde_json::to_value(document(metrics, record)).expect("the document is plain data")
    }

    #[test]
    fn facts_that_nobody_knows_are_absent() {
        let mut document = value(&Metrics::new(), &Record::default());
        let performance = document["performance"].as_object_mut().expect("a section");
        assert!(performance.remove("memory_footprint_mb").is_some_and(|mb| mb.as_f64() > Some(0.1)));
        performance.remove("cpu_utilization_percent");
        assert_eq!(document, json!({"performance": {"throughput_files_per_second": 0.0}, "reliability": {}}));
    }

    #[test]
    fn what_was_measured_is_told_under_the_names_of_the_design() {
        let metrics = Metrics::new();
        metrics.tick(Mono(0));
        for _ in 0..3 {
            metrics.ended(Fate::Delivered, None);
            metrics.intent_duration(Duration::from_millis(2));
        }
        metrics.ended(Fate::Expired, None);
        metrics.tick(Mono(2_000_000_000));
        let record =
            Record { availability_percent: Some(99.9), mtbf_hours: Some(720.0), ..Record::default() };
        let document = value(&metrics, &record);
        let performance = &document["performance"];
        assert_eq!(performance["throughput_files_per_second"], json!(2.0));
        for key in ["latency_p50_ms", "latency_p95_ms", "latency_p99_ms"] {
            let millis = performance[key].as_f64().expect("a number");
            assert!((1.8..2.2).contains(&millis), "{key} {millis}");
        }
        assert!(performance["cpu_utilization_percent"].as_f64().expect("a number") >= 0.0);
        assert_eq!(
            document["reliability"],
            json!({"availability_percent": 99.9, "error_rate_percent": 25.0, "mtbf_hours": 720.0})
        );
    }

    #[test]
    fn cpu_use_is_told_from_the_first_scrape_on() {
        let metrics = Metrics::new();
        // The monotonic clock has moved on by the time it is read again, or does so soon.
        let told = std::iter::repeat_with(|| metrics.cpu_percent()).flatten().next();
        assert!(told.is_some_and(|percent| percent >= 0.0 && percent.is_finite()), "{told:?}");
    }

    #[test]
    fn the_ledgers_record_wins_over_this_process() {
        let metrics = Metrics::new();
        metrics.ended(Fate::Refused, None);
        let record = Record { error_rate_percent: Some(0.5), ..Record::default() };
        assert_eq!(document(&metrics, &record).reliability.error_rate_percent, Some(0.5));
    }
}
