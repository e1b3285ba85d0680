//! Box plots: the box is the middle half, the line in it the median, the whiskers end at the outermost samples within
//! one and a half boxes. The scale is logarithmic where
//! the samples span more than a decade.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use plotters::prelude::*;

use crate::report::Series;

const FONT: &str = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
const SIZE: (u32, u32) = (1000, 560);
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 120, 20), RGBColor(44, 140, 60), RGBColor(130, 80, 160)];

/// Draws `part` as SVG and PNG, or says why not.
pub fn draw(directory: &Path, part: &str, series: &[&Series]) {
    if !has_font() {
        println!("SKIPPED: the plot of {part}: {FONT} is missing (apt-get install fonts-dejavu-core)");
        return;
    }
    let (svg, png) = (directory.join(format!("{part}.svg")), directory.join(format!("{part}.png")));
    let drawn = chart(&SVGBackend::new(&svg, SIZE).into_drawing_area(), part, series)
        .and_then(|()| chart(&BitMapBackend::new(&png, SIZE).into_drawing_area(), part, series));
    if let Err(error) = drawn {
        println!("the plot of {part} could not be drawn: {error}");
    }
}

fn has_font() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let Ok(font) = fs::read(FONT) else { return false };
        plotters::style::register_font("sans-serif", FontStyle::Normal, font.leak()).is_ok()
    })
}

fn label(series: &Series) -> String {
    if series.tunnels == 0 { series.system.clone() } else { format!("{} {}", series.system, series.tunnels) }
}

/// Half the width of a box; boxes are 1 apart.
const HALF: f64 = 0.3;

/// Where the parts of a box stand: lower whisker, lower quartile, median, upper quartile, upper whisker.
fn bounds(series: &Series) -> [f64; 5] {
    let [low, median, high] = [250, 500, 750].map(|at| series.quantile(at));
    let reach = 1.5 * (high - low);
    let within =
        || series.samples.iter().copied().filter(|sample| (low - reach..=high + reach).contains(sample));
    [within().fold(low, f64::min), low, median, high, within().fold(high, f64::max)]
}

/// How values become heights.
#[derive(Clone, Copy)]
enum Scale {
    Linear,
    Logarithmic,
}

impl Scale {
    /// The scale for all boxes, and the heights that it spans.
    fn of(boxes: &[[f64; 5]]) -> (Self, std::ops::Range<f64>) {
        let lowest = boxes.iter().map(|bounds| bounds[0]).fold(f64::MAX, f64::min);
        let highest = boxes.iter().map(|bounds| bounds[4]).fold(lowest, f64::max);
        if lowest > 0.0 && highest > 10.0 * lowest {
            (Self::Logarithmic, (lowest * 0.8).log10()..(highest * 1.25).log10())
        } else {
            (Self::Linear, 0.0..highest * 1.1)
        }
    }

    fn height(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Logarithmic => value.log10(),
        }
    }

    fn label(self, height: f64) -> String {
        match self {
            Self::Linear => format!("{height:.1}"),
            Self::Logarithmic => format!("{:.2}", 10_f64.powf(height)),
        }
    }
}

/// The strokes of a box at `place`.
fn strokes(place: f64, [bottom, low, median, high, top]: [f64; 5]) -> [Vec<(f64, f64)>; 6] {
    let (left, right) = (place - HALF, place + HALF);
    let across = |at: f64, half: f64| vec![(place - half, at), (place + half, at)];
    [
        vec![(left, low), (right, low), (right, high), (left, high), (left, low)],
        across(median, HALF),
        vec![(place, bottom), (place, low)],
        vec![(place, high), (place, top)],
        across(bottom, HALF / 2.0),
        across(top, HALF / 2.0),
    ]
}

fn chart<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    part: &str,
    series: &[&Series],
) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    let boxes: Vec<[f64; 5]> = series.iter().map(|series| bounds(series)).collect();
    let (scale, heights) = Scale::of(&boxes);
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(part, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(-0.5..boxes.len() as f64 - 0.5, heights)?;
    let name = |place: &f64| {
        let found = series.iter().enumerate().find(|(number, _)| (*number as f64 - place).abs() < 0.01);
        found.map_or(String::new(), |(_, series)| label(series))
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_label_formatter(&name)
        .x_labels(boxes.len() + 1)
        .y_label_formatter(&|height| scale.label(*height))
        .y_desc(series.first().map_or("", |series| series.unit))
        .label_style(("sans-serif", 13))
        .draw()?;
    let mut systems: Vec<&str> = Vec::new();
    for (place, (series, bounds)) in series.iter().zip(boxes).enumerate() {
        let style = colour_of(&mut systems, &series.system).stroke_width(2);
        let paths = strokes(place as f64, bounds.map(|value| scale.height(value)))
            .map(|points| PathElement::new(points, style));
        chart.draw_series(paths)?;
    }
    area.present()?;
    Ok(())
}

fn colour_of<'a>(systems: &mut Vec<&'a str>, system: &'a str) -> RGBColor {
    let place = systems.iter().position(|known| *known == system).unwrap_or_else(|| {
        systems.push(system);
        systems.len() - 1
    });
    COLOURS[place % COLOURS.len()]
}
