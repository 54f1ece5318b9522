//! Plots, drawn as SVG that a page can hold.
//!
//! Text and rules are drawn in colours that no line uses, so that the page's style can replace them by what
//! is legible in the light and in the dark.

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::scale::Scale;
use crate::units;

/// A plot of lines, dots or bars over one horizontal axis.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// What it shows.
    pub(crate) title: String,
    x: Axis,
    y: Axis,
    lines: Vec<Line>,
    legend: bool,
}

/// One axis: what it counts, and how.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    label: String,
    /// Whether equal steps are equal factors; otherwise it begins at 0.
    pub(super) log: bool,
    /// The factor between two marks of a logarithmic axis.
    pub(super) base: f64,
    /// Whether the ends lie exactly at the least and the greatest value.
    pub(super) fits_tightly: bool,
    /// A value as text.
    pub(super) shown: fn(f64) -> String,
    /// The names of the places 0, 1, 2 and so on, if it has any.
    pub(super) names: Option<Vec<String>>,
}

/// One line of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    name: String,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Plain(Vec<(f64, f64)>),
    Marked(Vec<(f64, f64)>),
    Dots(Vec<(f64, f64)>),
    /// From, to, height.
    Bars(Vec<(f64, f64, f64)>),
}

impl Chart {
    /// A plot of `lines`.
    pub(crate) fn new(title: impl Into<String>, x: Axis, y: Axis, lines: Vec<Line>) -> Chart {
        let legend = lines.len() > 1;
        Chart { title: title.into(), x, y, lines, legend }
    }

    /// For a plot whose axis names its lines.
    #[cfg(feature = "peers")]
    pub(crate) fn without_legend(self) -> Chart {
        Chart { legend: false, ..self }
    }
}

impl Axis {
    /// From 0, in equal steps.
    pub(crate) fn linear(label: &str) -> Axis {
        Axis {
            label: label.to_string(),
            log: false,
            base: 10.0,
            fits_tightly: false,
            shown: units::count,
            names: None,
        }
    }

    /// In powers of ten.
    pub(crate) fn log(label: &str) -> Axis {
        Axis { log: true, ..Axis::linear(label) }
    }

    /// Microseconds, in powers of ten, shown with their unit.
    pub(crate) fn time(label: &str) -> Axis {
        Axis { shown: short_time, ..Axis::log(label) }
    }

    /// Bytes, in powers of four, shown with their unit.
    pub(crate) fn bytes(label: &str) -> Axis {
        Axis { shown: |bytes| units::bytes(bytes.round() as u64), base: 4.0, ..Axis::log(label) }
    }

    /// "One in so many is longer": shown as percentiles.
    pub(crate) fn percentiles(label: &str) -> Axis {
        Axis { shown: percentile, fits_tightly: true, ..Axis::log(label) }
    }

    /// Named places at 0, 1, 2 and so on.
    #[cfg(feature = "peers")]
    pub(crate) fn names(label: &str, names: Vec<String>) -> Axis {
        Axis { names: Some(names), ..Axis::linear(label) }
    }
}

fn short_time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", units::count(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", units::count(us / 1e3)),
        us if us >= 1.0 => format!("{} us", units::count(us)),
        us => format!("{} ns", units::count(us * 1e3)),
    }
}

fn percentile(one_in: f64) -> String {
    match one_in.log10().round() as usize {
        0 => "all".to_string(),
        1 => "90 %".to_string(),
        2 => "99 %".to_string(),
        nines => format!("99.{} %", "9".repeat(nines - 2)),
    }
}

impl Line {
    /// A line through `points`.
    pub(crate) fn plain(name: impl Into<String>, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.into(), shape: Shape::Plain(points) }
    }

    /// A line with a mark at each of the `points`.
    pub(crate) fn marked(name: impl Into<String>, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.into(), shape: Shape::Marked(points) }
    }

    /// Dots only.
    pub(crate) fn dots(name: impl Into<String>, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.into(), shape: Shape::Dots(points) }
    }

    /// Bars from the horizontal axis up: (from, to, height).
    pub(crate) fn bars(name: impl Into<String>, bars: Vec<(f64, f64, f64)>) -> Line {
        Line { name: name.into(), shape: Shape::Bars(bars) }
    }

    fn points(&self) -> Vec<(f64, f64)> {
        match &self.shape {
            Shape::Plain(points) | Shape::Marked(points) | Shape::Dots(points) => points.clone(),
            Shape::Bars(bars) => {
                bars.iter().flat_map(|&(from, to, height)| [(from, height), (to, height)]).collect()
            }
        }
    }
}

const SIZE: (u32, u32) = (760, 330);
/// Stands for the colour of text.
const INK: RGBColor = RGBColor(1, 1, 1);
/// Stands for the colour of rules.
const RULE: RGBColor = RGBColor(2, 2, 2);
/// Legible on white and on black, and told apart by most who see few colours (after Okabe and Ito, "Color
/// Universal Design", 2008).
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 114, 178),
    RGBColor(222, 143, 5),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(204, 121, 167),
    RGBColor(148, 130, 80),
    RGBColor(128, 128, 128),
    RGBColor(120, 94, 240),
];

type Problem = Box<dyn std::error::Error>;
type Context<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Scale, Scale>>;

impl Chart {
    /// The names of the lines and their colours, unless they need none; a page shows them beside the plot,
    /// where they hide nothing.
    pub(crate) fn legend(&self) -> Vec<(&str, String)> {
        let css = |colour: &RGBColor| format!("#{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2);
        let named =
            self.lines.iter().zip(COLOURS.iter().cycle()).filter(|(line, _)| !line.points().is_empty());
        named.map(|(line, colour)| (line.name.as_str(), css(colour))).filter(|_| self.legend).collect()
    }

    /// The plot as an SVG element; empty if there is nothing to draw.
    pub(crate) fn svg(&self) -> String {
        let mut svg = String::new();
        let points: Vec<(f64, f64)> = self.lines.iter().flat_map(Line::points).collect();
        if points.is_empty() {
            return svg;
        }
        let x = Scale::of(&self.x, points.iter().map(|point| point.0));
        let y = Scale::of(&self.y, points.iter().map(|point| point.1));
        let drawn = self.draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), x, y);
        drawn.expect("drawing into a string does not fail");
        let label = format!("<svg role=\"img\" aria-label=\"{}\" ", super::html::escaped(&self.title));
        svg.replacen("<svg ", &label, 1)
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>, x: Scale, y: Scale) -> Result<(), Problem> {
        let font = ("sans-serif", 15).into_font().color(&INK);
        let floor = y.low;
        let mut context = ChartBuilder::on(area)
            .margin(8)
            .margin_right(28)
            .x_label_area_size(48)
            .y_label_area_size(84)
            .build_cartesian_2d(x, y)?;
        context
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RULE)
            .axis_style(RULE)
            .label_style(font.clone())
            .axis_desc_style(font.clone())
            .x_desc(self.x.label.clone())
            .y_desc(self.y.label.clone())
            .draw()?;
        for (line, &colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            draw_line(&mut context, line, colour, floor)?;
        }
        drop(context);
        area.present()?;
        Ok(())
    }
}

fn draw_line(
    context: &mut Context<'_, '_>,
    line: &Line,
    colour: RGBColor,
    floor: f64,
) -> Result<(), Problem> {
    match &line.shape {
        Shape::Plain(points) => {
            context.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
        }
        Shape::Marked(points) => context
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2).filled()).point_size(3))?,
        Shape::Dots(points) => {
            context.draw_series(points.iter().map(|&point| Circle::new(point, 2, colour.filled())))?
        }
        Shape::Bars(bars) => {
            let boxes = bars.iter().map(|&(from, to, height)| [(from, floor), (to, height)]);
            context.draw_series(boxes.map(|corners| Rectangle::new(corners, colour.filled())))?
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_names_what_it_shows_and_loads_nothing() {
        let lines = vec![
            Line::marked("direct", vec![(4096.0, 7.0), (65_536.0, 400.0)]),
            Line::bars("bars", vec![(4096.0, 8192.0, 3.0)]),
        ];
        let chart = Chart::new("a < b", Axis::bytes("block"), Axis::log("MB/s"), lines);
        assert_eq!(chart.legend()[0], ("direct", "#0072b2".to_string()));
        let svg = chart.svg();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for text in ["a &lt; b", "block", "MB/s", "64 KiB"] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert!(!svg.contains("href"));
    }

    #[test]
    fn nothing_to_draw_gives_no_plot() {
        assert_eq!(Chart::new("t", Axis::linear("x"), Axis::linear("y"), vec![]).svg(), "");
    }
}
