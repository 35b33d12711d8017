//! Which server has a key: the only one, or the one of a cluster that has its slot.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;

use super::RedisOptions;
use super::caller::{CallError, Caller};
use super::link::Link;
use super::route::{Maker, Route};
use crate::seed::{random_below, random_tag};
use crate::shared::ToldTime;
use crate::shared::courier::Courier;
use crate::store::StoreError;

/// How many calls are under way at once, where each can take any request along.
const UNDER_WAY: usize = 2;

/// And in a cluster, where a call is for one slot only, so that hardly any take others along.
const UNDER_WAY_BY_SLOT: usize = 64;

/// How many slots a cluster has.
const SLOTS: usize = 16_384;

/// How often a call follows a key to where it has moved.
const MOVES_MAX: u32 = 5;

/// The longest pause before a cluster is asked again for its slots.
const PAUSE: Duration = Duration::from_millis(200);

/// A server, and whoever carries requests to it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) caller: Arc<Caller>,
    pub(super) courier: Courier<Caller>,
}

/// What nodes are made with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) options: RedisOptions,
    pub(super) told_time: Arc<ToldTime>,
}

impl Plan {
    /// A node that begins to connect.
    pub(super) fn node(&self, route: Route, by_slot: bool) -> Node {
        // Callers have gone by twice their deadline.
        let RedisOptions { prefix, deadline, connect_timeout, .. } = &self.options;
        let link = Arc::new(Link::new(route, *connect_timeout, *deadline * 2));
        link.lay();
        let caller = Arc::new(Caller::new(link, prefix.clone(), Arc::clone(&self.told_time)));
        let under_way = if by_slot { UNDER_WAY_BY_SLOT } else { UNDER_WAY };
        Node { courier: Courier::new(Arc::clone(&caller), under_way, by_slot), caller }
    }
}

#[derive(Debug)]
pub(super) enum Reach {
    One(Node),
    Cluster(Arc<Cluster>),
}

/// The servers of a cluster, as far as they are known.
#[derive(Debug)]
pub(super) struct Cluster {
    plan: Plan,
    maker: Maker,
    seeds: Vec<String>,
    known: Mutex<Known>,
    is_asking: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    nodes: HashMap<String, Node>,
    /// The address of each slot's primary.
    slots: Vec<Option<Arc<str>>>,
}

impl Reach {
    /// The way to the server that has the keys with this tag.
    pub(super) fn path(&self, tag: u16) -> Result<Path<'_>, StoreError> {
        match self {
            Self::One(node) => Ok(Path { cluster: None, node: node.clone(), asking: false, moves: 0 }),
            Self::Cluster(cluster) => {
                let node = cluster.of(slot(tag))?;
                Ok(Path { cluster: Some(cluster), node, asking: false, moves: 0 })
            }
        }
    }

    /// All servers that are known.
    pub(super) fn nodes(&self) -> Vec<Node> {
        match self {
            Self::One(node) => vec![node.clone()],
            Self::Cluster(cluster) => cluster.known().nodes.values().cloned().collect(),
        }
    }

    /// Whether each key's server can be reached, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        match self {
            Self::One(node) => node.caller.link.is_up(),
            Self::Cluster(cluster) => {
                let known = cluster.known();
                // Slots lie in long ranges: each is looked at once.
                let mut ranges = known.slots.chunk_by(|one, other| match (one, other) {
                    (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                    _ => one.is_none() && other.is_none(),
                });
                let is_up = |range: &[Option<Arc<str>>]| {
                    let node = range[0].as_ref().and_then(|address| known.nodes.get(&**address));
                    node.is_some_and(|node| node.caller.link.is_up())
                };
                !known.slots.is_empty() && ranges.all(is_up)
            }
        }
    }
}

/// The way to keys, wherever they have moved.
pub(super) struct Path<'r> {
    cluster: Option<&'r Arc<Cluster>>,
    /// Whom to ask now.
    pub(super) node: Node,
    /// Whether the keys are only on their way there.
    pub(super) asking: bool,
    moves: u32,
}

impl Path<'_> {
    /// What came of asking; nothing if another server has to be asked.
    pub(super) fn follow<T>(&mut self, result: Result<T, CallError>) -> Result<Option<T>, StoreError> {
        let (cluster, address, asking) = match (result, self.cluster) {
            (Ok(done), _) => return Ok(Some(done)),
            (Err(CallError::Moved(address)), Some(cluster)) => (cluster, address, false),
            (Err(CallError::Ask(address)), Some(cluster)) => (cluster, address, true),
            (Err(error), cluster) => {
                let error = error.into();
                if let (StoreError::Unavailable(_), Some(cluster)) = (&error, cluster) {
                    cluster.ask();
                }
                return Err(error);
            }
        };
        if !asking {
            cluster.ask();
        }
        self.moves += 1;
        if self.moves > MOVES_MAX {
            return Err(StoreError::Unavailable("the keys move from server to server".to_owned()));
        }
        (self.node, self.asking) = (cluster.node(&address)?, asking);
        Ok(None)
    }
}

impl Cluster {
    /// A cluster of which these servers are known; it begins to ask them for the others.
    pub(super) fn new(plan: Plan, maker: Maker, seeds: Vec<String>) -> Result<Arc<Self>, String> {
        let cluster =
            Arc::new(Self { plan, maker, seeds, known: Mutex::default(), is_asking: AtomicBool::new(false) });
        for seed in &cluster.seeds {
            cluster.node(seed).map_err(|error| error.to_string())?;
        }
        cluster.ask();
        Ok(cluster)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No holder panics.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server at an address, which is greeted if it is new.
    fn node(&self, address: &str) -> Result<Node, StoreError> {
        if let Some(node) = self.known().nodes.get(address) {
            return Ok(node.clone());
        }
        let route = self.maker.route(address, &self.plan.options).map_err(StoreError::Defect)?;
        let node = self.plan.node(route, true);
        Ok(self.known().nodes.entry(address.to_owned()).or_insert(node).clone())
    }

    fn of(self: &Arc<Self>, slot: u16) -> Result<Node, StoreError> {
        let address = self.known().slots.get(usize::from(slot)).cloned().flatten();
        let Some(address) = address else {
            self.ask();
            return Err(StoreError::Unavailable(format!("no server is known that has slot {slot}")));
        };
        self.node(&address)
    }

    /// Asks in the background which server has which slots, unless that is under way.
    fn ask(self: &Arc<Self>) {
        if self.is_asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let cluster = Arc::downgrade(self);
        tokio::spawn(async move {
            // Whoever is gone needs no slots.
            while let Some(cluster) = cluster.upgrade() {
                if cluster.learn().await {
                    // Not sooner again, however many calls were refused meanwhile.
                    tokio::time::sleep(random_below(PAUSE)).await;
                    cluster.is_asking.store(false, Ordering::Release);
                    return;
                }
                drop(cluster);
                tokio::time::sleep(random_below(PAUSE)).await;
            }
        });
    }

    /// Asks one server after the other. Returns whether one has answered.
    async fn learn(&self) -> bool {
        let mut nodes: Vec<(String, Node)> =
            self.known().nodes.iter().map(|(address, node)| (address.clone(), node.clone())).collect();
        // Each time from another on: what one of them believes may be long past.
        let first = usize::from(random_tag()) % nodes.len().max(1);
        nodes.rotate_left(first);
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        for (address, node) in nodes {
            let Ok(answer) = node.caller.link.call(&command, false).await else { continue };
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            let ranges = ranges(&answer, host);
            if ranges.is_empty() {
                continue;
            }
            let mut slots = vec![None; SLOTS];
            for (from, to, primary) in ranges {
                // Greeted now, so that it is there when it is needed.
                let _ = self.node(&primary);
                let primary: Arc<str> = primary.into();
                for slot in slots.iter_mut().take(to + 1).skip(from) {
                    *slot = Some(Arc::clone(&primary));
                }
            }
            let mut known = self.known();
            // Whoever has no slots any more is let go, but for those that were named at the start.
            known.nodes.retain(|address, _| {
                self.seeds.contains(address) || slots.iter().flatten().any(|primary| **primary == **address)
            });
            known.slots = slots;
            return true;
        }
        false
    }
}

/// The ranges of slots that a server names, each with its primary's address; `host` is that server's own.
fn ranges(answer: &Value, host: &str) -> Vec<(usize, usize, String)> {
    let Value::Array(ranges) = answer else { return Vec::new() };
    let number = |value: &Value| match value {
        Value::Int(number) => usize::try_from(*number).ok(),
        _ => None,
    };
    let range = |range: &Value| {
        let Value::Array(parts) = range else { return None };
        let [from, to, Value::Array(primary), ..] = parts.as_slice() else { return None };
        let [name, port, ..] = primary.as_slice() else { return None };
        let name = match name {
            Value::BulkString(name) if !name.is_empty() => String::from_utf8_lossy(name).into_owned(),
            // It does not know its own name.
            _ => host.to_owned(),
        };
        Some((number(from)?, number(to)?, format!("{name}:{}", number(port)?)))
    };
    ranges.iter().filter_map(range).collect()
}

/// The slot of all keys with this tag: the CRC16 (XMODEM) of what stands in their names' braces, by the cluster's
/// specification.
fn slot(tag: u16) -> u16 {
    let mut crc = 0_u16;
    for byte in format!("{tag:04x}").bytes() {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // As `redis-cli cluster keyslot 0000` and so on answer.
        assert_eq!([slot(0), slot(0xffff), slot(0x3fa2)], [6794, 14956, 12532]);
    }
}
