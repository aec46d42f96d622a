//! Address blocks. IPv4 and IPv6 never match each other (rule N9).

use std::net::IpAddr;

/// True when `address` lies in `cidr`. A block or an address that cannot be read matches nothing.
pub fn holds(cidr: &str, address: &str) -> bool {
    let Some((network, bits)) = parse(cidr) else {
        return false;
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(n) & mask == u32::from(a) & mask
        }
        (IpAddr::V6(n), IpAddr::V6(a)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(n) & mask == u128::from(a) & mask
        }
        _ => false,
    }
}

/// True when `cidr` can be read as a block.
pub fn is_readable(cidr: &str) -> bool {
    parse(cidr).is_some()
}

/// The block's first address, to stand for all of it where one representative is enough.
pub fn first(cidr: &str) -> Option<IpAddr> {
    parse(cidr).map(|(network, _)| network)
}

fn parse(cidr: &str) -> Option<(IpAddr, u8)> {
    let (network, bits) = cidr.split_once('/')?;
    let network: IpAddr = network.parse().ok()?;
    let bits: u8 = bits.parse().ok()?;
    let most = if network.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((network, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_its_own_addresses_and_no_others() {
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && holds("192.0.2.7/32", "192.0.2.7"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1") && holds("::/0", "::1"));
    }

    #[test]
    fn families_never_match_each_other_and_nonsense_matches_nothing() {
        assert!(!holds("0.0.0.0/0", "::1") && !holds("::/0", "10.0.0.1"));
        assert!(!holds("10.0.0.0/33", "10.0.0.1") && !holds("ten/8", "10.0.0.1"));
    }
}
