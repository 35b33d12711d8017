//! Real servers for tests: each started for one test, and stopped with it.

// No test file uses all of it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A directory of its own, which is removed with it.
pub(crate) struct Place(PathBuf);

impl Place {
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
        self.signal("STOP");
    }

    /// Lets it go on after that.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status().unwrap();
        assert!(status.success());
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

/// A primary, two replicas, and three sentinels that watch them, on free ports.
pub(crate) struct Watched {
    servers: Vec<(u16, Child)>,
    sentinels: Vec<(u16, Child)>,
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
        let start = |arguments: &[&str]| {
            Command::new("redis-server")
                .args(arguments)
                .current_dir(&place.0)
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        };
        let servers = ports[..3].iter().map(|port| {
            let number = port.to_string();
            let file = format!("{port}.rdb");
            let common = ["--port", &number, "--save", "", "--bind", "127.0.0.1", "--dbfilename", &file];
            let quick = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
            let follow = ["--replicaof", "127.0.0.1", &primary];
            let follow = if number == primary { &[][..] } else { &follow };
            (*port, start(&[&common[..], &quick, follow].concat()))
        });
        let servers: Vec<(u16, Child)> = servers.collect();
        for (port, _) in &servers {
            until_it_listens(*port);
        }
        let sentinels = ports[3..].iter().map(|port| {
            let service = Self::SERVICE;
            let file = place.0.join(format!("{port}.conf"));
            let settings = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor {service} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {service} 500\nsentinel failover-timeout {service} 2000\n"
            );
            std::fs::write(&file, settings).unwrap();
            (*port, start(&[file.to_str().unwrap(), "--sentinel"]))
        });
        let sentinels: Vec<(u16, Child)> = sentinels.collect();
        for (port, _) in &sentinels {
            until_it_listens(*port);
        }
        let watched = Self { servers, sentinels, place };
        // They have found each other, and both replicas.
        let patience = Instant::now() + Duration::from_secs(20);
        while !watched.sentinels.iter().all(|(port, _)| {
            let known = ask_port(*port, &["sentinel", "master", Self::SERVICE]);
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

    /// Where they are.
    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/{}", hosts.join(","), Self::SERVICE)
    }

    /// Ends the primary as a machine would that loses its power.
    pub(crate) fn kill_primary(&mut self) {
        let address = ask_port(self.sentinels[0].0, &["sentinel", "get-master-addr-by-name", Self::SERVICE]);
        let port: u16 = address.lines().nth(1).unwrap().parse().unwrap();
        let (_, primary) = self.servers.iter_mut().find(|(other, _)| *other == port).unwrap();
        primary.kill().unwrap();
        primary.wait().unwrap();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        for (_, process) in self.sentinels.iter_mut().chain(&mut self.servers) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A cluster of three primaries with a replica each, on free ports.
pub(crate) struct Cluster {
    servers: Vec<(u16, Child)>,
    _place: Place,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let place = Redis::nowhere();
        let ports = free_ports(12);
        // Each has a second port for the others.
        let start = |(port, bus): (&u16, &u16)| {
            let (number, bus, file) = (port.to_string(), bus.to_string(), format!("{port}.conf"));
            let process = Command::new("redis-server")
                .args(["--port", &number, "--cluster-port", &bus, "--bind", "127.0.0.1", "--save", ""])
                .args(["--cluster-enabled", "yes", "--cluster-config-file", &file])
                .args(["--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"])
                .args(["--dbfilename", &format!("{port}.rdb")])
                .current_dir(&place.0)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            until_it_listens(*port);
            (*port, process)
        };
        let servers: Vec<(u16, Child)> = ports[..6].iter().zip(&ports[6..]).map(start).collect();
        let cluster = Self { servers, _place: place };
        Self::manage(
            "create",
            &[&cluster.addresses()[..], &["--cluster-replicas", "1"].map(str::to_owned)].concat(),
        );
        let patience = Instant::now() + Duration::from_secs(30);
        let is_ready = |port: u16| {
            let (state, nodes) =
                (ask_port(port, &["cluster", "info"]), ask_port(port, &["cluster", "nodes"]));
            state.contains("cluster_state:ok") && nodes.matches("slave").count() == 3
        };
        while !cluster.servers.iter().all(|(port, _)| is_ready(*port)) {
            assert!(Instant::now() < patience, "the cluster does not form");
            thread::sleep(Duration::from_millis(50));
        }
        cluster
    }

    fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect()
    }

    fn manage(what: &str, arguments: &[String]) {
        let output = Command::new("redis-cli")
            .args(["--cluster", what])
            .args(arguments)
            .arg("--cluster-yes")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Where it is: two of its servers, who know the others.
    pub(crate) fn url(&self) -> String {
        format!("redis+cluster://{}", self.addresses()[..2].join(","))
    }

    /// The identities of the primaries, and where they are.
    fn primaries(&self) -> Vec<(String, u16)> {
        let known = self.servers.iter().map(|(port, _)| ask_port(*port, &["cluster", "nodes"]));
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

    /// Moves a thousand slots with their keys from one server to another.
    pub(crate) fn move_slots(&self) {
        let primaries = self.primaries();
        let words =
            ["--cluster-from", &primaries[0].0, "--cluster-to", &primaries[1].0, "--cluster-slots", "1000"];
        Self::manage("reshard", &[&self.addresses()[..1], &words.map(str::to_owned)].concat());
    }

    /// Ends a primary as a machine would that loses its power.
    pub(crate) fn kill_primary(&mut self) {
        let (_, port) = self.primaries().pop().unwrap();
        let (_, primary) = self.servers.iter_mut().find(|(other, _)| *other == port).unwrap();
        primary.kill().unwrap();
        primary.wait().unwrap();
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
        let lines: Vec<String> = self.primaries().iter().filter_map(|(_, port)| of(*port)).collect();
        let (keys, lasting) = lines
            .iter()
            .map(|line| (count(line, "keys="), count(line, "expires=")))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (keys, keys - lasting)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, process) in &mut self.servers {
            let _ = process.kill();
            let _ = process.wait();
        }
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
