//! A small access log that shows what a replay can find: made up, and the same every time.
//!
//! Three hours of an imaginary shop: visitors who read, an application that is in a hurry, somebody who guesses
//! passwords, somebody who copies the search results, lines out of order, and a few that are no lines at all.

use std::fmt::Write;

use crate::chores::{ChoreError, root};

/// 2026-03-02 09:00:00 UTC, in seconds since the Unix epoch.
const START: u64 = 1_772_442_000;
const LENGTH: u64 = 3 * 3_600;

/// One request.
struct Line {
    at: u64,
    client: String,
    request: String,
    status: u16,
    bytes: u64,
    agent: &'static str,
}

const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const APP: &str = "ShopApp/4.2 (Android 16)";
const SCRIPT: &str = "python-requests/2.33";

pub(crate) fn write() -> Result<(), ChoreError> {
    let path = root().join("samples/access.log");
    std::fs::write(&path, text()).map_err(|error| ChoreError::Io(path.display().to_string(), error))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn text() -> String {
    let mut random = Random(20_260_302);
    let mut lines = Vec::new();
    visitors(&mut random, &mut lines);
    hurried_app(&mut random, &mut lines);
    password_guesser(&mut random, &mut lines);
    search_copier(&mut random, &mut lines);
    uploader(&mut random, &mut lines);
    // Stable, so that requests of one second stay as they were made.
    lines.sort_by_key(|line| line.at);
    // A server writes a line when the response ends: some slow ones come late.
    for index in (0..lines.len().saturating_sub(12)).step_by(37) {
        let later = index + usize::try_from(random.below(12)).unwrap_or(0);
        lines.swap(index, later);
    }
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let Line { at, client, request, status, bytes, agent } = line;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{client} - - [{}] \"{request}\" {status} {bytes} \"-\" \"{agent}\"",
            clf_time(*at)
        );
        match index {
            700 => text.push_str("203.0.113.99 - - [02/Mar/2026:09:41:0\n"),
            1_500 => text.push_str("\n\x16\x03\x01 hello\n"),
            _ => {}
        }
    }
    text
}

fn visitors(random: &mut Random, lines: &mut Vec<Line>) {
    const PAGES: [&str; 8] = [
        "/",
        "/products",
        "/products/7",
        "/products/31?ref=home",
        "/cart",
        "/about",
        "/img/logo.png",
        "/style.css",
    ];
    for visitor in 0..180 {
        let client = if visitor % 5 == 0 {
            format!("2001:db8:{:x}:{:x}::{:x}", random.below(16), visitor, random.below(9_999) + 1)
        } else {
            format!("198.51.100.{}", visitor % 250 + 1)
        };
        let mut at = START + random.below(LENGTH - 900);
        for _ in 0..4 + random.below(14) {
            let page = PAGES[usize::try_from(random.below(PAGES.len() as u64)).unwrap_or(0)];
            let status = if random.below(40) == 0 { 404 } else { 200 };
            lines.push(line(
                at,
                &client,
                format!("GET {page} HTTP/1.1"),
                status,
                random.below(40_000),
                BROWSER,
            ));
            if random.below(9) == 0 {
                let words = ["shoes", "lamp", "red%20coat"];
                let word = words[usize::try_from(random.below(3)).unwrap_or(0)];
                lines.push(line(
                    at + 1,
                    &client,
                    format!("GET /api/search?q={word} HTTP/1.1"),
                    200,
                    900,
                    BROWSER,
                ));
            }
            at += 2 + random.below(60);
        }
        if visitor % 6 == 0 {
            lines.push(line(at, &client, "POST /api/auth/login HTTP/1.1".to_owned(), 200, 210, BROWSER));
        }
    }
}

/// An application that fetches prices in bursts of a hundred and more.
fn hurried_app(random: &mut Random, lines: &mut Vec<Line>) {
    for burst in 0..6 {
        let start = START + 600 + burst * 1_500;
        for request in 0..110 + 10 * burst {
            let at = start + request / 40;
            let page = 1 + random.below(400);
            lines.push(line(
                at,
                "203.0.113.20",
                format!("GET /api/v2/prices/{page} HTTP/2.0"),
                200,
                180,
                APP,
            ));
        }
    }
}

/// Somebody who tries a password every two seconds for ten minutes.
fn password_guesser(random: &mut Random, lines: &mut Vec<Line>) {
    for attempt in 0..300 {
        let at = START + 4_000 + attempt * 2;
        // Spelt in every way that the server takes for the same path.
        let paths = ["/api/auth/login", "/api/auth/login/", "/API/auth//login", "/api/auth/%6Cogin"];
        let path = paths[usize::try_from(random.below(4)).unwrap_or(0)];
        lines.push(line(at, "203.0.113.66", format!("POST {path} HTTP/1.1"), 401, 64, SCRIPT));
    }
}

/// Somebody who copies the search results, four pages a second for two minutes, then once more.
fn search_copier(_random: &mut Random, lines: &mut Vec<Line>) {
    for round in [6_000, 8_400] {
        for page in 0..480 {
            let at = START + round + page / 4;
            lines.push(line(
                at,
                "203.0.113.77",
                format!("GET /api/search?q=a&page={page} HTTP/1.1"),
                200,
                5_200,
                SCRIPT,
            ));
        }
    }
}

/// A customer who uploads 25 pictures within a quarter of an hour.
fn uploader(random: &mut Random, lines: &mut Vec<Line>) {
    for picture in 0..25 {
        let at = START + 7_200 + picture * 35 + random.below(10);
        lines.push(line(at, "198.51.100.200", "POST /api/upload HTTP/1.1".to_owned(), 201, 120, BROWSER));
    }
}

fn line(at: u64, client: &str, request: String, status: u16, bytes: u64, agent: &'static str) -> Line {
    Line { at, client: client.to_owned(), request, status, bytes, agent }
}

/// The log lies within one day of March 2026, so its dates need no calendar.
fn clf_time(at: u64) -> String {
    let second = 9 * 3_600 + (at - START);
    format!("02/Mar/2026:{:02}:{:02}:{:02} +0000", second / 3_600, second / 60 % 60, second % 60)
}

/// Numbers that look random (xorshift64*; S. Vigna, 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_that_ships_is_the_one_that_is_made() {
        let shipped = std::fs::read_to_string(root().join("samples/access.log")).unwrap();
        assert!(shipped == text(), "run `cargo xtask sample-log`");
    }
}
