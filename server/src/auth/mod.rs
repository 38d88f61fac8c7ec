//! Who is asking, and how they prove it.

pub mod owner;
pub mod password;
pub mod session;
pub mod throttle;
pub mod token;
pub mod visitor;
pub mod worker;
