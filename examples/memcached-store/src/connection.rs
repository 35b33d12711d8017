//! Memcached's text protocol, as far as the store speaks it, and connections that are used again.
//!
//! Four commands of a protocol of lines take one file. Of the clients for Tokio, one calls its asynchronous part an
//! experiment, and another knows compare-and-swap as raw flags only; and what matters most is the caller's in any case:
//! a connection on which a call was given up half-way is never used again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tollgate::StoreError;

/// The longest value that is read: Memcached's own bound, unless it is told otherwise.
const VALUE_MAX: usize = 1 << 20;

/// The longest line that is read.
const LINE_MAX: u64 = 1_024;

/// What a key holds, and the number by which Memcached knows whether it changed.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) value: Vec<u8>,
    pub(crate) unique: u64,
}

/// A connection on which no answer is outstanding.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(address: &str) -> Result<Self, StoreError> {
        let stream = TcpStream::connect(address).await.map_err(away)?;
        stream.set_nodelay(true).map_err(away)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// What these keys hold; those that hold nothing are missing.
    pub(crate) async fn gets(&mut self, keys: &[String]) -> Result<HashMap<String, Item>, StoreError> {
        self.send(format!("gets {}\r\n", keys.join(" ")).as_bytes()).await?;
        let mut items = HashMap::new();
        loop {
            let line = self.line().await?;
            if line == "END" {
                return Ok(items);
            }
            let mut words = line.split(' ');
            let mut number = |index: usize| words.nth(index)?.parse::<u64>().ok();
            // VALUE <key> <flags> <bytes> <unique>
            let (length, unique) = (number(3), number(0));
            let (true, Some(length), Some(unique)) = (line.starts_with("VALUE "), length, unique) else {
                return Err(refused(&line));
            };
            let length = usize::try_from(length).ok().filter(|length| *length <= VALUE_MAX);
            let mut value = vec![0; length.ok_or_else(|| refused(&line))? + 2];
            self.0.read_exact(&mut value).await.map_err(away)?;
            value.truncate(value.len() - 2);
            let key = line.split(' ').nth(1).unwrap_or_default().to_owned();
            items.insert(key, Item { value, unique });
        }
    }

    /// Writes a key, if it still is what it was: the item of this number, or none. Returns whether it was.
    pub(crate) async fn swap(
        &mut self,
        key: &str,
        was: Option<u64>,
        value: &str,
        expires: u64,
    ) -> Result<bool, StoreError> {
        let length = value.len();
        let command = match was {
            Some(unique) => format!("cas {key} 0 {expires} {length} {unique}\r\n{value}\r\n"),
            None => format!("add {key} 0 {expires} {length}\r\n{value}\r\n"),
        };
        self.send(command.as_bytes()).await?;
        match self.line().await?.as_str() {
            "STORED" => Ok(true),
            "EXISTS" | "NOT_FOUND" | "NOT_STORED" => Ok(false),
            other => Err(refused(other)),
        }
    }

    /// Removes a key, if it is there.
    pub(crate) async fn delete(&mut self, key: &str) -> Result<(), StoreError> {
        self.send(format!("delete {key}\r\n").as_bytes()).await?;
        match self.line().await?.as_str() {
            "DELETED" | "NOT_FOUND" => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// Asks for a sign of life.
    pub(crate) async fn version(&mut self) -> Result<(), StoreError> {
        self.send(b"version\r\n").await?;
        let line = self.line().await?;
        if line.starts_with("VERSION ") { Ok(()) } else { Err(refused(&line)) }
    }

    async fn send(&mut self, command: &[u8]) -> Result<(), StoreError> {
        self.0.get_mut().write_all(command).await.map_err(away)
    }

    async fn line(&mut self) -> Result<String, StoreError> {
        let mut line = Vec::new();
        (&mut self.0).take(LINE_MAX).read_until(b'\n', &mut line).await.map_err(away)?;
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
            None if line.is_empty() => Err(StoreError::Unavailable("it closed the connection".to_owned())),
            None => Err(refused(&String::from_utf8_lossy(&line))),
        }
    }
}

// By value, as `map_err` hands it.
#[allow(clippy::needless_pass_by_value)]
fn away(error: std::io::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// An answer that is none. What Memcached says of itself may pass (it is out of memory, it shuts down); what it says of the
/// command does not.
fn refused(line: &str) -> StoreError {
    let said = format!("memcached said {line:?}");
    if line.starts_with("SERVER_ERROR") { StoreError::Unavailable(said) } else { StoreError::Defect(said) }
}

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct Pool {
    address: String,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

/// A connection on loan. It is closed when this is dropped, unless it is [put back](Self::put_back).
#[derive(Debug)]
pub(crate) struct Loan<'p> {
    pub(crate) connection: Connection,
    pool: &'p Pool,
    _permit: SemaphorePermit<'p>,
}

impl Pool {
    pub(crate) fn new(address: String, connections: usize) -> Self {
        Self { address, idle: Mutex::default(), permits: Semaphore::new(connections.max(1)) }
    }

    /// A connection that nobody else uses.
    pub(crate) async fn connection(&self) -> Result<Loan<'_>, StoreError> {
        let closed = |_| StoreError::Defect("the pool is closed".to_owned());
        let permit = self.permits.acquire().await.map_err(closed)?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => Connection::open(&self.address).await?,
        };
        Ok(Loan { connection, pool: self, _permit: permit })
    }

    /// Forgets all connections that nobody uses: the server that they led to may be gone.
    pub(crate) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Loan<'_> {
    /// Keeps the connection for others. To be called when the last answer has come whole.
    pub(crate) fn put_back(self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}
