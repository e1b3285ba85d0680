//! What was measured: as a table, as CSV, and as box plots in SVG and PNG.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::plot;

/// Samples of one quantity, of one system at one size.
pub struct Series {
    /// What was measured, as the file of its plot is called.
    pub part: &'static str,
    /// Of whom.
    pub system: String,
    /// Tunnels that stood while it was measured.
    pub tunnels: usize,
    /// Of the samples.
    pub unit: &'static str,
    pub samples: Vec<f64>,
}

impl Series {
    /// One figure instead of many.
    pub fn single(part: &'static str, system: &str, tunnels: usize, unit: &'static str, value: f64) -> Self {
        Self { part, system: system.to_owned(), tunnels, unit, samples: vec![value] }
    }

    /// The quantile, `per_mille` of 1000, of the samples.
    pub fn quantile(&self, per_mille: usize) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len().saturating_sub(1)) * per_mille / 1000).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(500)
    }
}

/// All that was measured so far.
pub struct Report {
    directory: PathBuf,
    series: Vec<Series>,
}

impl Report {
    /// One whose files are put into `directory`.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), series: Vec::new() }
    }

    /// Adds a series and prints it.
    pub fn add(&mut self, series: Series) {
        if self.series.is_empty() {
            println!("{}", heading());
        }
        println!("{}", row(&series));
        self.series.push(series);
    }

    /// The median of a series that is there.
    pub fn median(&self, part: &str, system: &str, tunnels: usize) -> Option<f64> {
        let is_it =
            |series: &&Series| series.part == part && series.system == system && series.tunnels == tunnels;
        self.series.iter().find(is_it).map(Series::median)
    }

    /// Prints how much of `other`'s median `system`'s is, with so many tunnels.
    pub fn print_ratio(&self, part: &str, tunnels: usize, (system, other): (&str, &str), goal: &str) {
        let both = self.median(part, system, tunnels).zip(self.median(part, other, tunnels));
        if let Some((ours, theirs)) = both {
            println!("{part} at {tunnels}: {system} / {other} = {:.3}{goal}", ours / theirs);
        }
    }

    /// Prints a quantile, per mille, of a series that is there, beside the goal that it should not exceed.
    #[allow(dead_code, reason = "not every benchmark has such goals")]
    pub fn print_goal(&self, part: &str, system: &str, tunnels: usize, (per_mille, goal): (usize, f64)) {
        let is_it =
            |series: &&Series| series.part == part && series.system == system && series.tunnels == tunnels;
        if let Some(series) = self.series.iter().find(is_it) {
            let (percent, value) = (per_mille as f64 / 10.0, series.quantile(per_mille));
            println!(
                "{part} at {tunnels}: {system}, {percent} % within {value:.3} {}; {:.2} of the goal {goal}",
                series.unit,
                value / goal
            );
        }
    }

    /// Writes all files and says where they are.
    pub fn write(&self) -> std::io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        fs::write(self.directory.join("samples.csv"), self.samples())?;
        fs::write(self.directory.join("summary.csv"), self.summary())?;
        let mut parts: Vec<&str> =
            self.series.iter().filter(|s| s.samples.len() > 4).map(|s| s.part).collect();
        parts.dedup();
        for part in parts {
            let of_part: Vec<&Series> = self.series.iter().filter(|series| series.part == part).collect();
            plot::draw(&self.directory, part, &of_part);
        }
        println!("samples, summary and plots: {}", self.directory.display());
        Ok(())
    }

    fn samples(&self) -> String {
        let mut text = "part,system,tunnels,unit,value\n".to_owned();
        for Series { part, system, tunnels, unit, samples } in &self.series {
            for value in samples {
                let _ = writeln!(text, "{part},{system},{tunnels},{unit},{value}");
            }
        }
        text
    }

    fn summary(&self) -> String {
        let mut text =
            "part,system,tunnels,unit,count,minimum,quartile1,median,quartile3,maximum\n".to_owned();
        for series in &self.series {
            let Series { part, system, tunnels, unit, samples } = series;
            let quantiles = [0, 250, 500, 750, 1000].map(|at| series.quantile(at).to_string()).join(",");
            let _ = writeln!(text, "{part},{system},{tunnels},{unit},{},{quantiles}", samples.len());
        }
        text
    }
}

fn heading() -> String {
    format!(
        "{:<22} {:<22} {:>7} {:>6} {:>10} {:>10} {:>10} {:>10} {:>10}  unit",
        "part", "system", "tunnels", "count", "minimum", "quartile", "median", "quartile", "maximum"
    )
}

fn row(series: &Series) -> String {
    let [low, q1, median, q3, high] = [0, 250, 500, 750, 1000].map(|at| figure(series.quantile(at)));
    let Series { part, system, tunnels, unit, samples } = series;
    format!(
        "{part:<22} {system:<22} {tunnels:>7} {:>6} {low:>10} {q1:>10} {median:>10} {q3:>10} {high:>10}  {unit}",
        samples.len()
    )
}

/// Ratios need their decimals, large numbers do not.
fn figure(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.3}") } else { format!("{value:.1}") }
}
