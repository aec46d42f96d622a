//! Somebody with a stolen key who polls, and moves the moment that a move is possible.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::{Client, Signer};
use crate::proxy::Shared;
use crate::reply::Reply;
use crate::script::Match;

/// Where the attacker's calls come from; it is in each event of the trail.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// What the attacker's client calls itself.
pub const USER_AGENT: &str = "attacker/1.0";

/// An attacker.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attacker {
    /// The stolen access key id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// Session token, of a stolen session.
    #[serde(default)]
    pub token: Option<String>,
    /// Waits for such a call of anybody before it moves.
    #[serde(default)]
    pub when: Option<Match>,
    /// Milliseconds between two rounds.
    #[serde(default = "often")]
    pub every_ms: u64,
    /// Rounds after which it gives up.
    #[serde(default = "long")]
    pub rounds: u32,
    /// What it wants, in this order; each is tried with all that it holds until it works.
    pub moves: Vec<Move>,
}

fn often() -> u64 {
    50
}

fn long() -> u32 {
    600
}

/// Something that an attacker does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Move {
    /// Makes a key for a user, and goes on with it.
    CreateKey(String),
    /// Deletes an inline policy of a user: user, policy.
    DeleteUserPolicy(String, String),
    /// Deletes an inline policy of a role: role, policy.
    DeleteRolePolicy(String, String),
    /// Detaches a managed policy from a user: user, ARN.
    DetachUserPolicy(String, String),
    /// Assumes a role by ARN, and goes on with the session.
    AssumeRole(String),
}

/// A move that worked.
#[derive(Clone, Debug, Serialize)]
pub struct Spoils {
    /// The move.
    #[serde(rename = "move")]
    pub what: Move,
    /// Key id that it was made with.
    pub with: String,
    /// Key id that it gave.
    pub gave: Option<String>,
}

/// Plays it out against the proxy at this address, which sees it as it sees everybody.
pub async fn run(attacker: Attacker, at: SocketAddr, shared: Arc<Shared>) {
    let client = Client::new(at).called(USER_AGENT, Some(ADDRESS));
    let mut held = vec![Signer {
        id: attacker.id,
        secret: attacker.secret,
        token: attacker.token,
    }];
    let mut open = attacker.moves;
    let began = shared
        .lock()
        .log
        .after(0)
        .last()
        .map_or(0, |entry| entry.number);
    for _ in 0..attacker.rounds {
        let waits = attacker.when.as_ref().is_some_and(|when| {
            !shared
                .lock()
                .log
                .after(began)
                .iter()
                .any(|entry| entry.ended && when.fits(&entry.call))
        });
        if waits {
            // It keeps an eye on its key, as attackers do.
            let _ = client
                .query(&held[0], "sts", "GetCallerIdentity", &[])
                .await;
        } else {
            play(&client, &mut held, &mut open, &shared).await;
        }
        if open.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(attacker.every_ms)).await;
    }
}

/// One round: all open moves with all that is held, the newest first.
async fn play(client: &Client, held: &mut Vec<Signer>, open: &mut Vec<Move>, shared: &Shared) {
    let mut left = Vec::new();
    for what in open.drain(..) {
        match attempt(client, held, &what).await {
            Some((with, reply)) => {
                let got = Signer::of(&reply);
                shared.lock().spoils.push(Spoils {
                    what,
                    with,
                    gave: got.as_ref().map(|signer| signer.id.clone()),
                });
                shared.changed();
                held.extend(got);
            }
            None => left.push(what),
        }
    }
    *open = left;
}

async fn attempt(client: &Client, held: &[Signer], what: &Move) -> Option<(String, Reply)> {
    for signer in held.iter().rev() {
        let call = |service: &'static str,
                    action: &'static str,
                    parameters: Vec<(&'static str, String)>| async move {
            let parameters: Vec<(&str, &str)> =
                parameters.iter().map(|(n, v)| (*n, v.as_str())).collect();
            client.query(signer, service, action, &parameters).await
        };
        let reply = match what.clone() {
            Move::CreateKey(user) => call("iam", "CreateAccessKey", vec![("UserName", user)]).await,
            Move::DeleteUserPolicy(user, policy) => {
                call(
                    "iam",
                    "DeleteUserPolicy",
                    vec![("UserName", user), ("PolicyName", policy)],
                )
                .await
            }
            Move::DeleteRolePolicy(role, policy) => {
                call(
                    "iam",
                    "DeleteRolePolicy",
                    vec![("RoleName", role), ("PolicyName", policy)],
                )
                .await
            }
            Move::DetachUserPolicy(user, arn) => {
                call(
                    "iam",
                    "DetachUserPolicy",
                    vec![("UserName", user), ("PolicyArn", arn)],
                )
                .await
            }
            Move::AssumeRole(arn) => {
                call(
                    "sts",
                    "AssumeRole",
                    vec![("RoleArn", arn), ("RoleSessionName", "attacker".to_owned())],
                )
                .await
            }
        };
        if let Some(reply) = reply.ok().filter(Reply::ok) {
            return Some((signer.id.clone(), reply));
        }
    }
    None
}
