//! Slows down guessing: a few failing sign-ins, then a wait. What counts is who asks, so that whoever guesses
//! the password of an account keeps its owner out from nowhere but the guesser's own network. The limits hold
//! for unknown accounts too, so that they tell nobody which accounts exist. docs/signing-in.md says what an
//! operator must know.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::AppError;

/// Keys remembered before those at rest are forgotten.
const MOST_KEYS: usize = 10_000;

/// Failures at once, and how long each further one takes to be allowed.
struct Quota {
    burst: f64,
    every: Duration,
}

/// Of one account from one network.
const OF_PAIR: Quota = Quota {
    burst: 6.0,
    every: Duration::from_secs(30),
};

/// From one network, whatever the account: whoever tries one password with many accounts.
const OF_NETWORK: Quota = Quota {
    burst: 30.0,
    every: Duration::from_secs(6),
};

/// Of one account from all networks that it has not signed in from: whoever guesses from many.
const OF_ACCOUNT: Quota = Quota {
    burst: 30.0,
    every: Duration::from_secs(30),
};

/// An account and where somebody signs in to it from; none where the connection does not say.
type Pair = (String, Option<IpAddr>);

/// Limits on failing sign-ins.
pub struct SignInThrottle {
    pairs: Limit<Pair>,
    networks: Limit<IpAddr>,
    accounts: Limit<String>,
    /// From where accounts have signed in since the program started.
    known: Mutex<HashSet<Pair>>,
}

/// A try that was let through. It counts as a failure until it is said to have succeeded.
#[derive(Debug)]
pub struct Try {
    pair: Pair,
    is_known: bool,
}

impl Default for SignInThrottle {
    fn default() -> Self {
        Self::new()
    }
}

impl SignInThrottle {
    /// Fresh limits.
    pub fn new() -> Self {
        Self {
            pairs: Limit::new(OF_PAIR),
            networks: Limit::new(OF_NETWORK),
            accounts: Limit::new(OF_ACCOUNT),
            known: Mutex::default(),
        }
    }

    /// Counts one try for an account, by its address of at most 254 bytes, from a network address.
    ///
    /// # Errors
    /// `TooManyRequests` with the seconds to wait.
    pub fn begin(&self, email: &str, address: Option<IpAddr>) -> Result<Try, AppError> {
        self.begin_at(email, address, Instant::now())
    }

    fn begin_at(
        &self,
        email: &str,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Result<Try, AppError> {
        let network = address.map(network);
        let pair = (email.to_owned(), network);
        let is_known = locked(&self.known).contains(&pair);
        // In this order, so that who is refused for one account uses up nothing of others.
        self.pairs.take(pair.clone(), now).map_err(too_many)?;
        if let Some(network) = network {
            self.networks.take(network, now).map_err(too_many)?;
        }
        if !is_known {
            self.accounts.take(pair.0.clone(), now).map_err(too_many)?;
        }
        Ok(Try { pair, is_known })
    }

    /// Takes a try back that was no guess.
    pub fn succeeded(&self, own: Try) {
        if let Some(network) = &own.pair.1 {
            self.networks.give_back(network);
        }
        self.pairs.give_back(&own.pair);
        if !own.is_known {
            self.accounts.give_back(&own.pair.0);
            let mut known = locked(&self.known);
            // Whoever is forgotten is treated as everybody else.
            if known.len() >= MOST_KEYS {
                known.clear();
            }
            known.insert(own.pair);
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much of a quota each key has used up.
struct Limit<K> {
    quota: Quota,
    used: Mutex<Used<K>>,
}

struct Used<K> {
    /// Failures that are not forgotten yet, and when that was so.
    of_key: HashMap<K, (f64, Instant)>,
    /// Keys from which on those at rest are looked for.
    sweep_at: usize,
}

impl<K: Eq + Hash> Limit<K> {
    fn new(quota: Quota) -> Self {
        let used = Used {
            of_key: HashMap::new(),
            sweep_at: MOST_KEYS,
        };
        Self {
            quota,
            used: Mutex::new(used),
        }
    }

    /// What is left of failures after some time.
    fn left(&self, (n, at): (f64, Instant), now: Instant) -> f64 {
        let forgotten = now.saturating_duration_since(at).as_secs_f64();
        (n - forgotten / self.quota.every.as_secs_f64()).max(0.0)
    }

    /// Counts a failure, or says how long to wait.
    fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut used = locked(&self.used);
        // Memory stays flat under a flood of names: what is forgotten goes.
        if used.of_key.len() >= used.sweep_at {
            used.of_key.retain(|_, own| self.left(*own, now) > 0.0);
            used.sweep_at = MOST_KEYS.max(2 * used.of_key.len());
        }
        let own = used.of_key.entry(key).or_insert((0.0, now));
        let n = self.left(*own, now) + 1.0;
        let above = n - self.quota.burst;
        if above > 0.0 {
            return Err(self.quota.every.mul_f64(above));
        }
        *own = (n, now);
        Ok(())
    }

    fn give_back(&self, key: &K) {
        if let Some((n, _)) = locked(&self.used).of_key.get_mut(key) {
            *n = (*n - 1.0).max(0.0);
        }
    }
}

fn too_many(wait: Duration) -> AppError {
    AppError::TooManyRequests {
        retry_after_seconds: wait.as_secs_f64().ceil().max(1.0) as u64,
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
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn from(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn the_seventh_failure_waits_half_a_minute_and_a_success_is_no_failure() {
        let (throttle, now) = (SignInThrottle::new(), Instant::now());
        let begin = |seconds| {
            let now = now + Duration::from_secs(seconds);
            throttle.begin_at("ada@example.org", from(1), now)
        };
        for _ in 0..20 {
            throttle.succeeded(begin(0).unwrap());
        }
        for _ in 0..6 {
            assert!(begin(0).is_ok());
        }
        let refused = begin(0).unwrap_err();
        let AppError::TooManyRequests {
            retry_after_seconds,
        } = refused
        else {
            panic!("{refused}")
        };
        assert_eq!(retry_after_seconds, 30);
        assert!(begin(29).is_err());
        assert!(begin(31).is_ok() && begin(31).is_err());
        assert!(throttle.begin("grace@example.org", from(1)).is_ok());
    }

    #[test]
    fn whoever_guesses_does_not_keep_the_owner_out() {
        let (throttle, now) = (SignInThrottle::new(), Instant::now());
        let begin = |last| throttle.begin_at("ada@example.org", from(last), now);
        // From one address, the owner signs in from another.
        while begin(1).is_ok() {}
        throttle.succeeded(begin(2).unwrap());
        // From very many: those that the account is known from are let in, others wait.
        for last in 3..40 {
            while begin(last).is_ok() {}
        }
        assert!(begin(200).is_err());
        for _ in 0..6 {
            assert!(begin(2).is_ok());
        }
    }

    #[test]
    fn one_address_does_not_try_many_accounts() {
        let (throttle, now) = (SignInThrottle::new(), Instant::now());
        let begin = |n: usize| throttle.begin_at(&format!("user{n}@example.org"), from(1), now);
        for n in 0..30 {
            assert!(begin(n).is_ok());
        }
        assert!(begin(30).is_err());
        assert!(
            throttle
                .begin_at("user30@example.org", from(2), now)
                .is_ok()
        );
    }

    #[test]
    fn keys_at_rest_are_forgotten() {
        let (limit, now) = (Limit::new(OF_PAIR), Instant::now());
        for key in 0..MOST_KEYS {
            assert!(limit.take(key, now).is_ok());
        }
        let later = now + Duration::from_secs(60);
        assert!(limit.take(MOST_KEYS, later).is_ok());
        assert_eq!(locked(&limit.used).of_key.len(), 1);
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
