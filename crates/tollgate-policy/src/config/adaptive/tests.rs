use insta::assert_snapshot;

use super::*;
use crate::config::{Config, Format};

fn parsed(text: &str) -> Config {
    Config::parse("policies.yaml", text, Format::Yaml, &[]).unwrap()
}

fn problems(text: &str) -> String {
    Config::parse("policies.yaml", text, Format::Yaml, &[]).unwrap_err().to_string()
}

#[test]
fn what_limits_adapt_to_is_read() {
    let config = parsed(
        "
health:
  orders:
    errors: { degraded: 5%, bad: 25.5% }
    latency: { percentile: 99.9, degraded: 300ms, bad: 1s }
    dwell: 30s
  node: { cpu: { bad: 95% }, store: degraded }
concurrency:
  orders: { limit: 32, ttl: 5s }
  search: { limit: vegas, least: 4, most: 15 }
  slow: { limit: aimd, slow_above: 250ms }
  last: { limit: gradient, tolerance: 2 }
policies:
  - { name: a, key: ip, limit: 100/minute, adaptive: orders }
  - { name: b, key: ip, limit: 100/minute, adaptive: { to: node, degraded: 80% } }
",
    );
    let [orders, node] = &config.health[..] else { panic!("{config:?}") };
    assert_eq!(orders.errors, Some(Thresholds::new(0.05, 0.255).unwrap()));
    assert_eq!(orders.latency, Some((99.9, Thresholds::new(0.3, 1.0).unwrap())));
    assert_eq!((orders.dwell, orders.store), (Nanos::from_secs(30), None));
    assert_eq!(node.cpu, Some(Thresholds::new(0.95, 0.95).unwrap()));
    assert_eq!((node.dwell, node.store), (Nanos::from_secs(10), Some(Level::Degraded)));
    let limits: Vec<u32> = config.concurrency.iter().map(|rules| rules.control.limit().limit()).collect();
    // Those that go by delay begin with half, to see how long a request takes with few others.
    assert_eq!(limits, [32, 7, 20, 10]);
    assert_eq!(config.concurrency[0].ttl, Nanos::from_secs(5));
    let at =
        |policy: usize, level| config.policies[policy].variants()[0].limits_at(level)[0].limit().capacity();
    assert_eq!(Level::ALL.map(|level| at(0, level)), [100, 70, 30]);
    assert_eq!(Level::ALL.map(|level| at(1, level)), [100, 80, 30]);
}

#[test]
fn what_limits_cannot_adapt_to_is_told() {
    assert_snapshot!(problems(
        "
health:
  orders: { errors: { degraded: 0.05, bad: 25% } }
  search: { latency: { degraded: 2s, bad: 1s }, cpu: {} }
  'a b': {}
concurrency:
  one: { limit: 0 }
  two: { limit: vegass, slow_above: 1s }
  three: { least: 3 }
  four: { limit: gradient, tolerance: 11, initial: 2000 }
policies:
  - { name: a, key: ip, limit: 100/minute, adaptive: order }
  - { name: b, key: ip, limit: 100/minute, adaptive: { degraded: 70 } }
  - { name: c, key: ip, limit: 100/minute, adaptive: { to: orders, degraded: 10% } }
"
    ));
}
