//! A proxy in front of an AWS double: it adds what the double lacks, and breaks what a test wants broken.
//!
//! No double carries a whole rotation. Ministack refuses Inactive keys and honours denies, but grants a third key, never knows a last use,
//! gives lists whole, and its trail has no response elements; none of the doubles is slow, throttles, or is eventually consistent.
//!
//! *Flow*: a client is given [`AwsProxy::url`] as its endpoint. Each call is read (both protocols), noted ([`log`]), matched with what was
//! ordered ([`script`]), passed on byte for byte, `Host` too, so that its signature stays good, and the answer is completed
//! ([`pages`], [`known`], [`trail`]). Orders come by [`AwsProxy`] or by HTTP on a second port ([`control`]).
//!
//! *Guarantees*: a call is in the log before the double hears of it, and ends there even if its client is killed meanwhile. An effect
//! counts by the double's answer, not by ours. No secret is kept in log or trail. [`script::Fault::LoseRequest`] never reaches the double;
//! [`script::Fault::LoseReply`] has taken effect when the client's connection ends.
//!
//! *Assumptions*: everything that changes keys goes through it. The places for keys are counted before a permission is looked at.

pub mod attacker;
pub mod call;
pub mod client;
pub mod control;
pub mod forward;
pub mod known;
pub mod log;
pub mod pages;
pub mod proxy;
pub mod reply;
pub mod script;
pub mod seed;
pub mod state;
pub mod tls;
pub mod trail;
pub mod xml;

pub use attacker::{Attacker, Move};
pub use client::{Client, Signer};
pub use log::{Effect, Entry};
pub use proxy::{AwsProxy, Options};
pub use reply::Reply;
pub use script::{Bucket, Delay, Fault, Match, Order, Settings};
pub use tls::Tls;
