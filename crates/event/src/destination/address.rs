//! Which addresses may be dialled: what the IANA special-purpose registries list as not globally
//! reachable is denied, and with it multicast, everything outside 2000::/3, and platform addresses that look public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv6Net};

/// What was decided about an address, with a stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow(&'static str),
    Deny(&'static str),
}

impl Verdict {
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Allow(_))
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::Allow(reason) | Self::Deny(reason) => reason,
        }
    }
}

/// A prefix that a NAT64 of the operator's translates (RFC 6052): 32, 40, 48, 56, 64 or 96 bits long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat64Prefix(Ipv6Net);

/// Not a prefix that RFC 6052 allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a NAT64 prefix: an IPv6 network of 32, 40, 48, 56, 64 or 96 bits")]
pub struct BadPrefix(pub String);

impl FromStr for Nat64Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        match text.parse::<Ipv6Net>() {
            Ok(net) if [32, 40, 48, 56, 64, 96].contains(&net.prefix_len()) => Ok(Self(net.trunc())),
            _ => Err(BadPrefix(text.to_owned())),
        }
    }
}

impl Nat64Prefix {
    const WELL_KNOWN: Self = Self(v6net(0x0064_ff9b, 0, 0, 0, 96));

    fn contains(self, address: Ipv6Addr) -> bool {
        self.0.contains(&address)
    }

    /// The IPv4 address inside an address of this prefix. Bits 64 to 71 are not part of it and must be zero (RFC 6052
    /// section 2.2): what a translator does with others is its own affair, so they are `None`.
    fn embedded(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let bits = u128::from(address);
        let length = u32::from(self.0.prefix_len());
        let inside = if length == 96 {
            bits
        } else {
            if (bits >> 56) & 0xff != 0 {
                return None;
            }
            // The address without its u-octet: 120 bits, of which the 32 after the prefix are the IPv4 address.
            let closed = ((bits >> 64) << 56) | (bits & ((1 << 56) - 1));
            closed >> (120 - length - 32)
        };
        Some(Ipv4Addr::from(u32::try_from(inside & 0xffff_ffff).unwrap_or_default()))
    }
}

/// Judges one address.
///
/// A network that the operator names is allowed as it is written. NAT64 is judged by the IPv4 address inside it.
pub fn judge_address(address: IpAddr, nat64_prefixes: &[Nat64Prefix], networks_allowed: &[IpNet]) -> Verdict {
    if networks_allowed.iter().any(|network| network.contains(&address)) {
        return Verdict::Allow("network_allowed");
    }
    match address {
        IpAddr::V4(address) => judge_v4(address),
        IpAddr::V6(address) => {
            // An operator's prefix cannot make a mapped address translated: the kernel dials the IPv4 address.
            if address.to_ipv4_mapped().is_some() {
                return Verdict::Deny("v4_mapped");
            }
            // Of prefixes inside each other the longest is what the packet is routed by.
            let translating = std::iter::once(&Nat64Prefix::WELL_KNOWN)
                .chain(nat64_prefixes)
                .filter(|prefix| prefix.contains(address))
                .max_by_key(|prefix| prefix.0.prefix_len());
            match translating.map(|prefix| prefix.embedded(address)) {
                Some(Some(inside)) => judge_address(IpAddr::V4(inside), &[], networks_allowed),
                Some(None) => Verdict::Deny("nat64_reserved_bits"),
                None => judge_v6(address),
            }
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> (u32, u8) {
    (u32::from_be_bytes([a, b, c, d]), length)
}

/// IPv4 networks that are not globally reachable. 192.0.0.9 and 192.0.0.10 are, and lie inside one that is not.
const V4_DENIED: &[((u32, u8), &str)] = &[
    (v4(0, 0, 0, 0, 8), "unspecified"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(168, 63, 129, 16, 32), "platform"),
    (v4(169, 254, 0, 0, 16), "link_local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "protocol_assignments"),
    (v4(192, 0, 2, 0, 24), "documentation"),
    (v4(192, 88, 99, 0, 24), "six_to_four_relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "benchmarking"),
    (v4(198, 51, 100, 0, 24), "documentation"),
    (v4(203, 0, 113, 0, 24), "documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(255, 255, 255, 255, 32), "broadcast"),
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// Port control and TURN anycast: globally reachable by the registry.
const V4_REACHABLE: &[Ipv4Addr] = &[Ipv4Addr::new(192, 0, 0, 9), Ipv4Addr::new(192, 0, 0, 10)];

fn judge_v4(address: Ipv4Addr) -> Verdict {
    if V4_REACHABLE.contains(&address) {
        return Verdict::Allow("public");
    }
    let bits = u32::from(address);
    V4_DENIED
        .iter()
        .find(|((network, length), _)| (bits ^ network) >> (32 - length) == 0)
        .map_or(Verdict::Allow("public"), |(_, reason)| Verdict::Deny(reason))
}

/// The first 32 bits, then the next three groups of 32.
const fn v6net(first: u32, second: u32, third: u32, fourth: u32, length: u8) -> Ipv6Net {
    let bits = (first as u128) << 96 | (second as u128) << 64 | (third as u128) << 32 | fourth as u128;
    Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), length)
}

/// Networks of the registry inside 2001::/23, which as a whole is not globally reachable, that are.
const V6_REACHABLE: &[Ipv6Net] = &[
    v6net(0x2001_0001, 0, 0, 1, 128),
    v6net(0x2001_0001, 0, 0, 2, 128),
    v6net(0x2001_0001, 0, 0, 3, 128),
    v6net(0x2001_0003, 0, 0, 0, 32),
    v6net(0x2001_0004, 0x0112_0000, 0, 0, 48),
    v6net(0x2001_0020, 0, 0, 0, 28),
    v6net(0x2001_0030, 0, 0, 0, 28),
];

/// IPv6 networks that are not globally reachable, narrower ones first; the last one stands for all outside 2000::/3.
const V6_DENIED: &[(Ipv6Net, &str)] = &[
    (v6net(0, 0, 0, 0, 128), "unspecified"),
    (v6net(0, 0, 0, 1, 128), "loopback"),
    (v6net(0, 0, 0, 0, 96), "v4_compatible"),
    (v6net(0x0064_ff9b, 0x0001_0000, 0, 0, 48), "nat64_local"),
    (v6net(0x0100_0000, 0, 0, 0, 64), "discard"),
    (v6net(0x2001_0000, 0, 0, 0, 32), "teredo"),
    (v6net(0x2001_0002, 0, 0, 0, 48), "benchmarking"),
    (v6net(0x2001_0010, 0, 0, 0, 28), "orchid"),
    (v6net(0x2001_0000, 0, 0, 0, 23), "protocol_assignments"),
    (v6net(0x2001_0db8, 0, 0, 0, 32), "documentation"),
    (v6net(0x2002_0000, 0, 0, 0, 16), "six_to_four"),
    (v6net(0x3fff_0000, 0, 0, 0, 20), "documentation"),
    (v6net(0x5f00_0000, 0, 0, 0, 16), "srv6"),
    (v6net(0xfc00_0000, 0, 0, 0, 7), "unique_local"),
    (v6net(0xfe80_0000, 0, 0, 0, 10), "link_local"),
    (v6net(0xfec0_0000, 0, 0, 0, 10), "site_local"),
    (v6net(0xff00_0000, 0, 0, 0, 8), "multicast"),
];

const V6_GLOBAL_UNICAST: Ipv6Net = v6net(0x2000_0000, 0, 0, 0, 3);

fn judge_v6(address: Ipv6Addr) -> Verdict {
    if V6_REACHABLE.iter().any(|network| network.contains(&address)) {
        return Verdict::Allow("public");
    }
    if let Some((_, reason)) = V6_DENIED.iter().find(|(network, _)| network.contains(&address)) {
        return Verdict::Deny(reason);
    }
    if V6_GLOBAL_UNICAST.contains(&address) { Verdict::Allow("public") } else { Verdict::Deny("not_global_unicast") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(address: &str) -> Verdict {
        judge_address(address.parse().unwrap(), &[], &[])
    }

    #[test]
    fn the_address_examples_come_out_as_published() {
        let mut seen = 0;
        for line in include_str!("vectors/ssrf-address.jsonl").lines() {
            let example: serde_json::Value = serde_json::from_str(line).unwrap();
            let request = &example["request"];
            let prefixes: Vec<Nat64Prefix> = request["nat64_prefixes"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|text| text.as_str().unwrap().parse().unwrap())
                .collect();
            let verdict = judge_address(request["address"].as_str().unwrap().parse().unwrap(), &prefixes, &[]);
            let word = if verdict.is_allowed() { "allow" } else { "deny" };
            assert_eq!(word, example["expected"]["verdict"], "{example} came out as {verdict:?}");
            seen += 1;
        }
        assert_eq!(seen, 20);
    }

    #[test]
    fn every_network_is_denied_to_its_edges_and_no_further() {
        for (first, last, reason) in [
            ("0.0.0.0", "0.255.255.255", "unspecified"),
            ("10.0.0.0", "10.255.255.255", "private"),
            ("100.64.0.0", "100.127.255.255", "shared"),
            ("127.0.0.0", "127.255.255.255", "loopback"),
            ("168.63.129.16", "168.63.129.16", "platform"),
            ("169.254.0.0", "169.254.255.255", "link_local"),
            ("172.16.0.0", "172.31.255.255", "private"),
            ("192.0.0.0", "192.0.0.8", "protocol_assignments"),
            ("192.0.0.11", "192.0.0.255", "protocol_assignments"),
            ("192.0.2.0", "192.0.2.255", "documentation"),
            ("192.88.99.0", "192.88.99.255", "six_to_four_relay"),
            ("192.168.0.0", "192.168.255.255", "private"),
            ("198.18.0.0", "198.19.255.255", "benchmarking"),
            ("198.51.100.0", "198.51.100.255", "documentation"),
            ("203.0.113.0", "203.0.113.255", "documentation"),
        ] {
            let (from, to): (Ipv4Addr, Ipv4Addr) = (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!(judge(first), Verdict::Deny(reason));
            assert_eq!(judge(last), Verdict::Deny(reason));
            if let Some(before) = u32::from(from).checked_sub(1) {
                assert!(judge_v4(before.into()).is_allowed(), "before {first}");
            }
            assert!(judge_v4((u32::from(to) + 1).into()).is_allowed(), "after {last}");
        }
        assert_eq!(judge("224.0.0.0"), Verdict::Deny("multicast"));
        assert_eq!(judge("223.255.255.255"), Verdict::Allow("public"));
        assert_eq!(judge("240.0.0.0"), Verdict::Deny("reserved"));
        assert_eq!(judge("255.255.255.255"), Verdict::Deny("broadcast"));
    }

    #[test]
    fn ipv6_is_denied_outside_global_unicast_and_in_its_special_networks() {
        for (address, reason) in [
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::2", "v4_compatible"),
            ("::ffff:8.8.8.8", "v4_mapped"),
            ("::ffff:0:8.8.8.8", "not_global_unicast"),
            ("64:ff9b:1::1", "nat64_local"),
            ("64:ff9b:0:1::1", "not_global_unicast"),
            ("100::1", "discard"),
            ("1fff::1", "not_global_unicast"),
            ("2001::1", "teredo"),
            ("2001:1::4", "protocol_assignments"),
            ("2001:2::1", "benchmarking"),
            ("2001:2:1::1", "protocol_assignments"),
            ("2001:4:111:ffff::", "protocol_assignments"),
            ("2001:1f::1", "orchid"),
            ("2001:40::1", "protocol_assignments"),
            ("2001:1ff:ffff::", "protocol_assignments"),
            ("2001:db8::1", "documentation"),
            ("2002:808:808::1", "six_to_four"),
            ("3fff:fff::1", "documentation"),
            ("4000::1", "not_global_unicast"),
            ("5f00::1", "srv6"),
            ("fd00:ec2::254", "unique_local"),
            ("fe80::1", "link_local"),
            ("fec0::1", "site_local"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(judge(address), Verdict::Deny(reason), "{address}");
        }
        for address in [
            "2000::1",
            "2001:1::1",
            "2001:1::3",
            "2001:3::1",
            "2001:4:112::1",
            "2001:20::1",
            "2001:3f::1",
            "2001:200::1",
            "2001:db7::1",
            "2003::1",
            "2620:4f:8000::1",
            "3fff:1000::1",
            "3ffe:ffff::",
            "64:ff9b::808:808",
        ] {
            assert_eq!(judge(address), Verdict::Allow("public"), "{address}");
        }
    }

    #[test]
    fn translated_addresses_are_judged_by_what_is_inside_at_every_prefix_length() {
        let inside =
            |address: &str, prefix: &str| judge_address(address.parse().unwrap(), &[prefix.parse().unwrap()], &[]);
        // RFC 6052 section 2.4: 192.0.2.33 under each length.
        for (address, prefix) in [
            ("2001:db8:c000:221::", "2001:db8::/32"),
            ("2001:db8:1c0:2:21::", "2001:db8:100::/40"),
            ("2001:db8:122:c000:2:2100::", "2001:db8:122::/48"),
            ("2001:db8:122:3c0:0:221::", "2001:db8:122:300::/56"),
            ("2001:db8:122:344:c0:2:2100::", "2001:db8:122:344::/64"),
            ("2001:db8:122:344::192.0.2.33", "2001:db8:122:344::/96"),
        ] {
            let prefix: Nat64Prefix = prefix.parse().unwrap();
            assert_eq!(prefix.embedded(address.parse().unwrap()), Some(Ipv4Addr::new(192, 0, 2, 33)), "{address}");
        }
        assert_eq!(inside("2001:67c:64::10.0.0.1", "2001:67c:64::/96"), Verdict::Deny("private"));
        assert_eq!(inside("2001:67c:64::8.8.8.8", "2001:67c:64::/96"), Verdict::Allow("public"));
        assert_eq!(inside("64:ff9b::10.0.0.1", "2001:67c:64::/96"), Verdict::Deny("private"));
        assert_eq!(inside("::ffff:8.8.8.8", "::ffff:0:0/96"), Verdict::Deny("v4_mapped"));
        assert_eq!(inside("2001:67c:64:ff08:100:0:1::", "2001:67c:64::/48"), Verdict::Deny("nat64_reserved_bits"));
        assert!("2001:db8::/33".parse::<Nat64Prefix>().is_err());
        assert!("10.0.0.0/8".parse::<Nat64Prefix>().is_err());
    }

    #[test]
    fn of_prefixes_inside_each_other_the_longest_decides() {
        let prefixes = ["2001:67c::/32", "2001:67c:64::/96", "64:ff9b::/48"].map(|prefix| prefix.parse().unwrap());
        let judge = |address: &str| judge_address(address.parse().unwrap(), &prefixes, &[]);
        assert_eq!(judge("2001:67c:64::8.8.8.8"), Verdict::Allow("public"));
        assert_eq!(judge("2001:67c:64::10.0.0.1"), Verdict::Deny("private"));
        assert_eq!(judge("2001:67c:808:808::"), Verdict::Allow("public"));
        assert_eq!(judge("2001:67c:a00:1::"), Verdict::Deny("private"));
        assert_eq!(judge("64:ff9b::8.8.8.8"), Verdict::Allow("public"), "the well-known prefix stays");
    }

    #[test]
    fn a_network_that_the_operator_names_is_allowed_and_nothing_beside_it() {
        let named: Vec<IpNet> = vec!["127.0.0.0/8".parse().unwrap()];
        assert_eq!(judge_address("127.0.0.1".parse().unwrap(), &[], &named), Verdict::Allow("network_allowed"));
        assert_eq!(judge_address("10.0.0.1".parse().unwrap(), &[], &named), Verdict::Deny("private"));
        assert_eq!(judge_address("::ffff:127.0.0.1".parse().unwrap(), &[], &named), Verdict::Deny("v4_mapped"));
    }
}
