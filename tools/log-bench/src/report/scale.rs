//! How values lie along an axis of a plot, and where the axis is marked.

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::chart::Axis;

/// An axis with its ends and marks.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    axis: Axis,
    /// The lower end.
    pub(crate) low: f64,
    high: f64,
    marks: Vec<f64>,
}

impl Scale {
    /// An axis that has room for all of `values`.
    pub(crate) fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Scale {
        let values: Vec<f64> = values.filter(|v| v.is_finite() && (!axis.log || *v > 0.0)).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low <= high { (low, high) } else { (1.0, 10.0) };
        match (&axis.names, axis.log) {
            (Some(names), _) => {
                let marks = (0..names.len()).map(|i| i as f64).collect();
                Scale { axis: axis.clone(), low: -0.5, high: names.len() as f64 - 0.5, marks }
            }
            (None, false) => Scale::linear(axis, high),
            (None, true) => Scale::log(axis, low, high),
        }
    }

    fn linear(axis: &Axis, high: f64) -> Scale {
        let high = if high > 0.0 { high * 1.05 } else { 1.0 };
        let rough = high / 6.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|&step| step >= rough);
        let step = step.unwrap_or(rough);
        let marks = (0..).map(|i| f64::from(i) * step).take_while(|&mark| mark <= high).collect();
        Scale { axis: axis.clone(), low: 0.0, high, marks }
    }

    fn log(axis: &Axis, low: f64, high: f64) -> Scale {
        let (low, high) =
            if axis.fits_tightly { (low, high.max(low * 2.0)) } else { (low / 1.15, high * 1.15) };
        let base = axis.base;
        let lowest = low.log(base).floor() as i32;
        let highest = high.log(base).ceil() as i32;
        let inner: &[f64] = match highest - lowest {
            _ if base != 10.0 || axis.fits_tightly => &[1.0],
            0..=1 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            2..=3 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let powers = (lowest..=highest).map(|power| base.powi(power));
        let marks = powers.flat_map(|power| inner.iter().map(move |n| n * power));
        // A little slack, so that rounding does not lose the mark at an end.
        let marks = marks.filter(|&mark| mark >= low * 0.999 && mark <= high * 1.001).collect();
        Scale { axis: axis.clone(), low, high, marks }
    }

    /// How far along the axis a value lies, from 0 to 1.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let share = if self.axis.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (self.share(*value) * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        match &self.axis.names {
            Some(names) => names.get(value.round() as usize).cloned().unwrap_or_default(),
            None => (self.axis.shown)(*value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_marks_stay_inside_of_the_axis() {
        let scale = Scale::of(&Axis::time("t"), [120.0, 9_000.0].into_iter());
        assert_eq!(scale.marks, [200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0]);
        assert_eq!(scale.share(scale.low), 0.0);
        assert!(scale.share(9_000.0) < 1.0);
    }

    #[test]
    fn an_axis_without_values_still_has_ends() {
        let scale = Scale::of(&Axis::log("x"), [].into_iter());
        assert!(scale.low < scale.high);
        let scale = Scale::of(&Axis::linear("x"), [0.0].into_iter());
        assert!(scale.low < scale.high);
    }
}
