//! The audit trail: management events, which come late and carry what the chain walk and the attribution of keys need.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::port::{Page, TrailBy, TrailEvent, TrailQuery};

use super::key::{Hand, Signed};
use super::world::{EstateWorld, whole_seconds};

/// Events and how late they come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trail {
    /// Oldest first.
    pub events: Vec<Event>,
    /// Seconds until an event can be found.
    pub lag_s: i64,
    /// When each use of a key by a consumer was told last.
    pub uses: BTreeMap<String, DateTime<Utc>>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Event id.
    pub id: String,
    /// `CreateAccessKey`.
    pub name: String,
    /// `iam`, `sts`, `secretsmanager`.
    pub service: String,
    /// Region that it lands in.
    pub region: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Who signed; none for a call with a web identity.
    pub key: Option<String>,
    /// ARN of the caller.
    pub arn: String,
    /// User or session name.
    pub username: Option<String>,
    /// Member of the caller, for the identity's issuer.
    pub member: String,
    /// Issue time of the caller's session.
    pub issued: Option<DateTime<Utc>>,
    /// Source address.
    pub from: String,
    /// User agent.
    pub agent: String,
    /// Request parameters.
    pub request: BTreeMap<String, String>,
    /// What it made: key id for `CreateAccessKey`, credentials' id for `AssumeRole*`.
    pub made: Option<String>,
    /// Error code.
    pub error: Option<String>,
}

/// Events on a page.
const PAGE: usize = 50;
/// A consumer's uses of one key within a minute are one event: else a drill's trail were nothing else.
const SAME_USE_S: i64 = 60;

/// What an event tells beyond who and when.
pub(super) struct Told<'a> {
    pub action: &'a str,
    pub request: &'a [(&'a str, &'a str)],
    pub made: Option<&'a str>,
    pub error: Option<&'a str>,
    pub hand: Hand,
}

impl EstateWorld {
    /// Writes an event of who signed (`None` = a web identity's call).
    pub(super) fn record(&mut self, signed: Option<&Signed>, told: &Told<'_>, now: DateTime<Utc>) {
        let (service, name) = told.action.split_once(':').unwrap_or(("", told.action));
        let at = whole_seconds(now);
        let key = signed.map(|s| s.key.clone());
        if told.hand == Hand::Shop && self.told_lately(key.as_deref(), name, at) {
            return;
        }
        let (from, agent) = match told.hand {
            Hand::Ours => (
                "192.0.2.10",
                format!("aws-sdk-rust app/{}", self.operator.app),
            ),
            Hand::Shop => ("203.0.113.7", "shop/4.2.1 aws-sdk-java".to_owned()),
            Hand::Attacker => ("198.51.100.10", "python-requests/2.31 Boto3".to_owned()),
        };
        let region = if service == "iam" {
            "us-east-1"
        } else {
            self.region()
        };
        let event = Event {
            name: name.to_owned(),
            service: service.to_owned(),
            region: region.to_owned(),
            at,
            key,
            arn: signed.map_or_else(String::new, |s| self.signed_arn(s)),
            username: signed.map(|s| {
                let user = s.member.split_once('/').map_or("", |(_, n)| n);
                s.session.clone().unwrap_or_else(|| user.to_owned())
            }),
            member: signed.map_or_else(String::new, |s| s.member.clone()),
            issued: signed.and_then(|s| s.issued),
            from: from.to_owned(),
            agent,
            request: told
                .request
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            made: told.made.map(str::to_owned),
            error: told.error.map(str::to_owned),
            id: self.mint_uid(),
        };
        self.trail.events.push(event);
    }
    /// True when this use was told within the last minute; it is noted.
    fn told_lately(&mut self, key: Option<&str>, name: &str, at: DateTime<Utc>) -> bool {
        let what = format!("{} {name}", key.unwrap_or_default());
        let last = self.trail.uses.get(&what);
        let lately = last.is_some_and(|last| at - *last < Duration::seconds(SAME_USE_S));
        if !lately {
            self.trail.uses.insert(what, at);
        }
        lately
    }
    /// One page of what can be found by now, newest first.
    pub(super) fn look_up(&self, query: &TrailQuery, now: DateTime<Utc>) -> Page<TrailEvent> {
        let seen_until = now - Duration::seconds(self.trail.lag_s);
        let oldest = query.from.max(now - Duration::days(90));
        let found = self.trail.events.iter().rev().filter(|e| {
            e.region == query.region
                && e.at <= seen_until
                && e.at >= oldest
                && e.at <= query.to
                && query.by.as_ref().is_none_or(|by| e.is(by))
        });
        let skip = query
            .page
            .as_deref()
            .and_then(|p| p.parse().ok())
            .unwrap_or(0);
        let mut items: Vec<&Event> = found.skip(skip).take(PAGE + 1).collect();
        let more = items.len() > PAGE;
        items.truncate(PAGE);
        Page {
            items: items.into_iter().map(|e| self.shown(e)).collect(),
            next: more.then(|| (skip + PAGE).to_string()),
        }
    }
    fn shown(&self, event: &Event) -> TrailEvent {
        TrailEvent {
            id: event.id.clone(),
            name: event.name.clone(),
            source: format!("{}.amazonaws.com", event.service),
            at: event.at,
            access_key: event.key.clone(),
            username: event.username.clone(),
            raw: Some(self.raw(event).to_string()),
        }
    }
    /// The event in the trail's own shape.
    fn raw(&self, event: &Event) -> Value {
        json!({
            "eventVersion": "1.08",
            "userIdentity": self.identity_of(event),
            "eventTime": time(event.at),
            "eventSource": format!("{}.amazonaws.com", event.service),
            "eventName": event.name,
            "awsRegion": event.region,
            "sourceIPAddress": event.from,
            "userAgent": event.agent,
            "requestParameters": event.request,
            "responseElements": response(event),
            "errorCode": event.error,
            "eventID": event.id,
            "eventType": "AwsApiCall",
            "managementEvent": true,
            "recipientAccountId": self.account,
        })
    }
    fn identity_of(&self, event: &Event) -> Value {
        let Some(key) = &event.key else {
            let subject = event.request.get("subject");
            return json!({"type": "WebIdentityUser", "userName": subject});
        };
        if event.member.starts_with("user/") {
            return json!({
                "type": "IAMUser", "arn": event.arn, "accountId": self.account,
                "accessKeyId": key, "userName": event.username,
            });
        }
        let name = event.member.split_once('/').map_or("", |(_, n)| n);
        json!({
            "type": "AssumedRole", "arn": event.arn, "accountId": self.account, "accessKeyId": key,
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role", "arn": self.arn(&event.member), "userName": name,
                    "accountId": self.account,
                },
                "attributes": {"creationDate": event.issued.map(time), "mfaAuthenticated": "false"},
            },
        })
    }
}

impl Event {
    fn is(&self, by: &TrailBy) -> bool {
        match by {
            TrailBy::AccessKey(id) => self.key.as_deref() == Some(id),
            TrailBy::EventName(name) => self.name == *name,
            TrailBy::Username(name) => self.username.as_deref() == Some(name),
            TrailBy::Resource(name) => {
                self.made.as_deref() == Some(name) || self.request.values().any(|v| v == name)
            }
        }
    }
}

fn response(event: &Event) -> Value {
    let Some(made) = &event.made else {
        return Value::Null;
    };
    if event.name == "CreateAccessKey" {
        let user = event.request.get("userName");
        return json!({"accessKey": {
            "accessKeyId": made, "userName": user, "status": "Active", "createDate": time(event.at),
        }});
    }
    json!({
        "credentials": {"accessKeyId": made},
        "assumedRoleUser": {"arn": event.request.get("roleArn")},
    })
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
