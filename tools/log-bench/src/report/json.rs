//! Figures for programs.

use serde::Serialize;
use serde_json::Value;

/// Any figure as a JSON value.
pub(crate) fn value(value: impl Serialize) -> Value {
    serde_json::to_value(value).expect("our own types have string keys only")
}

/// Rounded to what a figure is worth: six significant digits.
pub(crate) fn rounded(figure: f64) -> f64 {
    if figure == 0.0 || !figure.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powf(5.0 - figure.abs().log10().floor());
    (figure * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_six_digits() {
        assert_eq!(rounded(7_712.345_678), 7_712.35);
        assert_eq!(rounded(0.000_123_456_78), 0.000_123_457);
        assert_eq!(rounded(f64::NAN), 0.0);
    }
}
