//! Reads the load from the command line.

use std::path::Path;
use std::time::Duration;

use super::{Options, Refused, exit};
use crate::cli::duration;
use crate::plan::{Arrivals, Durations, LONGEST, Load};

/// `COUNT/TIME`: this many items in each span of time, such as `30/m` or `100/15m`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeated {
    pub count: u32,
    pub every: Duration,
}

impl Repeated {
    pub fn parse(text: &str) -> Result<Self, String> {
        let form =
            || format!("{text:?} is not a rate: write a count and a time, such as 5/s, 30/m or 100/15m");
        let (count, every) = text.split_once('/').ok_or_else(form)?;
        let count = count.trim().parse().map_err(|_| form())?;
        // `m` without a number means `1m`.
        let every = every.trim();
        let one = if every.starts_with(|c: char| c.is_ascii_alphabetic()) { "1" } else { "" };
        let every = duration(&format!("{one}{every}"))?;
        if count == 0 || every.is_zero() {
            return Err(form());
        }
        Ok(Repeated { count, every })
    }
}

/// Reads `0.02` or `2%`.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 0.01));
    let share = number.trim().parse::<f64>().map(|number| number * scale).ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("{text:?} is not a share: write a number in 0..1, or a percentage such as 2%"))
}

pub fn price(text: &str) -> Result<f64, String> {
    let price = text.parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| format!("{text:?} is not a price: write a number of at least 0, without a currency"))
}

/// Reads a cold start of at most a day. Knative itself gives up after ten minutes.
pub fn cold_start(text: &str) -> Result<Duration, String> {
    let span = duration(text)?;
    let is_possible = span <= Duration::from_secs(24 * 3600);
    if is_possible { Ok(span) } else { Err(format!("{text} is too long: at most a day can be planned")) }
}

pub fn build(options: &Options) -> Result<Load, Refused> {
    let mut arrivals = Vec::new();
    arrivals.extend(options.items.map(|items| Arrivals::Backlog(items as usize)));
    if let Some(file) = &options.arrivals {
        arrivals.push(Arrivals::Times(times(file)?));
    }
    let lasting = options.lasting.unwrap_or_default();
    if lasting.is_zero() && (options.rate.is_some() || options.burst.is_some()) {
        return Err(Refused::usage("--for is zero", "write for how long items arrive, such as 1h"));
    }
    arrivals.extend(options.rate.map(|rate| Arrivals::Rate {
        per_second: f64::from(rate.count) / rate.every.as_secs_f64(),
        lasting,
    }));
    arrivals.extend(options.burst.map(|burst| Arrivals::Bursts {
        count: burst.count as usize,
        every: burst.every,
        lasting,
    }));
    if arrivals.is_empty() {
        return Err(Refused::usage(
            "the plan has no load",
            "add --items, --arrivals, --rate or --burst; given together they add up",
        ));
    }
    let durations = durations(&options.duration)?;
    if durations.longest().is_zero() {
        return Err(Refused::usage("--duration is zero", "write how long the work on an item takes"));
    }
    Ok(Load { arrivals, durations, failure_rate: options.failure_rate })
}

/// Reads a distribution, or the file that holds one.
fn durations(text: &str) -> Result<Durations, Refused> {
    let file = Path::new(text);
    let no_duration = match Durations::parse(text) {
        Ok(durations) => return Ok(durations),
        Err(error) => error,
    };
    if !file.is_file() {
        return Err(Refused::usage(
            format!("--duration is neither a duration ({no_duration}) nor a file"),
            "write 60s, 60s±20s, or the name of a file with a duration on each line",
        ));
    }
    Durations::parse_observed(&read(file)?).map_err(|error| Refused {
        code: exit::CONFIG,
        what: format!("{}: {error}", file.display()),
        hint: "write one duration on each line",
    })
}

/// Reads a file of arrivals. Times count from the first arrival.
fn times(file: &Path) -> Result<Vec<Duration>, Refused> {
    let refused = |what, hint| Refused { code: exit::CONFIG, what, hint };
    let moments = moments(&read(file)?)
        .map_err(|NoTime { line, what, hint }| refused(format!("{}:{line}: {what}", file.display()), hint))?;
    if moments.is_empty() {
        return Err(refused(format!("{} holds no arrivals", file.display()), "write one time on each line"));
    }
    Ok(moments)
}

/// A line that is not a time, and the reason.
#[derive(Debug, PartialEq)]
struct NoTime {
    line: usize,
    what: String,
    hint: &'static str,
}

/// Returns the time of each line, counted from the earliest.
fn moments(text: &str) -> Result<Vec<Duration>, NoTime> {
    let mut moments: Vec<(usize, Moment)> = Vec::new();
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let moment = Moment::parse(text).ok_or_else(|| NoTime {
            line,
            what: format!("{text:?} is not a time"),
            hint: "write seconds such as 12.5, or RFC 3339 such as 2026-01-31T12:00:00Z",
        })?;
        if let Some((first, _)) = moments.first().filter(|(_, first)| first.is_date != moment.is_date) {
            let (this, that) = if moment.is_date { ("a date", "seconds") } else { ("seconds", "a date") };
            return Err(NoTime {
                line,
                what: format!("{text:?} is {this}, and line {first} is {that}"),
                hint: "write all lines in the same form: nothing says how the two lie to each other",
            });
        }
        moments.push((line, moment));
    }
    let first = moments.iter().map(|(_, moment)| moment.second).fold(f64::INFINITY, f64::min);
    moments.into_iter().map(|(line, moment)| after(first, line, moment)).collect()
}

fn after(first: f64, line: usize, moment: Moment) -> Result<Duration, NoTime> {
    let after = Duration::try_from_secs_f64(moment.second - first).ok();
    after.filter(|after| *after <= LONGEST).ok_or_else(|| NoTime {
        line,
        what: "this is more than 365 days after the first arrival".to_owned(),
        hint: "plan a part of it: the autoscaler ticks every two seconds, also while nothing arrives",
    })
}

/// A point in time on a clock that all lines of the same form share.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment {
    second: f64,
    is_date: bool,
}

impl Moment {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(second) = text.parse::<f64>() {
            return second.is_finite().then_some(Moment { second, is_date: false });
        }
        let at = text.parse::<jiff::Timestamp>().ok()?;
        Some(Moment { second: at.as_nanosecond() as f64 / 1e9, is_date: true })
    }
}

pub fn read(file: &Path) -> Result<String, Refused> {
    std::fs::read_to_string(file).map_err(|error| Refused {
        code: exit::CONFIG,
        what: format!("{} can't be read: {error}", file.display()),
        hint: "name a text file that is there",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rates_shares_and_moments() {
        let rate = |text: &str| Repeated::parse(text).map(|rate| (rate.count, rate.every.as_secs_f64()));
        assert_eq!(rate("5/s"), Ok((5, 1.0)));
        assert_eq!(rate("30/m"), Ok((30, 60.0)));
        assert_eq!(rate("100/15m"), Ok((100, 900.0)));
        for bad in ["", "5", "/s", "0/s", "5/0s", "5/x", "-1/s"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!((share("0.25"), share("25%")), (Ok(0.25), Ok(0.25)));
        assert!(share("2").is_err() && share("-1%").is_err() && share("x").is_err());
        for bad in ["noon", "NaN", "inf", "1;2"] {
            assert!(Moment::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn reads_arrivals_of_one_form_and_of_a_year_at_most() {
        let second = Duration::from_secs(1);
        let dates = "2026-01-31T12:00:01Z\n\n# earlier\n2026-01-31T12:00:00Z\n";
        assert_eq!(moments(dates), Ok(vec![second, Duration::ZERO]));
        assert_eq!(moments("12.5\n11.5"), Ok(vec![second, Duration::ZERO]));
        assert_eq!(moments("0\n31536000"), Ok(vec![Duration::ZERO, LONGEST]));
        for (text, line, what) in [
            ("0\n#\n2026-01-31T12:00:00Z\n", 3, "is a date, and line 1 is seconds"),
            ("2026-01-31T12:00:00Z\n0\n", 2, "is seconds, and line 1 is a date"),
            ("0\n1e12\n5\n", 2, "365 days"),
            ("1e300\n-1e300\n", 1, "365 days"),
            ("0\nnoon\n", 2, "is not a time"),
        ] {
            let refused = moments(text).unwrap_err();
            assert!(refused.line == line && refused.what.contains(what), "{refused:?}");
        }
    }
}
