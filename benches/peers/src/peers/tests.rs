//! Each peer allows what it is to allow, and denies what it is to deny.

use super::*;
use crate::arguments::{self, Command};

fn share_allowed(peer: &str, outcome: &str, more: &str) -> f64 {
    let line = format!("{peer} --keys 500 --operations 4000 --outcome {outcome} {more}");
    let Ok(Command::Measure(arguments)) = arguments::parse(line.split_whitespace().map(str::to_owned)) else {
        panic!("{line}");
    };
    let result = find(peer).and_then(|measure| measure(&arguments)).unwrap().finish();
    let (_, rest) = result.split_once("\"allowed\":").unwrap();
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

#[test]
fn all_peers_do_as_they_are_told() {
    for peer in names() {
        for threads in ["--threads 1", "--threads 2 --distribution zipf"] {
            let (allowed, denied) =
                (share_allowed(peer, "allowed", threads), share_allowed(peer, "denied", threads));
            assert!(allowed > 0.99, "{peer} {threads}: {allowed}");
            assert!(denied < 0.01, "{peer} {threads}: {denied}");
        }
    }
}

#[test]
fn batches_decide_as_single_ones() {
    assert!(share_allowed("tollgate", "allowed", "--batch 16") > 0.99);
    assert!(share_allowed("tollgate", "denied", "--batch 16") < 0.01);
}

#[test]
fn unknown_peers_are_named() {
    let error = find("nobody").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("`nobody`") && error.contains("governor"), "{error}");
}
