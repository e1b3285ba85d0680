//! One line on standard error that says how far a part is.

use indicatif::{ProgressBar, ProgressStyle};

/// The line; none where standard error is no terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// Begins `steps` steps of something.
    pub fn new(what: &str, steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64).with_message(what.to_owned());
        if let Ok(style) =
            ProgressStyle::with_template("{msg:<32} {bar:30} {pos}/{len}  {elapsed} (still {eta})")
        {
            bar.set_style(style);
        }
        bar.tick();
        Self(bar)
    }

    /// One step is done.
    pub fn step(&self) {
        self.0.inc(1);
    }

    /// All are: the line goes.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}
