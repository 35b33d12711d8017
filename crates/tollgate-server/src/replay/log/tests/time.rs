//! Times, in every spelling, and their limits.

use super::super::tally::Flaw;
use super::super::time::Times;

fn any(text: &str) -> Result<u64, Flaw> {
    let mut times = Times::default();
    let first = times.any(text.as_bytes());
    // What is remembered of a time changes nothing about the next one.
    assert_eq!(times.any(text.as_bytes()), first, "{text}");
    first
}

#[track_caller]
fn check(text: &str, wanted_ns: u64) {
    assert_eq!(any(text), Ok(wanted_ns), "{text}");
}

#[track_caller]
fn refuse(text: &str, wanted: Flaw) {
    assert_eq!(any(text), Err(wanted), "{text}");
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn common_log_times() {
    check("17/May/2015:10:05:03 +0000", 1_431_857_103 * SECOND);
    check("[17/May/2015:10:05:03 +0000]", 1_431_857_103 * SECOND);
    check("17/May/2015:10:05:03 Z", 1_431_857_103 * SECOND);
    check("17/MAY/2015:10:05:03 -0730", (1_431_857_103 + 27_000) * SECOND);
    check("17/May/2015:10:05:03.25 +0000", 1_431_857_103 * SECOND + 250_000_000);
    check("01/Jan/1970:00:00:00 +0000", 0);
    check("31/Dec/1969:23:00:00 -0100", 0);
    check("29/Feb/2000:00:00:00 +0000", 951_782_400 * SECOND);
    check("31/Dec/2500:23:59:59 +0000", 16_756_761_599 * SECOND);
    check("31/Dec/2016:23:59:60 +0000", 1_483_228_800 * SECOND);
}

#[test]
fn weird_common_log_times() {
    refuse("31/Feb/2015:10:05:03 +0000", Flaw::Date);
    refuse("29/Feb/2015:10:05:03 +0000", Flaw::Date);
    refuse("29/Feb/2100:10:05:03 +0000", Flaw::Date);
    refuse("31/Apr/2015:10:05:03 +0000", Flaw::Date);
    refuse("00/May/2015:10:05:03 +0000", Flaw::Date);
    refuse("32/May/2015:10:05:03 +0000", Flaw::Date);
    refuse("17/Mai/2015:10:05:03 +0000", Flaw::Date);
    refuse("17/May/2015:24:00:00 +0000", Flaw::Clock);
    refuse("17/May/2015:24:60:00 +0000", Flaw::Clock);
    refuse("17/May/2015:10:60:00 +0000", Flaw::Clock);
    refuse("17/May/2015:10:05:61 +0000", Flaw::Clock);
    refuse("17/May/0000:10:05:03 +0000", Flaw::Year);
    refuse("17/May/1969:10:05:03 +0000", Flaw::Year);
    refuse("01/Jan/1970:00:00:00 +0001", Flaw::Year);
    refuse("01/Jan/2501:00:00:00 +0000", Flaw::Year);
    refuse("31/Dec/2500:23:59:59 -0001", Flaw::Year);
    refuse("31/Dec/2500:23:59:60 +0000", Flaw::Year);
    refuse("17/May/9999:10:05:03 +0000", Flaw::Year);
    refuse("17/May/2015:10:05:03 +2400", Flaw::Zone);
    refuse("17/May/2015:10:05:03 -2400", Flaw::Zone);
    refuse("17/May/2015:10:05:03 +0060", Flaw::Zone);
    refuse("17/May/2015:10:05:03 00000", Flaw::Zone);
    refuse("17/May/2015:10:05:03 +00-0", Flaw::Zone);
    refuse("17/May/2015:10:05:03 UTC", Flaw::Zone);
    refuse("17/May/2015:10:05:03", Flaw::Zone);
    refuse("17/May/2015:10:05:03. +0000", Flaw::TimeSyntax);
    refuse("17/May/2015:1a:05:03 +0000", Flaw::TimeSyntax);
    refuse("17/May/2015:10:05", Flaw::TimeSyntax);
    refuse("17/May/2015 10:05:03 +0000", Flaw::TimeSyntax);
    refuse("1a/May/2015:10:05:03 +0000", Flaw::TimeSyntax);
    refuse("17/May/-015:10:05:03 +0000", Flaw::TimeSyntax);
    refuse("17/", Flaw::TimeSyntax);
}

#[test]
fn a_remembered_day_is_only_used_for_itself() {
    let mut times = Times::default();
    let mut read = |text: &str| times.text(text.as_bytes());
    assert_eq!(read("17/May/2015:10:05:03 +0000"), Ok(1_431_857_103 * SECOND));
    assert_eq!(read("17/May/2015:10:05:04 +0000"), Ok(1_431_857_104 * SECOND));
    assert_eq!(read("17/May/2015:10:05:04 +0100"), Ok(1_431_853_504 * SECOND));
    assert_eq!(read("18/May/2015:10:05:04 +0100"), Ok((1_431_853_504 + 86_400) * SECOND));
    assert_eq!(read("18/May/2015:25:05:04 +0100"), Err(Flaw::Clock));
    assert_eq!(read("18/May/2015 10:05:04 +0100"), Err(Flaw::TimeSyntax));
    assert_eq!(read("18/May/2015:10:05:05 +0100"), Ok((1_431_853_505 + 86_400) * SECOND));
    assert_eq!(read("\0\0\0\0\0\0\0\0\0\0\0:10:05:05\0\0\0\0\0\0"), Err(Flaw::TimeSyntax));
    assert_eq!(Times::default().text(b"\0\0\0\0\0\0\0\0\0\0\0:10:05:05\0\0\0\0\0\0"), Err(Flaw::TimeSyntax));
}

#[test]
fn every_day_follows_the_one_before() {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut times = Times::default();
    let mut wanted = 0;
    for year in 1970..=2500 {
        for (month, name) in MONTHS.iter().enumerate() {
            for day in 1..=31 {
                let clf = times.any(format!("{day:02}/{name}/{year}:00:00:00 +0000").as_bytes());
                let rfc = times.any(format!("{year}-{:02}-{day:02}T00:00:00Z", month + 1).as_bytes());
                assert_eq!(clf, rfc);
                if clf.is_ok() {
                    assert_eq!(clf, Ok(wanted * SECOND));
                    wanted += 86_400;
                }
            }
        }
    }
    assert_eq!(wanted, 16_756_761_600);
}

#[test]
fn rfc_3339_times() {
    let base = 1_431_857_103 * SECOND;
    check("2015-05-17T10:05:03Z", base);
    check("2015-05-17t10:05:03z", base);
    check("2015-05-17 10:05:03 +0000", base);
    check("2015-05-17T12:05:03+02:00", base);
    check("2015-05-17T12:05:03+02", base);
    check("2015-05-17T05:05:03-05:00", base);
    check("2015-05-17T10:05:03.1Z", base + 100_000_000);
    check("2015-05-17T10:05:03,123Z", base + 123_000_000);
    check("2015-05-17T10:05:03.123456789Z", base + 123_456_789);
    check("2015-05-17T10:05:03.12345678999999999999999Z", base + 123_456_789);
    check("2016-12-31T23:59:60Z", 1_483_228_800 * SECOND);
    refuse("2015-05-17T10:05:03", Flaw::Zone);
    refuse("2015-05-17T10:05:03.5", Flaw::Zone);
    refuse("2015-05-17T10:05:03+24:00", Flaw::Zone);
    refuse("2015-05-17T10:05:03.Z", Flaw::TimeSyntax);
    refuse("2015-05-17T10:05Z", Flaw::TimeSyntax);
    refuse("2015-05-17", Flaw::TimeSyntax);
    refuse("2015-02-31T10:05:03Z", Flaw::Date);
    refuse("2015-13-01T10:05:03Z", Flaw::Date);
    refuse("2015-00-01T10:05:03Z", Flaw::Date);
    refuse("2015-05-17T24:60:03Z", Flaw::Clock);
    refuse("0000-01-01T00:00:00Z", Flaw::Year);
    refuse("1969-12-31T23:59:59Z", Flaw::Year);
    refuse("2501-01-01T00:00:00Z", Flaw::Year);
}

#[test]
fn numbers_since_the_epoch() {
    check("1431857103", 1_431_857_103 * SECOND);
    check("+1431857103", 1_431_857_103 * SECOND);
    check("1431857103.5", 1_431_857_103 * SECOND + 500_000_000);
    check("1646861401.524102438", 1_646_861_401 * SECOND + 524_102_438);
    check("1646861401.5241024389999", 1_646_861_401 * SECOND + 524_102_438);
    check("1.431857103e9", 1_431_857_103 * SECOND);
    check("143185710300e-2", 1_431_857_103 * SECOND);
    check("1431857103123", 1_431_857_103 * SECOND + 123_000_000);
    check("1431857103123.5", 1_431_857_103 * SECOND + 123_500_000);
    check("1431857103123456", 1_431_857_103 * SECOND + 123_456_000);
    check("1431857103123456789", 1_431_857_103 * SECOND + 123_456_789);
    check("1431857103123456789.9", 1_431_857_103 * SECOND + 123_456_789);
    check("0", 0);
    check("-0.0", 0);
    check("0e400", 0);
    check("0.05", 50_000_000);
    check("1e-300", 0);
    check("0000000000000000001431857103", 1_431_857_103 * SECOND);
    // The least that each greater unit can say, and the most of all.
    check("100000000000", 100_000_000 * SECOND);
    check("100000000000000", 100_000_000 * SECOND);
    check("100000000000000000", 100_000_000 * SECOND);
    check("16756761599", 16_756_761_599 * SECOND);
    check("16756761599999999999", 16_756_761_599 * SECOND + 999_999_999);
}

#[test]
fn weird_numbers() {
    for text in
        ["16756761600", "99999999999", "16756761600000000000", "18446744073709551616", "99999999999999999999"]
    {
        refuse(text, Flaw::Year);
    }
    for text in ["-1", "-1431857103.5", "1e400", "1e99999", "1e-99999", "123456789012345678901", "9e20"] {
        refuse(text, Flaw::Year);
    }
    for text in [
        "", "-", "+", ".", ".5", "NaN", "nan", "inf", "-inf", "1e", "1e+", "1.2.3", "1,5", "0x10", "--1",
        "1 ",
    ] {
        refuse(text, Flaw::TimeSyntax);
    }
    refuse(&"1".repeat(65), Flaw::TimeSyntax);
}
