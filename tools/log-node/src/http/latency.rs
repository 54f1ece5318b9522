//! The histograms of times among the metrics, for the page, which draws what was added since it last looked.

use serde::Serialize;

/// Times, counted by their upper bounds.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Histogram {
    /// Such as `annals_flush_seconds`.
    pub(crate) name: String,
    /// Each bound in seconds; what is over the last one is in `count` alone.
    pub(crate) bounds: Vec<f64>,
    /// How many were at or under the bound since the start.
    pub(crate) counts: Vec<u64>,
    /// All of them.
    pub(crate) count: u64,
}

/// The histograms of this text of metrics whose names end with `_seconds`, without labels of their own.
pub(crate) fn histograms(text: &str) -> Vec<Histogram> {
    let mut found: Vec<Histogram> = vec![];
    for line in text.lines() {
        let Some((bucket, value)) = line.rsplit_once(' ') else { continue };
        let parts = bucket
            .split_once("_bucket{le=\"")
            .and_then(|(name, rest)| Some((name, rest.strip_suffix("\"}")?)));
        let (Some((name, bound)), Ok(value)) = (parts, value.parse::<u64>()) else { continue };
        if !name.ends_with("_seconds") {
            continue;
        }
        let histogram = match found.iter_mut().position(|histogram| histogram.name == name) {
            Some(index) => &mut found[index],
            None => {
                found.push(Histogram { name: name.to_owned(), bounds: vec![], counts: vec![], count: 0 });
                found.last_mut().expect("one was just pushed")
            }
        };
        match bound.parse::<f64>() {
            Ok(bound) if bound.is_finite() => {
                histogram.bounds.push(bound);
                histogram.counts.push(value);
            }
            _ => histogram.count = value,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

    use super::*;

    #[test]
    fn histograms_of_times_are_found_in_what_the_exporter_writes() {
        let suffix = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(suffix, &[0.001, 0.1]).unwrap();
        let recorder = builder.build_recorder();
        metrics::with_local_recorder(&recorder, || {
            for seconds in [0.0005, 0.0006, 0.05, 7.0] {
                metrics::histogram!("annals_flush_seconds").record(seconds);
            }
            metrics::counter!("annals_records_total").increment(9);
        });
        let histogram = Histogram {
            name: "annals_flush_seconds".to_owned(),
            bounds: vec![0.001, 0.1],
            counts: vec![2, 3],
            count: 4,
        };
        assert_eq!(histograms(&recorder.handle().render()), [histogram]);
    }
}
