use super::*;

#[test]
fn durations_are_read_as_people_write_them() {
    for (text, millis) in [
        ("30m", 1_800_000),
        ("1h 30m", 5_400_000),
        ("1h30m", 5_400_000),
        ("PT30M", 1_800_000),
        ("250ms", 250),
        ("0s", 0),
        ("8760h", 8760 * 3_600_000),
    ] {
        assert_eq!(text.parse(), Ok(Span::from_millis(millis)), "{text}");
    }
}

#[test]
fn a_refused_duration_says_why_and_what_to_write() {
    for (text, reason, help) in [
        ("30", "`30` has no unit", "write 30s"),
        ("-5s", "`-5s` is negative", "zero or more"),
        ("1d", "`1d` is not a duration", "a day is 24h"),
        ("P1D", "`P1D` is not a duration", "a day is 24h"),
        ("", "`` is not a duration", "such as 30s"),
        ("8761h", "`8761h` is more than 8760h", "shorter"),
    ] {
        let error = text.parse::<Span>().unwrap_err();
        assert!(error.reason.starts_with(reason), "{error:?}");
        assert!(error.help.contains(help), "{error:?}");
    }
}

#[test]
fn sizes_know_powers_of_1024_and_of_1000() {
    for (text, bytes) in [
        ("16MiB", 16 << 20),
        ("64 KiB", 64 << 10),
        ("1GiB", 1 << 30),
        ("1MB", 1_000_000),
        ("5B", 5),
        ("0", 0),
        ("1000", 1000),
    ] {
        assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
    }
    for text in ["", "MiB", "-1", "1.5MiB", "16 mib", "20000000000GiB", "+5"] {
        assert!(text.parse::<ByteCount>().is_err(), "{text}");
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..1000 {
        let span = Span::from_millis(random.u64(0..8760 * 3_600_000));
        assert_eq!(span.to_string().parse(), Ok(span), "seed 7, {span}");
        let size = ByteCount(random.u64(..) >> random.u32(0..64));
        assert_eq!(size.to_string().parse(), Ok(size), "seed 7, {size}");
    }
    assert_eq!(ByteCount::from_mib(16).to_string(), "16MiB");
    assert_eq!(Span::from_secs(5400).to_string(), "1h 30m");
}
