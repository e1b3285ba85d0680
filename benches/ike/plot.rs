//! Box plots: the box is the middle half, the line in it the median, the whiskers end at the outermost samples within
//! one and a half boxes. The scale is logarithmic.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use plotters::coord::ranged1d::{IntoSegmentedCoord, SegmentValue};
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
    if series.tunnels == 0 { series.system.clone() } else { format!("{}\n{}", series.system, series.tunnels) }
}

fn chart<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    part: &str,
    series: &[&Series],
) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    let labels: Vec<String> = series.iter().map(|series| label(series)).collect();
    let ends = |at: usize| series.iter().map(move |series| Quartiles::new(&series.samples).values()[at]);
    let bottom = ends(0).fold(f32::MAX, f32::min).max(f32::MIN_POSITIVE);
    let range = (bottom * 0.7..ends(4).fold(bottom, f32::max) * 1.4).log_scale();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(part, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d((0..labels.len() - 1).into_segmented(), range)?;
    let name = |place: &SegmentValue<usize>| match place {
        SegmentValue::CenterOf(place) => {
            labels.get(*place).map_or(String::new(), |label| label.replace('\n', " "))
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_label_formatter(&name)
        .x_labels(labels.len())
        .y_desc(series.first().map_or("", |series| series.unit))
        .label_style(("sans-serif", 13))
        .draw()?;
    let mut systems: Vec<&str> = Vec::new();
    for (place, series) in series.iter().enumerate() {
        let colour = colour_of(&mut systems, &series.system);
        let quartiles = Quartiles::new(&series.samples);
        let boxplot = Boxplot::new_vertical(SegmentValue::CenterOf(place), &quartiles);
        chart.draw_series([boxplot.width(36).whisker_width(0.5).style(colour.stroke_width(2))])?;
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
