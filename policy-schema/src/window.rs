//! Times of day at which something may happen, as `Mon-Fri 22:00-05:00`.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Time, Weekday};
use serde::{Deserialize, Serialize};

/// Times of day, in the local time of the device, on some days of the week. One that passes midnight belongs to the day on
/// which it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// Monday first.
    days: [bool; 7],
    opens: Time,
    closes: Time,
}

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A text is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not times of day, as `22:00-05:00` or `Mon-Fri 22:00-05:00`")]
pub struct NoWindow;

impl Window {
    /// Whether it opens on such a day.
    #[must_use]
    pub fn opens_on(&self, day: Weekday) -> bool {
        usize::try_from(day.to_monday_zero_offset()).is_ok_and(|index| self.days[index])
    }

    /// When it opens, on the days on which it does.
    #[must_use]
    pub fn opens(&self) -> Time {
        self.opens
    }

    /// When it closes: on the next day, if that is not later than it opens.
    #[must_use]
    pub fn closes(&self) -> Time {
        self.closes
    }
}

impl FromStr for Window {
    type Err = NoWindow;

    fn from_str(text: &str) -> Result<Self, NoWindow> {
        let (days, times) =
            text.rsplit_once(' ').map_or((None, text), |(days, times)| (Some(days.trim_end()), times));
        let (opens, closes) = times.split_once('-').ok_or(NoWindow)?;
        let (opens, closes) = (time(opens)?, time(closes)?);
        if opens == closes {
            return Err(NoWindow);
        }
        Ok(Self { days: days.map_or(Ok([true; 7]), parse_days)?, opens, closes })
    }
}

fn time(text: &str) -> Result<Time, NoWindow> {
    let is_plain = |(at, byte): (usize, u8)| if at == 2 { byte == b':' } else { byte.is_ascii_digit() };
    let plain = text.len() == 5 && text.bytes().enumerate().all(is_plain);
    plain.then(|| text.parse().ok()).flatten().ok_or(NoWindow)
}

/// `Mon,Wed` or `Mon-Fri`, or both in one. A range may pass Sunday.
fn parse_days(text: &str) -> Result<[bool; 7], NoWindow> {
    let index = |name: &str| DAYS.iter().position(|day| *day == name).ok_or(NoWindow);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (index(first)?, index(last)?);
        let count = (last + 7 - first) % 7;
        (first..=first + count).for_each(|day| days[day % 7] = true);
    }
    Ok(days)
}

/// As policy writes it, each day by its name.
impl fmt::Display for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let named = DAYS.iter().zip(self.days).filter_map(|(name, opens)| opens.then_some(*name));
            write!(formatter, "{} ", named.collect::<Vec<_>>().join(","))?;
        }
        write!(formatter, "{}-{}", self.opens.strftime("%H:%M"), self.closes.strftime("%H:%M"))
    }
}

impl TryFrom<String> for Window {
    type Error = NoWindow;

    fn try_from(text: String) -> Result<Self, NoWindow> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_one_by_one_and_in_ranges_past_sunday() {
        for (text, expected) in [
            ("22:00-05:00", "22:00-05:00"),
            ("Mon-Fri 22:00-05:00", "Mon,Tue,Wed,Thu,Fri 22:00-05:00"),
            ("Sat-Mon,Wed 01:00-02:00", "Mon,Wed,Sat,Sun 01:00-02:00"),
            ("Mon-Sun 01:00-02:00", "01:00-02:00"),
            ("Mon  01:00-02:00", "Mon 01:00-02:00"),
        ] {
            let window: Window = text.parse().unwrap();
            assert_eq!(window.to_string(), expected);
            assert_eq!(window.to_string().parse(), Ok(window));
        }
        for text in [
            "",
            "22:00",
            "22:00-22:00",
            "Mon 22:00",
            "mon 22:00-23:00",
            "Mon- 22:00-23:00",
            "9:00-17:00",
            "T2200-05:00",
        ] {
            assert_eq!(text.parse::<Window>(), Err(NoWindow), "{text}");
        }
    }
}
