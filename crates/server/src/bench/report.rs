//! What a run found out: a table for people, or one JSON object.

use std::fmt;
use std::io::IsTerminal;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::interrupt;
use super::order::Faults;

/// Why a run could not be made.
#[derive(Debug)]
pub(super) struct Failure(String);

/// The rows of a finished run, in the order in which they are shown.
#[derive(Debug)]
pub(super) struct Report {
    rows: Vec<Row>,
    faults: Faults,
}

#[derive(Debug)]
struct Row {
    key: &'static str,
    label: &'static str,
    value: Value,
    unit: &'static str,
}

impl Failure {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl Report {
    pub(super) fn new(workload: &'static str, url: &str) -> Self {
        let mut report = Self { rows: Vec::new(), faults: Faults::default() };
        report.text("workload", "workload", workload);
        report.text("url", "server", url);
        report
    }

    pub(super) fn text(&mut self, key: &'static str, label: &'static str, value: &str) {
        self.push(key, label, json!(value), "");
    }

    pub(super) fn whole(
        &mut self,
        key: &'static str,
        label: &'static str,
        value: u64,
        unit: &'static str,
    ) {
        self.push(key, label, json!(value), unit);
    }

    /// A measured number; what is not finite is left out.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        label: &'static str,
        value: f64,
        unit: &'static str,
    ) {
        if value.is_finite() {
            self.push(key, label, json!(value), unit);
        }
    }

    fn push(&mut self, key: &'static str, label: &'static str, value: Value, unit: &'static str) {
        self.rows.push(Row { key, label, value, unit });
    }

    /// CPU time of the server and of the generator over a span in which `count` things were done.
    pub(super) fn cpu(
        &mut self,
        server: Option<u64>,
        generator: u64,
        elapsed: Duration,
        count: u64,
        (key, label): (&'static str, &'static str),
    ) {
        let share = |ns: u64| 100.0 * ns as f64 / elapsed.as_nanos() as f64;
        if let Some(ns) = server {
            self.number(key, label, ns as f64 / 1000.0 / count as f64, "µs");
            self.number("server_cpu_percent", "server CPU", share(ns), "%");
        }
        self.number("generator_cpu_percent", "generator CPU", share(generator), "%");
    }

    /// The usual percentiles of times in nanoseconds, in milliseconds.
    pub(super) fn latency(&mut self, histogram: &Histogram<u64>) {
        if histogram.is_empty() {
            return;
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        self.number("p50_ms", "latency p50", at(0.5), "ms");
        self.number("p90_ms", "p90", at(0.9), "ms");
        self.number("p99_ms", "p99", at(0.99), "ms");
        self.number("p999_ms", "p99.9", at(0.999), "ms");
        self.number("max_ms", "max", histogram.max() as f64 / 1e6, "ms");
    }

    /// What went wrong, also when nothing did.
    pub(super) fn faults(&mut self, faults: Faults) {
        self.whole("lost", "lost", faults.lost, "");
        self.whole("duplicated", "duplicated", faults.duplicated, "");
        self.whole("reordered", "reordered", faults.reordered, "");
        self.whole("altered", "altered or foreign", faults.altered, "");
        self.whole("closed", "closed by the server", faults.closed, "");
        if let Some(reason) = &faults.first {
            self.text("first_fault", "first fault", reason);
        }
        self.faults = faults;
    }

    pub(super) fn is_clean(&self) -> bool {
        self.faults.is_clean()
    }

    pub(super) fn print(&self, as_json: bool) {
        if as_json {
            let mut object: Map<String, Value> =
                self.rows.iter().map(|row| (row.key.to_owned(), row.value.clone())).collect();
            object.insert("interrupted".to_owned(), json!(interrupt::requested()));
            println!("{}", Value::Object(object));
            return;
        }
        let width = self.rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
        for row in &self.rows {
            let value = match &row.value {
                Value::String(text) => text.clone(),
                value => value.as_u64().map_or_else(|| decimals(value), thousands),
            };
            let line = format!("{:width$}  {value} {}", row.label, row.unit);
            println!("{}", line.trim_end());
        }
        if interrupt::requested() {
            println!("interrupted: these are the figures so far");
        }
    }
}

/// A bar on standard error while a run lasts; nothing when that is not a terminal.
pub(super) fn progress(steps: u64, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:40} {percent:>3} %") {
        bar.set_style(style);
    }
    bar
}

/// A histogram of times in nanoseconds from 1 µs to 100 s, 1 % wide: small enough for the cache.
pub(super) fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 100_000_000_000, 2).expect("invariant: constant bounds")
}

fn decimals(value: &Value) -> String {
    match value.as_f64() {
        Some(value) if value.abs() >= 1000.0 => thousands(value as u64),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
        None => value.to_string(),
    }
}

/// Digits in groups of three.
fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(12_345_678), "12,345,678");
        assert_eq!(decimals(&json!(2.749)), "2.749");
        assert_eq!(decimals(&json!(12.34)), "12.3");
        assert_eq!(decimals(&json!(260_123.9)), "260,123");
    }

    #[test]
    fn a_report_is_clean_until_something_is_wrong() {
        let mut report = Report::new("echo", "ws://127.0.0.1/");
        report.number("missing", "missing", f64::NAN, "");
        assert_eq!(report.rows.len(), 2);
        report.faults(Faults::default());
        assert!(report.is_clean());
        report.faults(Faults { lost: 1, ..Faults::default() });
        assert!(!report.is_clean());
    }
}
