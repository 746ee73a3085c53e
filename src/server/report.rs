//! Shows how far something at the start has come: with a bar on a terminal, in the log otherwise.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Stopwatch;

/// Between two lines of the log, in nanoseconds.
const LINE_NS: u64 = 5_000_000_000;

/// Something that takes its time, in bytes.
pub struct Report {
    what: &'static str,
    bar: ProgressBar,
    watch: Stopwatch,
    next_line_ns: u64,
}

impl Report {
    /// Nothing is shown until there is something to show.
    pub fn begin(what: &'static str) -> Report {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style =
            ProgressStyle::with_template("{msg:10} [{bar:40}] {percent:>3}%  {bytes} of {total_bytes}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_message(what);
        Report { what, bar, watch: Stopwatch::start(), next_line_ns: LINE_NS }
    }

    /// So many bytes are done, of so many.
    pub fn show(&mut self, (done, of): (u64, u64)) {
        if of == 0 {
            return;
        }
        self.bar.set_length(of);
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.watch.ns() >= self.next_line_ns {
            self.next_line_ns += LINE_NS;
            log::info!("{}: {} %, {done} of {of} bytes", self.what, done * 100 / of);
        }
    }

    /// It is done; answers how many milliseconds it took.
    pub fn end(self) -> u64 {
        self.bar.finish_and_clear();
        self.watch.ns() / 1_000_000
    }
}
