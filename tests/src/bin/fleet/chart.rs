//! Arrivals over time: a chart of them, and whether they are a herd.

use std::fmt::Write as _;
use std::ops::Range;

/// A line of the chart is so long, in seconds.
const LINE: usize = 300;
/// The longest bar, in characters.
const BAR: usize = 50;
/// Fewer arrivals than this in a window say nothing about its peak.
const ENOUGH: usize = 25;
/// A peak is a herd above so many times the mean of its hour.
const HERD: usize = 3;

/// Arrivals in each second.
pub(crate) struct Arrivals {
    seconds: Vec<usize>,
    bytes: usize,
    refused: usize,
}

impl Arrivals {
    pub(crate) fn new(seconds: u64) -> Self {
        Self { seconds: vec![0; usize::try_from(seconds).unwrap_or(0)], bytes: 0, refused: 0 }
    }

    /// Adds what arrives in a second; while the receiver is away, nobody gets it.
    pub(crate) fn add(&mut self, second: u64, count: usize, bytes: usize, is_away: bool) {
        if let Some(arrivals) = usize::try_from(second).ok().and_then(|second| self.seconds.get_mut(second)) {
            *arrivals += count;
        }
        self.bytes += if is_away { 0 } else { bytes };
        self.refused += if is_away { count } else { 0 };
    }

    /// Five minutes a line: the mean of a second, and its peak.
    pub(crate) fn chart(&self, outage: &Range<u64>) -> String {
        let highest = self.seconds.iter().max().copied().unwrap_or(0).max(1);
        let mut text = "  time  mean/s  peak/s\n".to_owned();
        for (number, line) in self.seconds.chunks(LINE).enumerate() {
            let begin = number * LINE;
            let is_away = u64::try_from(begin).is_ok_and(|begin| outage.contains(&begin));
            let (sum, peak) = (line.iter().sum::<usize>(), line.iter().max().copied().unwrap_or(0));
            let bar = "#".repeat(sum * BAR / highest / line.len().max(1));
            let mean = f64::from(u32::try_from(sum).unwrap_or(u32::MAX)) / 300.0;
            let rest = "-".repeat((peak * BAR / highest).saturating_sub(bar.len()));
            let time = format!("{:02}:{:02}", begin / 3600, begin / 60 % 60);
            let away = if is_away { "  the receiver is away" } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, " {time}  {mean:6.1}  {peak:6}  {bar}{rest}{away}");
        }
        text
    }

    pub(crate) fn sums(&self, devices: usize) -> String {
        let arrivals: usize = self.seconds.iter().sum::<usize>() - self.refused;
        let devices = devices.max(1);
        format!(
            "{arrivals} messages arrived, {} were sent in vain; {} bytes a device, {} a message",
            self.refused,
            self.bytes / devices,
            self.bytes / arrivals.max(1)
        )
    }

    /// The hours after an outage in which the fleet came as a herd. A window is a second in a large fleet, and so long that its peak says
    /// something in a small one.
    pub(crate) fn herds(&self, outage: &Range<u64>) -> Vec<String> {
        let first = usize::try_from(outage.end).unwrap_or(usize::MAX).min(self.seconds.len());
        let mut herds = Vec::new();
        for (number, hour) in self.seconds[first..].chunks_exact(3600).enumerate() {
            let sum: usize = hour.iter().sum();
            let window = (ENOUGH * hour.len()).div_ceil(sum.max(1)).clamp(1, hour.len());
            let mean = sum * window / hour.len();
            let peak = hour.chunks(window).map(|part| part.iter().sum()).max().unwrap_or(0);
            if peak > HERD * mean.max(1) {
                herds.push(format!(
                    "hour {} after the outage: {peak} arrivals in {window} s, with a mean of {mean}",
                    number + 1
                ));
            }
        }
        herds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn herd_is_found_in_fleets_of_any_size_and_spread_ones_are_none() {
        for per_second in [0, 1, 30] {
            let mut arrivals = Arrivals::new(3 * 3600);
            for second in 0..3 * 3600 {
                // A device every ten seconds, or more.
                let count = if per_second == 0 { usize::from(second % 10 == 0) } else { per_second };
                arrivals.add(second, count, 100, false);
            }
            assert_eq!(arrivals.herds(&(0..3600)), Vec::<String>::new(), "{per_second}");
            arrivals.add(7300, 1000, 0, false);
            assert_eq!(arrivals.herds(&(0..3600)).len(), 1, "{per_second}");
            assert!(arrivals.herds(&(0..7200))[0].starts_with("hour 1 after"));
        }
    }
}
