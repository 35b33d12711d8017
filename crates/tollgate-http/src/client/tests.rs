use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(name, value.parse().unwrap());
    }
    headers
}

fn proxies(header: ForwardingHeader) -> TrustedProxies {
    TrustedProxies::parse(["10.0.0.0/8", "fd00::/8"]).unwrap().with_header(header)
}

fn by_list(values: &[&str]) -> String {
    let headers = headers("x-forwarded-for", values);
    client_address(ip("10.0.0.1"), &headers, &proxies(ForwardingHeader::XForwardedFor)).to_string()
}

fn by_forwarded(values: &[&str]) -> String {
    let headers = headers("forwarded", values);
    client_address(ip("10.0.0.1"), &headers, &proxies(ForwardingHeader::Forwarded)).to_string()
}

#[test]
fn the_first_that_is_not_trusted_is_the_client() {
    for (values, client) in [
        (&["203.0.113.7"][..], "203.0.113.7"),
        (&["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
        (&["203.0.113.7, 10.0.0.3,10.0.0.2"], "203.0.113.7"),
        (&["1.1.1.1", "203.0.113.7", "10.0.0.2"], "203.0.113.7"),
        (&["garbage\"(, 203.0.113.7"], "203.0.113.7"),
        (&["203.0.113.7:4711"], "203.0.113.7"),
        (&["2001:db8::7"], "2001:db8::7"),
        (&["[2001:db8::7]"], "2001:db8::7"),
        (&["[2001:db8::7]:4711"], "2001:db8::7"),
        (&["::ffff:203.0.113.7"], "203.0.113.7"),
        (&["203.0.113.7, ::ffff:10.0.0.2"], "203.0.113.7"),
        (&["203.0.113.7,, ,"], "203.0.113.7"),
        (&["203.0.113.7", ""], "203.0.113.7"),
        // All are trusted: the request began with the first of them.
        (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        (&[], "10.0.0.1"),
        (&[""], "10.0.0.1"),
        // Nothing can be read there.
        (&["203.0.113.7, nonsense"], "10.0.0.1"),
        (&["nonsense, 10.0.0.2"], "10.0.0.1"),
        (&["203.0.113.7:port"], "10.0.0.1"),
        (&["203.0.113.7:123456"], "10.0.0.1"),
        (&["[2001:db8::7"], "10.0.0.1"),
        (&["[203.0.113.7]"], "10.0.0.1"),
        (&["fe80::1%eth0"], "10.0.0.1"),
        // The proxy hides its client.
        (&["unknown"], "10.0.0.1"),
        (&["203.0.113.7, Unknown, 10.0.0.2"], "10.0.0.2"),
    ] {
        assert_eq!(by_list(values), client, "{values:?}");
    }
}

#[test]
fn forwarded_is_read_as_rfc_7239_has_it() {
    for (values, client) in [
        (&["for=203.0.113.7"][..], "203.0.113.7"),
        (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
        (&["for=203.0.113.7;proto=http;by=203.0.113.43"], "203.0.113.7"),
        (&["proto=https ; FOR = \"203.0.113.7:80\" ;"], "203.0.113.7"),
        (&["for=1.1.1.1, for=203.0.113.7, for=10.0.0.2"], "203.0.113.7"),
        (&["for=1.1.1.1", "for=203.0.113.7, for=\"10.0.0.2:_port\""], "203.0.113.7"),
        (&["for=203.0.113.7;host=\"a,b;for=6.6.6.6\""], "203.0.113.7"),
        (&["for=203.0.113.7;host=\"a\\\", for=6.6.6.6\""], "203.0.113.7"),
        (&["for=203.0.113.7;host=\"a\\\\\", for=10.0.0.2"], "203.0.113.7"),
        (&["for=[2001:db8::1]"], "2001:db8::1"),
        // The client has left a quote open.
        (&["for=\"6.6.6.6, for=203.0.113.7"], "203.0.113.7"),
        (&["host=\"", "for=203.0.113.7"], "203.0.113.7"),
        // Somebody is hidden.
        (&["for=_hidden"], "10.0.0.1"),
        (&["for=203.0.113.7, for=unknown, for=10.0.0.2"], "10.0.0.2"),
        (&["for=203.0.113.7, proto=https"], "10.0.0.1"),
        // Nothing can be read there.
        (&["203.0.113.7"], "10.0.0.1"),
        (&["for=\"203.0.113.7"], "10.0.0.1"),
        (&["for=\""], "10.0.0.1"),
        (&["for="], "10.0.0.1"),
        (&["for=203.0.113.7;for=6.6.6.6"], "10.0.0.1"),
        (&["for=\"203.0.113.7\\\""], "10.0.0.1"),
    ] {
        assert_eq!(by_forwarded(values), client, "{values:?}");
    }
}

#[test]
fn only_the_header_that_is_configured_counts() {
    let mut both = headers("x-forwarded-for", &["1.1.1.1"]);
    both.insert("forwarded", "for=2.2.2.2".parse().unwrap());
    let peer = ip("10.0.0.1");
    for (header, client) in
        [(ForwardingHeader::XForwardedFor, "1.1.1.1"), (ForwardingHeader::Forwarded, "2.2.2.2")]
    {
        assert_eq!(client_address(peer, &both, &proxies(header)), ip(client));
    }
    both.remove("forwarded");
    assert_eq!(client_address(peer, &both, &proxies(ForwardingHeader::Forwarded)), peer);
}

#[test]
fn what_a_client_piles_up_does_not_hide_it() {
    let pile = "6.6.6.6, ".repeat(100_000);
    assert_eq!(by_list(&[&pile, "203.0.113.7"]), "203.0.113.7");
    assert_eq!(by_list(&[&format!("{pile}203.0.113.7, 10.0.0.2")]), "203.0.113.7");
    assert_eq!(by_list(&[&",".repeat(1 << 20)]), "10.0.0.1");
    assert_eq!(by_forwarded(&[&format!("{}, for=203.0.113.7", "\"".repeat(1 << 20))]), "203.0.113.7");
}

#[test]
fn trusted_hops_have_an_end() {
    let hops = |count: usize| by_list(&[&format!("203.0.113.7{}", ", 10.0.0.2".repeat(count))]);
    assert_eq!(hops(31), "203.0.113.7");
    assert_eq!(hops(32), "10.0.0.1");
    // The last byte that is looked at is the first of `203.0.113.7`, or the second.
    let padded = |spaces: usize| format!("203.0.113.7,{}10.0.0.2", " ".repeat(spaces));
    let room = BYTES_MAX - "203.0.113.7,10.0.0.2".len();
    assert_eq!(by_list(&[&padded(room)]), "203.0.113.7");
    assert_eq!(by_list(&[&padded(room + 1)]), "10.0.0.1");
    // Exactly full of trusted hops, with more in another line.
    let full = format!("{}10.0.0.2", " ".repeat(BYTES_MAX - 8));
    assert_eq!(by_list(&["203.0.113.7", &full]), "10.0.0.1");
}

#[test]
fn a_peer_is_trusted_in_every_notation() {
    let headers = headers("x-forwarded-for", &["203.0.113.7"]);
    for network in ["10.0.0.0/8", "::ffff:10.0.0.0/104", "10.0.0.1", "::ffff:10.0.0.1"] {
        let proxies = TrustedProxies::parse([network]).unwrap();
        for peer in ["10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1"] {
            assert_eq!(client_address(ip(peer), &headers, &proxies), ip("203.0.113.7"), "{network} {peer}");
        }
        assert_eq!(client_address(ip("::ffff:11.0.0.1"), &headers, &proxies), ip("11.0.0.1"));
    }
}

#[test]
fn wrong_networks_are_refused_with_advice() {
    for text in ["", "10.0.0.0/33", "proxy.internal", "10.0.0"] {
        let error = TrustedProxies::parse([text]).unwrap_err();
        assert!(error.to_string().contains("write `10.0.0.0/8`"), "{error}");
    }
    for text in ["0.0.0.0/0", "::/0", "::ffff:0:0/96"] {
        assert!(matches!(TrustedProxies::parse([text]), Err(ProxyError::Everyone(_))), "{text}");
    }
    let long = "x".repeat(1 << 20);
    assert!(TrustedProxies::parse([long]).unwrap_err().to_string().len() < 200);
}

/// Steele, Lea and Flood's SplitMix64: the same texts in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap() % bound
    }

    fn value(&mut self) -> Vec<u8> {
        const PIECES: [&[u8]; 22] = [
            b"for=",
            b"For=\"",
            b"\"",
            b"\\\"",
            b"\\",
            b",",
            b", ",
            b";",
            b"[",
            b"]",
            b":80",
            b"_x",
            b"unknown",
            b"10.0.0.9",
            b"203.0.113.7",
            b"2001:db8::1",
            b"fd00::1",
            b"=",
            b"\xff",
            b"by=x",
            b"\t",
            b"::",
        ];
        let length = self.below(24);
        (0..length).flat_map(|_| PIECES[self.below(PIECES.len())]).copied().collect()
    }
}

#[test]
fn no_header_moves_an_untrusted_peer_or_hides_a_client() {
    let mut random = Random(7);
    let (stranger, proxy, client) = (ip("198.51.100.1"), ip("10.0.0.1"), ip("198.51.100.2"));
    for _ in 0..20_000 {
        let mut made_up = HeaderMap::new();
        for name in ["x-forwarded-for", "forwarded"] {
            for _ in 0..random.below(4) {
                made_up.append(name, http::HeaderValue::from_bytes(&random.value()).unwrap());
            }
        }
        for header in [ForwardingHeader::XForwardedFor, ForwardingHeader::Forwarded] {
            assert_eq!(client_address(stranger, &made_up, &proxies(header)), stranger, "{made_up:?}");
            // Whatever this gives, it does not panic.
            client_address(proxy, &made_up, &proxies(header));
        }
        // The proxy adds its line, or its entry to the last line, which it cannot do after an open quote.
        made_up.append("x-forwarded-for", "198.51.100.2".parse().unwrap());
        made_up.append("forwarded", "for=198.51.100.2;host=\"x\\\"y\"".parse().unwrap());
        for header in [ForwardingHeader::XForwardedFor, ForwardingHeader::Forwarded] {
            assert_eq!(client_address(proxy, &made_up, &proxies(header)), client, "{made_up:?}");
        }
        for (header, name, entry) in [
            (ForwardingHeader::XForwardedFor, "x-forwarded-for", &b", 198.51.100.2"[..]),
            (ForwardingHeader::Forwarded, "forwarded", b", for=198.51.100.2"),
        ] {
            let joined = [&random.value(), entry].concat();
            let mut one = HeaderMap::new();
            one.insert(name, http::HeaderValue::from_bytes(&joined).unwrap());
            assert_eq!(client_address(proxy, &one, &proxies(header)), client, "{one:?}");
        }
    }
}
