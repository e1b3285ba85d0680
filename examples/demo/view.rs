//! How the demo looks: colours and a moving bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use baton_lab::http::Download;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Plain progress lines come this often, in percent of the file.
const PLAIN_STEP: u64 = 10;
const REFRESH: Duration = Duration::from_millis(20);

/// Where the demo shows what happens.
pub struct View {
    colours: bool,
    moving: bool,
    bar: Option<ProgressBar>,
    start: Instant,
}

impl View {
    /// Fits the terminal, or its absence; NO_COLOR is respected.
    pub fn new() -> Self {
        let moving = std::io::stdout().is_terminal();
        let colours = moving && std::env::var_os("NO_COLOR").is_none();
        Self { colours, moving, bar: None, start: Instant::now() }
    }

    /// Text in one of the terminal's colours (SGR code).
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Text that stands out.
    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// A plain line, above the bar if there is one.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    /// A heading.
    pub fn chapter(&self, text: &str) {
        self.line(&format!("\n{}", self.bold(text)));
    }

    /// Something that was done, with the time since the start.
    pub fn done(&self, text: &str) {
        let time = format!("{:6.2} s", self.start.elapsed().as_secs_f64());
        self.line(&format!("  {}  {} {text}", self.paint("2", &time), self.paint("32", "✓")));
    }

    /// Something dramatic.
    pub fn event(&self, text: &str) {
        let time = format!("{:6.2} s", self.start.elapsed().as_secs_f64());
        self.line(&format!("  {}  {} {}", self.paint("2", &time), self.paint("33;1", "➜"), self.bold(text)));
    }

    /// Shows the download's progress until `until` octets have arrived or it ended.
    pub fn follow(&mut self, download: &Download, size: u64, until: u64) {
        self.show_bar(download.received(), size);
        let mut next_line = percent(download.received(), size) / PLAIN_STEP * PLAIN_STEP + PLAIN_STEP;
        while download.received() < until && !download.is_finished() {
            std::thread::sleep(REFRESH);
            let received = download.received();
            if let Some(bar) = &self.bar {
                bar.set_position(received);
            } else if percent(received, size) >= next_line {
                println!("           downloaded {next_line} %");
                next_line += PLAIN_STEP;
            }
        }
    }

    /// Takes the bar away.
    pub fn end_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn show_bar(&mut self, position: u64, size: u64) {
        if self.moving && self.bar.is_none() {
            let template = "           {bar:40.cyan/blue} {decimal_bytes:>9} of {decimal_total_bytes}  {decimal_bytes_per_sec}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stdout());
            bar.set_style(style.progress_chars("━╸─"));
            bar.set_position(position);
            self.bar = Some(bar);
        }
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    (part * 100).checked_div(whole).unwrap_or(100)
}
