//! What is done to the servers, and undone.

use std::time::{Duration, Instant};

use crate::servers::{Member, Pack};

/// Numbers that look random, the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below another.
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % most.max(1)
    }

    /// A fault that is not the last one again.
    pub(crate) fn fault(&mut self, on_cluster: bool, last: Option<Fault>) -> Fault {
        loop {
            let fault = Fault::ALL[self.below(Fault::ALL.len())];
            if Some(fault) != last && (on_cluster || !fault.is_for_clusters()) {
                return fault;
            }
        }
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A primary ends as a machine does that loses its power.
    Kill,
    /// A primary hangs, and keeps its connections: to its clients, a black hole.
    Hang,
    /// All connections of clients are cut.
    Cut,
    /// They are cut again and again, so that what was answered is often not heard.
    Lose,
    /// All servers hold their answers back for a second.
    Late,
    /// All servers forget the scripts.
    ForgetScripts,
    /// All servers forget all keys.
    ForgetKeys,
    /// A replica takes over.
    FailOver,
    /// A thousand slots move to another server.
    MoveSlots,
    /// All servers refuse to write, as their memory is full.
    Full,
    /// All servers ask for a password that nobody has.
    Locked,
}

impl Fault {
    const ALL: [Self; 11] = [
        Self::Kill,
        Self::Hang,
        Self::Cut,
        Self::Lose,
        Self::Late,
        Self::ForgetScripts,
        Self::ForgetKeys,
        Self::FailOver,
        Self::MoveSlots,
        Self::Full,
        Self::Locked,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "a primary is killed",
            Self::Hang => "a primary hangs",
            Self::Cut => "connections are cut",
            Self::Lose => "answers are lost",
            Self::Late => "answers are late",
            Self::ForgetScripts => "scripts are forgotten",
            Self::ForgetKeys => "keys are forgotten",
            Self::FailOver => "a replica takes over",
            Self::MoveSlots => "slots move",
            Self::Full => "memory is full",
            Self::Locked => "the password is another",
        }
    }

    /// Sentinels would take a server that asks for a password for one that is dead.
    const fn is_for_clusters(self) -> bool {
        matches!(self, Self::MoveSlots | Self::Locked)
    }

    /// Whether what was spent may be forgotten.
    pub(crate) const fn loses_state(self) -> bool {
        // A hanging or late primary is deposed, and what it was told last is lost.
        matches!(self, Self::Kill | Self::Hang | Self::Late | Self::ForgetKeys | Self::FailOver)
    }

    /// How long it lasts, where something happens every so often.
    pub(crate) fn lasts(self, every: Duration) -> Duration {
        match self {
            Self::Cut
            | Self::Lose
            | Self::ForgetScripts
            | Self::ForgetKeys
            | Self::FailOver
            | Self::MoveSlots => Duration::ZERO,
            Self::Late => Duration::from_secs(1),
            _ => every / 4,
        }
    }
}

/// Cuts the connections of clients.
const CUT: [&str; 4] = ["client", "kill", "type", "normal"];

/// For how long answers are lost.
const LOSING: Duration = Duration::from_secs(1);

/// A fault that is under way.
pub(crate) struct Broken {
    fault: Fault,
    /// Whom it was done to, if that is one.
    port: u16,
}

impl Broken {
    pub(crate) fn by(fault: Fault, pack: &mut dyn Pack, dice: &mut Dice) -> Self {
        let primaries = pack.primaries();
        let port = primaries.get(dice.below(primaries.len())).copied().unwrap_or(0);
        match fault {
            Fault::Kill => one(pack, port, Member::kill),
            Fault::Hang => one(pack, port, |member| member.stop()),
            Fault::Cut => all(pack, &CUT),
            Fault::Lose => {
                let began = Instant::now();
                while began.elapsed() < LOSING {
                    all(pack, &CUT);
                }
            }
            // It holds back all clients, those that replicate but not those on the cluster's own way.
            Fault::Late => all(pack, &["client", "pause", "1000", "all"]),
            Fault::ForgetScripts => all(pack, &["script", "flush"]),
            Fault::ForgetKeys => all(pack, &["flushall"]),
            Fault::FailOver => pack.fail_over(port),
            Fault::MoveSlots => {
                // A server that is missing may hinder it.
                pack.move_slots();
            }
            Fault::Full => all(pack, &["config", "set", "maxmemory", "1"]),
            Fault::Locked => {
                all(pack, &["config", "set", "requirepass", "nobody-knows"]);
                // Who is in already would stay.
                all(pack, &[&["-a", "nobody-knows"][..], &CUT].concat());
            }
        }
        Self { fault, port }
    }

    pub(crate) fn mend(self, pack: &mut dyn Pack) {
        /// How often a server is told something that it may be too busy to hear.
        const TRIES: u32 = 20;

        match self.fault {
            Fault::Kill => one(pack, self.port, Member::start_again),
            Fault::Hang => one(pack, self.port, |member| member.go_on()),
            Fault::Full => all(pack, &["config", "set", "maxmemory", "0"]),
            Fault::Locked => {
                for member in pack.members() {
                    // One that stayed locked would lock everybody out once it takes over.
                    let opened = (0..TRIES).any(|_| {
                        member.ask(&["-a", "nobody-knows", "config", "set", "requirepass", ""]);
                        member.ask(&["ping"]) == "PONG"
                    });
                    assert!(opened, "the server on port {} stays locked", member.port());
                }
            }
            _ => {}
        }
    }
}

fn one(pack: &mut dyn Pack, port: u16, what: impl FnOnce(&mut Member)) {
    if let Some(member) = pack.members().iter_mut().find(|member| member.port() == port) {
        what(member);
    }
}

/// Replicas refuse some of it, which does no harm.
fn all(pack: &mut dyn Pack, command: &[&str]) {
    for member in pack.members() {
        member.ask(command);
    }
}
