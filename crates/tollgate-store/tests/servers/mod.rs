//! Real servers for tests: each started for one test, and stopped with it.

// No test file uses all of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A directory of its own, which is removed with it.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn directory(&self) -> &Path {
        &self.0
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("redis.sock")
    }

    /// Where a server is, or will be.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A Redis server without a port, on a socket.
pub(crate) struct Redis {
    process: Child,
    socket: PathBuf,
    /// Its own place, if it has one.
    place: Option<Place>,
}

impl Redis {
    /// A place where there is no server.
    pub(crate) fn nowhere() -> Place {
        let directory = std::env::temp_dir().join(format!("tollgate-redis-{:x}", unique()));
        std::fs::create_dir_all(&directory).unwrap();
        Place(directory)
    }

    /// Starts one with these further settings, and waits until it answers.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let place = Self::nowhere();
        let mut redis = Self::start_at(&place, settings);
        redis.place = Some(place);
        redis
    }

    /// The same at a place.
    pub(crate) fn start_at(place: &Place, settings: &[&str]) -> Self {
        let process = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "no"])
            .args(settings)
            .current_dir(&place.0)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("redis-server: {error}; install it with `apt-get install redis-server`")
            });
        let redis = Self { process, socket: place.socket(), place: None };
        let patience = Instant::now() + Duration::from_secs(10);
        while std::os::unix::net::UnixStream::connect(&redis.socket).is_err() {
            assert!(Instant::now() < patience, "redis-server does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        redis
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Lets it hang: it keeps its connections, and does nothing.
    pub(crate) fn stop(&self) {
        signal(&self.process, "STOP");
    }

    /// Lets it go on after that.
    pub(crate) fn go_on(&self) {
        signal(&self.process, "CONT");
    }

    /// Runs a command by redis-cli, and returns what it prints.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli").arg("-s").arg(&self.socket).args(command).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Also one that is stopped.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn signal(process: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(process.id().to_string()).status().unwrap();
    assert!(status.success());
}

/// One of several servers, on a port.
pub(crate) struct Member {
    port: u16,
    process: Child,
    arguments: Vec<String>,
    directory: PathBuf,
}

impl Member {
    pub(crate) fn start(port: u16, directory: &Path, arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let process = Self::process(directory, &arguments);
        let member = Self { port, process, arguments, directory: directory.to_owned() };
        until_it_listens(port);
        member
    }

    fn process(directory: &Path, arguments: &[String]) -> Child {
        Command::new("redis-server")
            .args(arguments)
            .current_dir(directory)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("redis-server: {error}; install it with `apt-get install redis-server`")
            })
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as a machine ends that loses its power.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again after that, as it was started first.
    pub(crate) fn start_again(&mut self) {
        self.process = Self::process(&self.directory, &self.arguments);
        until_it_listens(self.port);
    }

    /// Lets it hang: it keeps its connections, and does nothing.
    pub(crate) fn stop(&self) {
        signal(&self.process, "STOP");
    }

    /// Lets it go on after that.
    pub(crate) fn go_on(&self) {
        signal(&self.process, "CONT");
    }

    /// Runs a command by redis-cli, and returns what it prints.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        ask_port(self.port, command)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Also one that is stopped.
        self.kill();
    }
}

/// Servers of which the one that decides may change.
pub(crate) trait Pack {
    /// Where they are.
    fn url(&self) -> String;

    /// All that hold data.
    fn members(&mut self) -> &mut [Member];

    /// Which of them decide now.
    fn primaries(&self) -> Vec<u16>;

    /// Has a replica take over from one of those, which goes on as a replica.
    fn fail_over(&self, port: u16);

    /// Moves a thousand slots with their keys from one server to another, where there are slots. Returns whether that
    /// was done.
    fn move_slots(&self) -> bool;
}

/// A primary, two replicas, and three sentinels that watch them, on free ports.
pub(crate) struct Watched {
    servers: Vec<Member>,
    sentinels: Vec<Member>,
    place: Place,
}

impl Watched {
    /// The name that the sentinels know the service by.
    const SERVICE: &str = "limits";

    /// Starts them all. The first server is the primary.
    pub(crate) fn start() -> Self {
        let place = Redis::nowhere();
        let ports: Vec<u16> = free_ports(6);
        let primary = ports[0].to_string();
        let servers = ports[..3].iter().map(|port| {
            let number = port.to_string();
            let file = format!("{port}.rdb");
            let common = ["--port", &number, "--save", "", "--bind", "127.0.0.1", "--dbfilename", &file];
            let quick = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
            let follow = ["--replicaof", "127.0.0.1", &primary];
            let follow = if number == primary { &[][..] } else { &follow };
            Member::start(*port, &place.0, &[&common[..], &quick, follow].concat())
        });
        let servers: Vec<Member> = servers.collect();
        let sentinels = ports[3..].iter().map(|port| {
            let service = Self::SERVICE;
            let file = place.0.join(format!("{port}.conf"));
            let settings = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor {service} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {service} 500\nsentinel failover-timeout {service} 2000\n"
            );
            std::fs::write(&file, settings).unwrap();
            Member::start(*port, &place.0, &[file.to_str().unwrap(), "--sentinel"])
        });
        let sentinels: Vec<Member> = sentinels.collect();
        let watched = Self { servers, sentinels, place };
        // They have found each other, and both replicas.
        let patience = Instant::now() + Duration::from_secs(20);
        while !watched.sentinels.iter().all(|sentinel| {
            let known = sentinel.ask(&["sentinel", "master", Self::SERVICE]);
            let number =
                |name: &str| known.lines().skip_while(|line| *line != name).nth(1).map(str::to_owned);
            number("num-other-sentinels").as_deref() == Some("2")
                && number("num-slaves").as_deref() == Some("2")
        }) {
            assert!(Instant::now() < patience, "the sentinels do not find what they watch");
            thread::sleep(Duration::from_millis(20));
        }
        watched
    }

    /// Ends the primary as a machine would that loses its power.
    pub(crate) fn kill_primary(&mut self) {
        let port = self.primaries()[0];
        self.servers.iter_mut().find(|server| server.port == port).unwrap().kill();
    }
}

impl Pack for Watched {
    fn url(&self) -> String {
        let hosts: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{}", hosts.join(","), Self::SERVICE)
    }

    fn members(&mut self) -> &mut [Member] {
        &mut self.servers
    }

    fn primaries(&self) -> Vec<u16> {
        let address = self.sentinels[0].ask(&["sentinel", "get-master-addr-by-name", Self::SERVICE]);
        address.lines().nth(1).and_then(|port| port.parse().ok()).into_iter().collect()
    }

    fn fail_over(&self, _port: u16) {
        self.sentinels[0].ask(&["sentinel", "failover", Self::SERVICE]);
    }

    fn move_slots(&self) -> bool {
        false
    }
}

/// A cluster of three primaries with a replica each, on free ports.
pub(crate) struct Cluster {
    servers: Vec<Member>,
    _place: Place,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let place = Redis::nowhere();
        let ports = free_ports(12);
        // Each has a second port for the others.
        let start = |(port, bus): (&u16, &u16)| {
            let (number, bus, file) = (port.to_string(), bus.to_string(), format!("{port}.conf"));
            let data = format!("{port}.rdb");
            let common = ["--port", &number, "--cluster-port", &bus, "--bind", "127.0.0.1", "--save", ""];
            let cluster = ["--cluster-enabled", "yes", "--cluster-config-file", &file, "--dbfilename", &data];
            let quick = ["--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"];
            Member::start(*port, &place.0, &[&common[..], &cluster, &quick].concat())
        };
        let servers: Vec<Member> = ports[..6].iter().zip(&ports[6..]).map(start).collect();
        let cluster = Self { servers, _place: place };
        let members = [&cluster.addresses()[..], &["--cluster-replicas", "1"].map(str::to_owned)].concat();
        assert!(Self::manage("create", &members));
        let patience = Instant::now() + Duration::from_secs(30);
        let is_ready = |port: u16| {
            let (state, nodes) =
                (ask_port(port, &["cluster", "info"]), ask_port(port, &["cluster", "nodes"]));
            state.contains("cluster_state:ok") && nodes.matches("slave").count() == 3
        };
        while !cluster.servers.iter().all(|server| is_ready(server.port)) {
            assert!(Instant::now() < patience, "the cluster does not form");
            thread::sleep(Duration::from_millis(50));
        }
        cluster
    }

    fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect()
    }

    fn manage(what: &str, arguments: &[String]) -> bool {
        let output = Command::new("redis-cli")
            .args(["--cluster", what])
            .args(arguments)
            .arg("--cluster-yes")
            .output()
            .unwrap();
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        }
        output.status.success()
    }

    /// The identities of the primaries, and where they are.
    fn named_primaries(&self) -> Vec<(String, u16)> {
        let known = self.servers.iter().map(|server| server.ask(&["cluster", "nodes"]));
        let nodes = known.into_iter().find(|nodes| !nodes.is_empty()).unwrap();
        let primaries = nodes.lines().filter(|line| line.contains("master") && !line.contains("fail"));
        primaries
            .map(|line| {
                let mut words = line.split(' ');
                let (name, address) = (words.next().unwrap(), words.next().unwrap());
                let port = address.split('@').next().unwrap().rsplit(':').next().unwrap();
                (name.to_owned(), port.parse().unwrap())
            })
            .collect()
    }

    /// Ends a primary as a machine would that loses its power.
    pub(crate) fn kill_primary(&mut self) {
        let port = self.primaries().pop().unwrap();
        self.servers.iter_mut().find(|server| server.port == port).unwrap().kill();
    }

    /// How many keys there are, and how many of them without a time to live.
    pub(crate) fn audit(&self) -> (u64, u64) {
        let count = |line: &str, name: &str| -> u64 {
            let number = line.split(name).nth(1).unwrap().split(',').next().unwrap();
            number.trim().parse().unwrap()
        };
        let of = |port: u16| {
            ask_port(port, &["info", "keyspace"]).lines().find(|l| l.starts_with("db0")).map(str::to_owned)
        };
        let lines: Vec<String> = self.primaries().into_iter().filter_map(of).collect();
        let (keys, lasting) = lines
            .iter()
            .map(|line| (count(line, "keys="), count(line, "expires=")))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (keys, keys - lasting)
    }
}

impl Pack for Cluster {
    /// Two of its servers, who know the others.
    fn url(&self) -> String {
        format!("redis+cluster://{}", self.addresses()[..2].join(","))
    }

    fn members(&mut self) -> &mut [Member] {
        &mut self.servers
    }

    fn primaries(&self) -> Vec<u16> {
        self.named_primaries().into_iter().map(|(_, port)| port).collect()
    }

    fn fail_over(&self, port: u16) {
        let all = self.servers.iter().map(|server| server.ask(&["cluster", "nodes"]));
        let Some(nodes) = all.into_iter().find(|nodes| !nodes.is_empty()) else { return };
        let port_of = |line: &str| -> Option<u16> {
            line.split(' ').nth(1)?.split('@').next()?.rsplit(':').next()?.parse().ok()
        };
        let Some(name) =
            nodes.lines().find(|line| port_of(line) == Some(port)).and_then(|line| line.split(' ').next())
        else {
            return;
        };
        let replica =
            nodes.lines().find(|line| line.contains("slave") && line.contains(name)).and_then(port_of);
        if let Some(replica) = replica {
            ask_port(replica, &["cluster", "failover"]);
        }
    }

    fn move_slots(&self) -> bool {
        let primaries = self.named_primaries();
        let [(from, _), (to, _), ..] = &primaries[..] else { return false };
        let words = ["--cluster-from", from, "--cluster-to", to, "--cluster-slots", "1000"];
        Self::manage("reshard", &[&self.addresses()[..1], &words.map(str::to_owned)].concat())
    }
}

/// Who vouches for `localhost`, with its certificate.
pub(crate) struct Authority(Place);

impl Authority {
    pub(crate) fn new() -> Self {
        let place = Redis::nowhere();
        let make = |line: &str| {
            let output = Command::new("openssl").args(line.split_whitespace()).current_dir(&place.0).output();
            let output = output.unwrap_or_else(|error| {
                panic!("openssl: {error}; install it with `apt-get install openssl`")
            });
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        make(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=tests"));
        make(&format!("req {key} -keyout key.pem -out request.pem -subj /CN=localhost"));
        std::fs::write(place.0.join("names"), "subjectAltName=DNS:localhost").unwrap();
        make(
            "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out certificate.pem -days 2 -extfile names",
        );
        Self(place)
    }

    /// The files of the authority, of the certificate, and of its key.
    pub(crate) fn paths(&self) -> [String; 3] {
        ["ca.pem", "certificate.pem", "key.pem"].map(|name| self.0.0.join(name).display().to_string())
    }
}

/// Ports that were free a moment ago.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

pub(crate) fn until_it_listens(port: u16) {
    let patience = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < patience, "nothing listens on port {port}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn ask_port(port: u16, command: &[&str]) -> String {
    let output = Command::new("redis-cli").arg("-p").arg(port.to_string()).args(command).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A number that no other test has.
fn unique() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
