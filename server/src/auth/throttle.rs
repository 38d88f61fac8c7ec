//! Slows down guessing: a few tries for each account and each address, then a wait. The limits
//! hold for unknown accounts too, so that they tell nobody which accounts exist.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::error::AppError;

/// Tries at once for one account, then one every 30 seconds.
const BURST_PER_ACCOUNT: NonZeroU32 = NonZeroU32::new(6).expect("six is not zero");

/// Tries a minute from one address.
const PER_ADDRESS: NonZeroU32 = NonZeroU32::new(30).expect("thirty is not zero");

/// Keys remembered before those at rest are forgotten.
const MOST_KEYS: usize = 10_000;

/// Keyed limits on signing in.
pub struct SignInThrottle {
    accounts: DefaultKeyedRateLimiter<String>,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
}

impl Default for SignInThrottle {
    fn default() -> Self {
        Self::new()
    }
}

impl SignInThrottle {
    /// Fresh limits.
    pub fn new() -> Self {
        let account =
            Quota::per_minute(NonZeroU32::MIN.saturating_add(1)).allow_burst(BURST_PER_ACCOUNT);
        Self {
            accounts: RateLimiter::keyed(account),
            addresses: RateLimiter::keyed(Quota::per_minute(PER_ADDRESS)),
            clock: DefaultClock::default(),
        }
    }

    /// Counts one try from an address.
    ///
    /// # Errors
    /// `TooManyRequests` with the seconds to wait.
    pub fn check_address(&self, address: Option<IpAddr>) -> Result<(), AppError> {
        let Some(address) = address else {
            return Ok(());
        };
        // Forget keys that are back at rest, so that memory stays flat under a flood of names.
        if self.addresses.len() > MOST_KEYS {
            self.addresses.retain_recent();
        }
        self.addresses
            .check_key(&network(address))
            .map_err(|until| too_many(until.wait_time_from(self.clock.now())))
    }

    /// Counts one try for an account, by its address of at most 254 bytes.
    ///
    /// # Errors
    /// `TooManyRequests` with the seconds to wait.
    pub fn check_account(&self, email: &str) -> Result<(), AppError> {
        if self.accounts.len() > MOST_KEYS {
            self.accounts.retain_recent();
        }
        self.accounts
            .check_key(&email.to_owned())
            .map_err(|until| too_many(until.wait_time_from(self.clock.now())))
    }
}

fn too_many(wait: Duration) -> AppError {
    AppError::TooManyRequests {
        retry_after_seconds: wait.as_secs().max(1),
    }
}

/// What one asker is counted by: an IPv4 address, or an IPv6 network of 64 bits, since that many
/// addresses are one household's.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seventh_try_for_one_account_waits_and_another_account_does_not() {
        let throttle = SignInThrottle::new();
        for _ in 0..6 {
            assert!(throttle.check_account("ada@example.org").is_ok());
        }
        assert!(matches!(
            throttle.check_account("ada@example.org"),
            Err(AppError::TooManyRequests {
                retry_after_seconds: 1..
            })
        ));
        assert!(throttle.check_account("grace@example.org").is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_counted_together() {
        let parse = |text: &str| text.parse::<IpAddr>().map(network);
        assert_eq!(parse("2001:db8:1:2::1"), parse("2001:db8:1:2:ffff::9"));
        assert_ne!(parse("2001:db8:1:2::1"), parse("2001:db8:1:3::1"));
        assert_eq!(parse("::ffff:192.0.2.7"), parse("192.0.2.7"));
        assert_ne!(parse("192.0.2.8"), parse("192.0.2.7"));
    }
}
