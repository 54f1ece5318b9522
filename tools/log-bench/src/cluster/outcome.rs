//! What came of doing something to a cluster under load, again and again.

use std::time::Duration;

use serde::Serialize;

use super::load::Loaded;
use super::silence::Silence;
use crate::cluster::args::LoadArgs;
use crate::latency::Summary;
use crate::machine::Machine;
use crate::place::Place;
use crate::report::Report;
use crate::report::chart::{Axis, Chart, Line};
use crate::report::json::rounded;
use crate::report::table::Table;
use crate::units;

/// What was done, how long commits were silent for it, and what the log holds in the end.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// When each of them began.
    pub(crate) moments: Vec<Duration>,
    /// The longest silence that each brought.
    pub(crate) silences: Vec<Silence>,
    pub(crate) loaded: Loaded,
    /// How long clients appended, from the first of it to the last.
    pub(crate) lasted: Duration,
    /// Of all appends that were acknowledged.
    pub(crate) latency: Summary,
    /// Seconds of the processors that all replicas and this process used for each GB (10^9) of records.
    pub(crate) cpu_s_per_gb: f64,
    /// Commits a second over time.
    pub(crate) rates: Vec<(f64, f64)>,
    /// The one with the longest silence.
    pub(crate) longest: Option<Closely>,
}

/// One of them, to be plotted by itself.
#[derive(Debug)]
pub(crate) struct Closely {
    /// Which.
    pub(crate) at: usize,
    /// Where the plot begins.
    pub(crate) begin: Duration,
    /// Commits a second over time, from there on.
    pub(crate) rates: Vec<(f64, f64)>,
}

/// Silences summed up, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Gaps {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Gaps {
    pub(crate) fn of(silences: &[Silence]) -> Gaps {
        let mut ms: Vec<f64> = silences.iter().map(|silence| silence.length().as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        // The nearest rank: of few figures the 99th percentile is the greatest.
        let rank = |share: f64| ms.get(((ms.len() as f64 * share).ceil() as usize).max(1) - 1).copied();
        let at = |share| rounded(rank(share).unwrap_or_default());
        Gaps { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

impl Outcome {
    /// The report: `what` names what was done, `one` one of them.
    pub(crate) fn report(
        &self,
        (workload, what): (&'static str, String),
        args: &LoadArgs,
        place: &Place,
    ) -> Report {
        let Outcome { silences, loaded, .. } = self;
        let verdict = &loaded.verdict;
        let gaps = Gaps::of(silences);
        let mut report = Report::new(what, &Machine::under(place.dir()));
        report.facts.push(("replicas", args.cluster.replicas.to_string()));
        let each = units::bytes(args.size);
        let load = format!("{}, records of {each}", units::plural(args.clients.into(), "client"));
        report.facts.push(("load", load));
        let mut table = Table::new("From the last commit before to the first after", &["p50", "p99", "max"]);
        table.row([gaps.p50, gaps.p99, gaps.max].map(|ms| units::time_us(ms * 1e3)));
        report.tables.push(table);
        report.tables.push(self.promises());
        self.draw(workload, &mut report);
        report.notes.extend(verdict.examples.iter().map(|wrong| format!("WRONG: {wrong}")));
        if let Some(failure) = &loaded.last_failure {
            report.notes.push(format!("The last append that failed said: {failure}"));
        }
        report.is_failed = verdict.is_broken();
        report.set("workload", workload);
        report.set("replicas", args.cluster.replicas);
        report.set("clients", args.clients);
        report.set("size", args.size);
        report.set("batch", 1);
        report.set("in_flight", 1);
        report.set("durability", args.durability.to_string());
        let records_per_s = verdict.acknowledged as f64 / self.lasted.as_secs_f64();
        report.set("records_per_s", rounded(records_per_s));
        report.set("mb_per_s", rounded(records_per_s * args.size as f64 / 1e6));
        report.set("latency_us", self.latency);
        report.set("cpu_s_per_gb", rounded(self.cpu_s_per_gb));
        report.set("times", silences.len());
        report.set("gap_ms", gaps);
        for (key, count) in [
            ("acknowledged", verdict.acknowledged),
            ("lost", verdict.lost),
            ("duplicated", verdict.duplicated),
            ("invented", verdict.invented),
            ("unknown", verdict.unknown),
            ("failed", loaded.failed),
        ] {
            report.set(key, count);
        }
        report
    }

    /// What the account found.
    fn promises(&self) -> Table {
        let Outcome { loaded, .. } = self;
        let verdict = &loaded.verdict;
        let mut table = Table::new("By an account kept outside of the cluster", &["what", "count"]);
        for (what, count) in [
            ("appends acknowledged", verdict.acknowledged),
            ("records compared", verdict.compared),
            ("lost", verdict.lost),
            ("duplicated", verdict.duplicated),
            ("never appended, or changed", verdict.invented),
            ("refused, and there all the same", verdict.refused_there),
            ("outcome unknown", verdict.unknown),
            ("of these, in the log", verdict.unknown_there),
            ("failed", loaded.failed),
        ] {
            table.row([what.to_string(), count.to_string()]);
        }
        table
    }

    /// Each of the times, and how commits went over time.
    fn draw(&self, workload: &'static str, report: &mut Report) {
        let silences = &self.silences;
        let mut each = Table::new("Each of them", &["at s", "without a commit"]);
        for (moment, silence) in self.moments.iter().zip(silences) {
            let length = units::time_us(silence.length().as_secs_f64() * 1e6);
            each.row([format!("{:.2}", moment.as_secs_f64()), length]);
        }
        each.page_only = true;
        report.tables.push(each);
        let marks = self.moments.iter().map(|moment| (moment.as_secs_f64(), 0.0)).collect();
        let lines = vec![Line::plain("commits", self.rates.clone()), Line::dots(workload, marks)];
        let (x, y) = (Axis::linear("seconds"), Axis::linear("commits/s"));
        report.charts.push(Chart::new("Commits a second, over time", x, y, lines));
        if let Some(Closely { at, begin, rates }) = &self.longest {
            let ms = |moment: Duration| moment.saturating_sub(*begin).as_secs_f64() * 1e3;
            let commits = rates.iter().map(|(at, rate)| (at * 1e3, *rate)).collect();
            let Silence { from, to } = silences[*at];
            let lines = vec![
                Line::plain("commits", commits),
                Line::dots(workload, vec![(ms(self.moments[*at]), 0.0)]),
                Line::dots("last commit before, first after", vec![(ms(from), 0.0), (ms(to), 0.0)]),
            ];
            let (x, y) = (Axis::linear("ms"), Axis::linear("commits/s"));
            report.charts.push(Chart::new("The longest of them", x, y, lines));
        }
        let bars = silences.iter().enumerate();
        let bars =
            bars.map(|(n, silence)| (n as f64 + 0.6, n as f64 + 1.4, silence.length().as_secs_f64() * 1e3));
        let (x, y) = (Axis::linear(workload), Axis::linear("ms without a commit"));
        report.charts.push(Chart::new(
            "How long each was",
            x,
            y,
            vec![Line::bars("silence", bars.collect())],
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_gaps_are_of_the_nearest_rank() {
        let silence = |ms| Silence { from: Duration::ZERO, to: Duration::from_millis(ms) };
        let gaps = Gaps::of(&[silence(30), silence(10), silence(20), silence(40)]);
        assert_eq!((gaps.p50, gaps.p99, gaps.max), (20.0, 40.0, 40.0));
        assert_eq!(Gaps::of(&[]).max, 0.0);
    }
}
