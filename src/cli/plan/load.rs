//! The load, as the command line names it.

use std::path::Path;
use std::time::Duration;

use super::{Options, Refused, exit};
use crate::knative::duration;
use crate::plan::{Arrivals, Durations, Load};

/// `COUNT/TIME`: so many in each span of time, such as `30/m` or `100/15m`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeated {
    pub count: u32,
    pub every: Duration,
}

impl Repeated {
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is no rate: write a count and a time, such as 5/s, 30/m or 100/15m");
        let (count, every) = text.split_once('/').ok_or_else(form)?;
        let count = count.trim().parse().map_err(|_| form())?;
        // `m` alone is one of them.
        let every = every.trim();
        let one = if every.starts_with(|c: char| c.is_ascii_alphabetic()) { "1" } else { "" };
        let every = duration::parse(&format!("{one}{every}")).map_err(|error| error.to_string())?;
        if count == 0 || every.is_zero() {
            return Err(form());
        }
        Ok(Repeated { count, every })
    }
}

/// `0.02` or `2%`.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 0.01));
    let share = number.trim().parse::<f64>().map(|number| number * scale).ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("{text:?} is no share: write a number in 0..1, or a percentage such as 2%"))
}

pub fn price(text: &str) -> Result<f64, String> {
    let price = text.parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| format!("{text:?} is no price: write a number of at least 0, without a currency"))
}

pub fn build(options: &Options) -> Result<Load, Refused> {
    let mut arrivals = Vec::new();
    arrivals.extend(options.items.map(|items| Arrivals::Backlog(items as usize)));
    if let Some(file) = &options.arrivals {
        arrivals.push(Arrivals::Times(times(file)?));
    }
    let lasting = options.lasting.unwrap_or_default();
    if lasting.is_zero() && (options.rate.is_some() || options.burst.is_some()) {
        return Err(Refused::usage("--for is no time at all", "write for how long items arrive, such as 1h"));
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
            "there is no load to plan",
            "add --items, --arrivals, --rate or --burst; given together they add up",
        ));
    }
    let durations = durations(&options.duration)?;
    if durations.longest().is_zero() {
        return Err(Refused::usage(
            "--duration is no time at all",
            "write how long the work on an item takes",
        ));
    }
    Ok(Load { arrivals, durations, failure_rate: options.failure_rate })
}

/// A distribution, or the file that holds one.
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

/// Arrivals after the first of them.
fn times(file: &Path) -> Result<Vec<Duration>, Refused> {
    let mut seconds = Vec::new();
    for (index, line) in read(file)?.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let second = moment(line).ok_or_else(|| Refused {
            code: exit::CONFIG,
            what: format!("{}:{}: {line:?} is no time", file.display(), index + 1),
            hint: "write seconds such as 12.5, or RFC 3339 such as 2026-01-31T12:00:00Z",
        })?;
        seconds.push(second);
    }
    let first = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let after = |second: f64| Duration::try_from_secs_f64(second - first).unwrap_or(Duration::MAX);
    let times: Vec<Duration> = seconds.into_iter().map(after).collect();
    if times.is_empty() {
        let what = format!("{} holds no arrivals", file.display());
        return Err(Refused { code: exit::CONFIG, what, hint: "write one time on each line" });
    }
    Ok(times)
}

fn moment(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds).filter(|seconds| seconds.is_finite());
    }
    text.parse::<jiff::Timestamp>().ok().map(|at| at.as_nanosecond() as f64 / 1e9)
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
        assert_eq!(moment("2026-01-31T12:00:01Z").unwrap() - moment("2026-01-31T12:00:00Z").unwrap(), 1.0);
        assert_eq!(moment("12.5"), Some(12.5));
        assert!(moment("noon").is_none() && moment("NaN").is_none());
    }
}
