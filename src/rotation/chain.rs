//! The chain of credentials: which sessions and roles were reached from a key or a role, by the audit trail. Breadth first, with a visited
//! set; what it could not follow is an open end, which is printed.
//!
//! From each compromised id it reads `AssumeRole*`, `GetSessionToken` and `GetFederationToken`; the answer's access key id is the next one.
//! Sessions of role B that a revoked session of role A minted live on: so B is revoked as well.

use std::collections::{BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use serde_json::Value as Json;

use crate::port::{TrailBy, TrailEvent};

/// Events that hand out temporary credentials.
const MINTING: [&str; 5] = [
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "GetSessionToken",
    "GetFederationToken",
];
/// More ids than this are not followed: then the walk is an open end, and the trail's store must be asked.
const MOST: usize = 2_000;

/// What the trail is asked for next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// Events made with this id.
    Key(String),
    /// Events that assumed this role, by ARN.
    Role(String),
}

impl Ask {
    /// As a question to the trail.
    pub fn by(&self) -> TrailBy {
        match self {
            Ask::Key(id) => TrailBy::AccessKey(id.clone()),
            Ask::Role(arn) => TrailBy::Resource(arn.clone()),
        }
    }
    /// The id or ARN.
    pub fn id(&self) -> &str {
        match self {
            Ask::Key(id) | Ask::Role(id) => id,
        }
    }
}

/// A role that was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Its ARN.
    pub arn: String,
    /// From which id.
    pub from: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A walk. Feed it the events that it asks for until it asks for no more.
#[derive(Debug, Default)]
pub struct Walk {
    account: String,
    queue: VecDeque<Ask>,
    visited: BTreeSet<Ask>,
    /// Roles, in the order found, each once.
    pub roles: Vec<Reached>,
    /// Ids of sessions that were minted on the way.
    pub sessions: BTreeSet<String>,
    /// Names, ids and ARNs that events made with any of the ids speak of.
    pub touched: BTreeSet<String>,
    /// What could not be followed.
    pub open_ends: Vec<String>,
}

impl Walk {
    /// A walk from these, within this account.
    pub fn from(account: &str, starts: impl IntoIterator<Item = Ask>) -> Self {
        let mut walk = Walk {
            account: account.to_owned(),
            ..Walk::default()
        };
        for start in starts {
            walk.enqueue(start);
        }
        walk
    }

    /// What to ask for now; `None` = the walk is over.
    pub fn next_ask(&mut self) -> Option<Ask> {
        self.queue.pop_front()
    }

    /// Takes the events of what was asked for.
    pub fn feed(&mut self, asked: &Ask, events: &[TrailEvent]) {
        for event in events {
            let raw = raw(event);
            if raw["errorCode"].is_string() {
                continue;
            }
            if let Ask::Key(_) = asked {
                self.touch(&raw["requestParameters"], 0);
            }
            if MINTING.contains(&event.name.as_str()) {
                self.minted(asked, event, &raw);
            } else if event.name == "CreateAccessKey"
                && let Ask::Key(_) = asked
            {
                self.made_key(event, &raw);
            }
        }
    }

    /// Says that something asked for could not be had.
    pub fn fail(&mut self, asked: &Ask, why: &str) {
        self.end(format!(
            "the trail of {} could not be read: {why}",
            asked.id()
        ));
    }

    fn minted(&mut self, asked: &Ask, event: &TrailEvent, raw: &Json) {
        let role = raw["requestParameters"]["roleArn"].as_str();
        if let (Ask::Role(wanted), Some(role)) = (asked, role)
            && role != wanted
        {
            return;
        }
        if let (Ask::Key(from), Some(role)) = (asked, role) {
            self.reach(role, from, event.at);
        }
        match raw["responseElements"]["credentials"]["accessKeyId"].as_str() {
            Some(id) => {
                self.sessions.insert(id.to_owned());
                self.enqueue(Ask::Key(id.to_owned()));
            }
            None => self.end(format!(
                "{} at {} names no credentials in the trail: what was done with them is not known",
                event.name,
                crate::incident::clock_text::seconds(event.at)
            )),
        }
    }

    fn reach(&mut self, role: &str, from: &str, at: DateTime<Utc>) {
        if self.roles.iter().any(|r| r.arn == role) {
            return;
        }
        if role.split(':').nth(4) != Some(self.account.as_str()) {
            self.end(format!(
                "{role} is of another account: revoke its sessions there"
            ));
            return;
        }
        self.roles.push(Reached {
            arn: role.to_owned(),
            from: from.to_owned(),
            at,
        });
    }

    /// A key that was made with a compromised one is the intruder's.
    fn made_key(&mut self, event: &TrailEvent, raw: &Json) {
        let key = &raw["responseElements"]["accessKey"];
        if let Some(id) = key["accessKeyId"].as_str() {
            let user = key["userName"].as_str().unwrap_or("?");
            self.touched.insert(id.to_owned());
            self.end(format!(
                "{id} of {user} was made with a compromised credential at {}: treat it as the intruder's",
                crate::incident::clock_text::seconds(event.at)
            ));
            self.enqueue(Ask::Key(id.to_owned()));
        }
    }

    fn enqueue(&mut self, ask: Ask) {
        if self.visited.len() >= MOST {
            self.end(format!(
                "more than {MOST} ids: the walk stopped at {}",
                ask.id()
            ));
            return;
        }
        if self.visited.insert(ask.clone()) {
            self.queue.push_back(ask);
        }
    }

    fn end(&mut self, text: String) {
        if !self.open_ends.contains(&text) {
            self.open_ends.push(text);
        }
    }

    /// Texts of the parameters: they name what was touched.
    fn touch(&mut self, value: &Json, depth: u32) {
        match value {
            Json::String(text) if text.len() <= 512 => {
                self.touched.insert(text.clone());
            }
            Json::Array(all) if depth < 4 => all.iter().for_each(|v| self.touch(v, depth + 1)),
            Json::Object(all) if depth < 4 => all.values().for_each(|v| self.touch(v, depth + 1)),
            _ => {}
        }
    }
}

/// The event as the trail holds it.
pub fn raw(event: &TrailEvent) -> Json {
    let text = event.raw.as_deref().unwrap_or("{}");
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(name: &str, role: &str, made: Option<&str>) -> TrailEvent {
        let raw = json!({
            "requestParameters": {"roleArn": role, "roleSessionName": "x"},
            "responseElements": made.map(|id| json!({"credentials": {"accessKeyId": id}})),
        });
        TrailEvent {
            id: "e".into(),
            name: name.into(),
            source: "sts.amazonaws.com".into(),
            at: DateTime::from_timestamp(1_790_000_000, 0).expect("time"),
            access_key: None,
            username: None,
            raw: Some(raw.to_string()),
        }
    }

    #[test]
    fn a_chain_is_walked_breadth_first_and_a_circle_ends() {
        let (a, b) = ("arn:aws:iam::1:role/a", "arn:aws:iam::1:role/b");
        let mut walk = Walk::from("1", [Ask::Key("K0".into())]);
        let mut asked = Vec::new();
        while let Some(ask) = walk.next_ask() {
            let events = match ask.id() {
                "K0" => vec![event("AssumeRole", a, Some("K1"))],
                "K1" => vec![event("AssumeRole", b, Some("K2"))],
                "K2" => vec![event("AssumeRole", a, Some("K1"))],
                _ => vec![],
            };
            walk.feed(&ask, &events);
            asked.push(ask.id().to_owned());
        }
        assert_eq!(asked, ["K0", "K1", "K2"]);
        let roles: Vec<&str> = walk.roles.iter().map(|r| r.arn.as_str()).collect();
        assert_eq!(roles, [a, b]);
        assert_eq!(walk.open_ends, Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_followed_is_an_open_end_and_never_silence() {
        let mut walk = Walk::from("1", [Ask::Key("K0".into())]);
        let ask = walk.next_ask().expect("start");
        walk.feed(
            &ask,
            &[
                event("AssumeRole", "arn:aws:iam::2:role/far", Some("K1")),
                event("AssumeRole", "arn:aws:iam::1:role/a", None),
            ],
        );
        walk.fail(&ask, "AccessDenied");
        assert_eq!(walk.open_ends.len(), 3, "{:?}", walk.open_ends);
        assert_eq!(walk.roles.len(), 1);
    }

    #[test]
    fn a_role_is_followed_by_the_sessions_that_were_minted_of_it() {
        let role = "arn:aws:iam::1:role/web";
        let mut walk = Walk::from("1", [Ask::Role(role.into())]);
        let ask = walk.next_ask().expect("start");
        let other = event("AssumeRole", "arn:aws:iam::1:role/other", Some("K9"));
        walk.feed(
            &ask,
            &[event("AssumeRoleWithWebIdentity", role, Some("K1")), other],
        );
        assert_eq!(walk.next_ask(), Some(Ask::Key("K1".into())));
        assert_eq!(walk.next_ask(), None);
        assert!(walk.roles.is_empty(), "the start itself is not reached");
    }
}
