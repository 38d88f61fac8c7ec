//! Slows down guessing: a few tries for each account and each address, then a wait. The limits
//! hold for unknown accounts too, so that they tell nobody which accounts exist.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::error::AppError;

/// Tries at once for one account, then one every 30 seconds.
const BURST_PER_ACCOUNT: NonZeroU32 = NonZeroU32::new(6).expect("six is not zero");

/// Tries a minute from one address.
const PER_ADDRESS: NonZeroU32 = NonZeroU32::new(30).expect("thirty is not zero");

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

    /// Counts one try.
    ///
    /// # Errors
    /// `TooManyRequests` with the seconds to wait.
    pub fn check(&self, email: &str, address: Option<IpAddr>) -> Result<(), AppError> {
        let too_many = |wait: std::time::Duration| AppError::TooManyRequests {
            retry_after_seconds: wait.as_secs().max(1),
        };
        if let Some(address) = address {
            self.addresses
                .check_key(&address)
                .map_err(|until| too_many(until.wait_time_from(self.clock.now())))?;
        }
        self.accounts
            .check_key(&email.to_owned())
            .map_err(|until| too_many(until.wait_time_from(self.clock.now())))?;
        // Forget keys that are back at rest, so that memory stays flat under a flood of names.
        if self.accounts.len() > 10_000 {
            self.accounts.retain_recent();
            self.addresses.retain_recent();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seventh_try_for_one_account_waits_and_another_account_does_not() {
        let throttle = SignInThrottle::new();
        for _ in 0..6 {
            assert!(throttle.check("ada@example.org", None).is_ok());
        }
        assert!(matches!(
            throttle.check("ada@example.org", None),
            Err(AppError::TooManyRequests {
                retry_after_seconds: 1..
            })
        ));
        assert!(throttle.check("grace@example.org", None).is_ok());
    }
}
