//! Client addresses as limits count them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// The address in its plain form: an IPv4 address that is wrapped in an IPv6 one (`::ffff:0:0/96`, RFC 4291, or NAT64's
/// `64:ff9b::/96`, RFC 6052) is unwrapped. Told by the bits, so every notation of an address is one client.
///
/// ```
/// use std::net::IpAddr;
/// let mapped: IpAddr = "::ffff:203.0.113.7".parse()?;
/// assert_eq!(tollgate_policy::canonical(mapped), "203.0.113.7".parse::<IpAddr>()?);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[must_use]
#[inline]
pub fn canonical(address: IpAddr) -> IpAddr {
    const MAPPED: u128 = 0xffff;
    const NAT64: u128 = 0x0064_ff9b << 64;
    let IpAddr::V6(v6) = address else { return address };
    match v6.to_bits() >> 32 {
        MAPPED | NAT64 => {
            // The low 32 bits.
            #[allow(clippy::cast_possible_truncation)]
            let low = v6.to_bits() as u32;
            IpAddr::V4(Ipv4Addr::from_bits(low))
        }
        _ => address,
    }
}

/// The first address of the network that a canonical address belongs to, for networks of these prefixes.
#[must_use]
#[inline]
pub fn network(address: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> IpAddr {
    match canonical(address) {
        IpAddr::V4(v4) => {
            let host_bits = 32 - u32::from(ipv4_prefix.min(32));
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)))
        }
        IpAddr::V6(v6) => {
            let host_bits = 128 - u32::from(ipv6_prefix.min(128));
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)))
        }
    }
}

/// Networks and single addresses. An IPv4 address and the same within an IPv6 one are alike.
///
/// However many there are, an address is looked up in a few steps.
///
/// ```
/// use tollgate_policy::Networks;
///
/// let own = Networks::parse(["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"])?;
/// assert!(own.contains("::ffff:10.1.2.3".parse().unwrap()));
/// # Ok::<(), tollgate_policy::NetworkError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    networks: Vec<IpNet>,
    /// From the first to the last address of what they cover, in order and apart from each other.
    ranges: Vec<(IpAddr, IpAddr)>,
}

/// A text that is neither an address nor a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address or a network; write `10.0.0.0/8`, `fd00::/8` or `192.0.2.1`")]
pub struct NetworkError(String);

impl Networks {
    /// None.
    pub const fn none() -> Self {
        Self { networks: Vec::new(), ranges: Vec::new() }
    }

    /// These.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let networks: Vec<IpNet> = networks.into_iter().map(plain).collect();
        let mut ranges: Vec<(IpAddr, IpAddr)> = IpNet::aggregate(&networks)
            .iter()
            .map(|network| (network.network(), network.broadcast()))
            .collect();
        ranges.sort_unstable();
        Self { networks, ranges }
    }

    /// The networks and addresses of these texts.
    ///
    /// # Errors
    /// If one of them is no network.
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, NetworkError> {
        let parsed = texts.into_iter().map(|text| {
            let text = text.as_ref().trim();
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| NetworkError(text.chars().take(60).collect()))
        });
        parsed.collect::<Result<Vec<_>, _>>().map(Self::new)
    }

    /// All of them, as they were given.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.networks.iter().copied()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether one of them holds this address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        let after = self.ranges.partition_point(|(first, _)| *first <= address);
        after.checked_sub(1).is_some_and(|at| address <= self.ranges[at].1)
    }
}

/// The network as canonical addresses are in it: one of IPv4-mapped addresses becomes one of IPv4 addresses.
fn plain(network: IpNet) -> IpNet {
    let mapped = match (canonical(network.network()), network) {
        (IpAddr::V4(v4), IpNet::V6(v6)) => {
            v6.prefix_len().checked_sub(96).and_then(|prefix| Ipv4Net::new(v4, prefix).ok())
        }
        _ => None,
    };
    mapped.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_among_many_networks() {
        let texts = [
            "10.0.0.0/8",
            "10.2.0.0/16",
            "192.0.2.1",
            "192.0.2.2/32",
            "2001:db8::/32",
            "::1",
            "198.51.100.77/24",
        ];
        let networks = Networks::parse(texts).unwrap();
        for (address, is_in) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.1", true),
            ("192.0.2.2", true),
            ("192.0.2.3", false),
            ("198.51.100.1", true),
            ("::ffff:10.1.2.3", true),
            ("64:ff9b::a01:203", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
            ("::1", true),
            ("::2", false),
            ("0.0.0.1", false),
        ] {
            assert_eq!(networks.contains(address.parse().unwrap()), is_in, "{address}");
        }
        assert!(!Networks::none().contains("10.0.0.1".parse().unwrap()));
        assert!(Networks::parse(["0.0.0.0/0"]).unwrap().contains("203.0.113.7".parse().unwrap()));
        assert!(!Networks::parse(["0.0.0.0/0"]).unwrap().contains("::1".parse().unwrap()));
        assert_eq!(networks.iter().count(), texts.len());
    }

    #[test]
    fn one_client_in_every_notation() {
        let plain: IpAddr = "192.0.2.33".parse().unwrap();
        for notation in
            ["192.0.2.33", "::ffff:192.0.2.33", "::ffff:c000:221", "64:ff9b::192.0.2.33", "64:ff9b::c000:221"]
        {
            assert_eq!(canonical(notation.parse().unwrap()), plain, "{notation}");
        }
        for other in ["::192.0.2.33", "64:ff9b:1::c000:221", "2001:db8::c000:221"] {
            assert!(canonical(other.parse().unwrap()).is_ipv6(), "{other}");
        }
    }

    #[test]
    fn a_network_is_one_client() {
        let net = |address: &str, v4, v6| network(address.parse().unwrap(), v4, v6).to_string();
        assert_eq!(net("2001:db8:1:2:3:4:5:6", 32, 64), "2001:db8:1:2::");
        assert_eq!(net("2001:db8:1:2:3:4:5:6", 32, 128), "2001:db8:1:2:3:4:5:6");
        assert_eq!(net("203.0.113.7", 24, 64), "203.0.113.0");
        assert_eq!(net("::ffff:203.0.113.7", 32, 64), "203.0.113.7");
        assert_eq!((net("203.0.113.7", 0, 0), net("2001:db8::1", 0, 0)), ("0.0.0.0".into(), "::".into()));
    }
}
