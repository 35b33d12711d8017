//! Client addresses as limits count them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

#[cfg(test)]
mod tests {
    use super::*;

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
