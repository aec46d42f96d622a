//! What the audit trail says: who made a key.

use chrono::{DateTime, TimeDelta, Utc};

use crate::port::{CallerIdentity, TrailBy, TrailEvent, TrailQuery};

use super::carry::Rotation;
use super::verify::Found;

/// Where events of IAM land.
const IAM_REGION: &str = "us-east-1";
/// An event's time and a key's date are the same moment, by clocks of two services.
const SLACK: TimeDelta = TimeDelta::minutes(5);

impl Rotation {
    /// Who made a key that appeared around an unclear creation of ours, and whether anybody used it.
    pub(super) async fn who_created(&self, user: &str, key: &str) -> Found {
        let Ok(me) = self.patiently(|| self.estate.cloud.identity()).await else {
            return unknown("who we are is not known");
        };
        // A resume may come days later: what is asked for is told by the key's own date.
        let keys = self.patiently(|| self.estate.cloud.access_keys(user)).await;
        let keys = keys.map(|k| k.value).unwrap_or_default();
        let date = keys.iter().find(|k| k.id == key).and_then(|k| k.created);
        let Some(date) = date else {
            return unknown("its date is not known");
        };
        let waits = &self.plan.waits;
        let mut spent = 0;
        let made = loop {
            if self.halted() {
                return Found::not([("why", "it was not waited for".into())]);
            }
            match self.creation(key, date).await {
                Some(event) => break Some(event),
                None if spent >= waits.trail_lag_ms => break None,
                None => {
                    let pause = waits.absence_apart_ms.max(1);
                    spent += pause;
                    self.wait(pause).await;
                }
            }
        };
        let Some(event) = made else {
            return unknown("the trail does not show its creation");
        };
        let who = if self.is_ours(&event, &me.value) {
            "ours"
        } else {
            "foreign"
        };
        let used = self.used(key, date).await;
        Found::holds([
            ("user", user.to_owned()),
            ("who", who.into()),
            ("used", used.into()),
            ("event", event.id),
        ])
    }

    async fn creation(&self, key: &str, date: DateTime<Utc>) -> Option<TrailEvent> {
        for region in [IAM_REGION, &self.plan.region] {
            let mut page = None;
            loop {
                let query = TrailQuery {
                    region: region.to_owned(),
                    by: Some(TrailBy::EventName("CreateAccessKey".into())),
                    from: date - SLACK,
                    to: date + SLACK,
                    page,
                };
                let Ok(found) = self.patiently(|| self.estate.cloud.trail(&query)).await else {
                    break;
                };
                if let Some(event) = found
                    .items
                    .into_iter()
                    .find(|e| created(e) == Some(key.to_owned()))
                {
                    return Some(event);
                }
                match found.next {
                    Some(next) => page = Some(next),
                    None => break,
                }
            }
            if self.plan.region == IAM_REGION {
                break;
            }
        }
        None
    }

    /// Ours by what the caller cannot have without our process: its access key id or session, with the run in the client's name.
    fn is_ours(&self, event: &TrailEvent, me: &CallerIdentity) -> bool {
        let raw = event.raw.as_deref().unwrap_or("{}");
        let raw: serde_json::Value = serde_json::from_str(raw).unwrap_or_default();
        let identity = &raw["userIdentity"];
        let same_key = event.access_key.as_deref() == Some(me.access_key_id.as_str())
            || identity["accessKeyId"].as_str() == Some(me.access_key_id.as_str());
        let same_arn = identity["arn"].as_str() == Some(me.arn.as_str());
        let agent = raw["userAgent"].as_str().unwrap_or("");
        let run = self.cx.run.to_string();
        (same_key || same_arn) && (agent.contains(&run) || agent.contains("firebreak"))
    }

    async fn used(&self, key: &str, date: DateTime<Utc>) -> &'static str {
        let last = self
            .patiently(|| self.estate.cloud.key_last_used(key))
            .await;
        match last {
            Ok(used) if used.at.is_none() => {}
            Ok(_) => return "yes",
            Err(_) => return "unknown",
        }
        let query = TrailQuery {
            region: self.plan.region.clone(),
            by: Some(TrailBy::AccessKey(key.to_owned())),
            from: date - SLACK,
            to: self.account_now().await + SLACK,
            page: None,
        };
        match self.patiently(|| self.estate.cloud.trail(&query)).await {
            Ok(page) if page.items.is_empty() => "no",
            Ok(_) => "yes",
            Err(_) => "unknown",
        }
    }
}

/// The key that an event made.
fn created(event: &TrailEvent) -> Option<String> {
    let raw: serde_json::Value = serde_json::from_str(event.raw.as_deref()?).ok()?;
    let id = raw["responseElements"]["accessKey"]["accessKeyId"].as_str()?;
    Some(id.to_owned())
}

fn unknown(why: &str) -> Found {
    Found::holds([
        ("who", "unknown".into()),
        ("used", "unknown".into()),
        ("why", why.to_owned()),
    ])
}
