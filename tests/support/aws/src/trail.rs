//! The trail: `LookupEvents` from the traffic that came through.
//!
//! What the real one does and we do: IAM's events are in us-east-1 only; a caller that was not recognised leaves none; one attribute in
//! a question; 50 in a page, newest first; secrets are not in it. What it does and we do not: 90 days, two questions a second (give the
//! proxy a bucket for that).

use chrono::{DateTime, TimeDelta, TimeZone as _, Utc};
use serde_json::{Map, Value, json};

use crate::call::{Call, WITHHELD};
use crate::known::{Known, seconds};
use crate::reply::Reply;
use crate::xml;

/// Most events in a page.
const PAGE: usize = 50;

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Number in the trail, from 1.
    number: usize,
    at: DateTime<Utc>,
    region: String,
    username: Option<String>,
    key: Option<String>,
    resources: Vec<(&'static str, String)>,
    /// As the trail holds it.
    whole: Value,
}

/// All events.
#[derive(Default)]
pub struct Trail {
    events: Vec<Event>,
}

impl Trail {
    /// Notes a call that the service answered.
    pub fn note(
        &mut self,
        call: &Call,
        reply: &Reply,
        known: &Known,
        source: &str,
        account: &str,
        at: DateTime<Utc>,
    ) {
        if call.service == "s3" || reply.refuses_the_key() {
            return;
        }
        let number = self.events.len() + 1;
        let region = if call.service == "iam" {
            "us-east-1"
        } else {
            &call.region
        };
        let identity = known.user_identity(call.key.as_deref(), account);
        let username = call.key.as_ref().map(|key| {
            known
                .identity(key)
                .map_or("root".to_owned(), |i| i.name.clone())
        });
        let response = if reply.ok() {
            response_elements(call, reply.text())
        } else {
            Value::Null
        };
        let resources = resources(call, &response);
        let read_only = !call.writes();
        let mut whole = json!({
            "eventVersion": "1.11", "userIdentity": identity, "eventTime": seconds(at),
            "eventSource": source_of(call), "eventName": call.action, "awsRegion": region,
            "sourceIPAddress": source, "userAgent": call.user_agent,
            "requestParameters": request_parameters(call), "responseElements": response,
            "requestID": reply.request_id(), "eventID": format!("00000000-0000-4000-9000-{number:012}"),
            "readOnly": read_only, "eventType": "AwsApiCall", "managementEvent": true,
            "recipientAccountId": account, "eventCategory": "Management",
        });
        if let Some(code) = reply.code() {
            whole["errorCode"] = json!(code);
            whole["errorMessage"] = json!(xml::text(reply.text(), "Message"));
        }
        self.events.push(Event {
            number,
            at,
            region: region.to_owned(),
            username,
            key: call.key.clone(),
            resources,
            whole,
        });
    }

    /// Answers `LookupEvents`.
    pub fn answer(&self, call: &Call, number: u64, now: DateTime<Utc>, lag_s: f64) -> Reply {
        match Question::read(call) {
            Err((code, text)) => Reply::refusal(call, number, 400, code, &text),
            Ok(question) => Reply::json(call, number, &self.look_up(&question, now - after(lag_s))),
        }
    }

    fn look_up(&self, question: &Question, visible: DateTime<Utc>) -> Value {
        let mut found = self
            .events
            .iter()
            .rev()
            .filter(|e| e.at <= visible && question.means(e));
        let page: Vec<&Event> = found.by_ref().take(question.size).collect();
        let mut answer = json!({ "Events": page.iter().map(|e| e.shown()).collect::<Vec<_>>() });
        if let (Some(last), Some(_)) = (page.last(), found.next()) {
            answer["NextToken"] = json!(format!("before-{}", last.number));
        }
        answer
    }

    /// Drops all events.
    pub fn forget(&mut self) {
        self.events.clear();
    }
}

/// A length of time from seconds.
pub fn after(seconds: f64) -> TimeDelta {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a test's lag is far from the ends of i64"
    )]
    let milliseconds = (seconds * 1000.0) as i64;
    TimeDelta::milliseconds(milliseconds)
}

impl Event {
    fn shown(&self) -> Value {
        let resources: Vec<Value> = self
            .resources
            .iter()
            .map(|(kind, name)| json!({ "ResourceType": kind, "ResourceName": name }))
            .collect();
        let mut shown = json!({
            "EventId": self.whole["eventID"], "EventName": self.whole["eventName"],
            "ReadOnly": self.whole["readOnly"].to_string(), "EventTime": self.at.timestamp(),
            "EventSource": self.whole["eventSource"], "Resources": resources,
            "CloudTrailEvent": self.whole.to_string(),
        });
        if let Some(key) = &self.key {
            shown["AccessKeyId"] = json!(key);
        }
        if let Some(name) = &self.username {
            shown["Username"] = json!(name);
        }
        shown
    }

    fn has(&self, attribute: &str, value: &str) -> bool {
        let is = |field: &str| self.whole[field].as_str() == Some(value);
        match attribute {
            "EventId" => is("eventID"),
            "EventName" => is("eventName"),
            "EventSource" => is("eventSource"),
            "ReadOnly" => self.whole["readOnly"].as_bool() == value.parse().ok(),
            "Username" => self.username.as_deref() == Some(value),
            "AccessKeyId" => self.key.as_deref() == Some(value),
            "ResourceType" => self.resources.iter().any(|(kind, _)| *kind == value),
            _ => self.resources.iter().any(|(_, name)| name == value),
        }
    }
}

/// What was asked.
struct Question {
    region: String,
    attribute: Option<(String, String)>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    size: usize,
    before: usize,
}

type Refused = (&'static str, String);

impl Question {
    fn read(call: &Call) -> Result<Question, Refused> {
        let time = |name: &str| -> Option<DateTime<Utc>> {
            let seconds: f64 = call.parameter(name)?.parse().ok()?;
            Utc.timestamp_millis_opt(after(seconds).num_milliseconds())
                .single()
        };
        let (from, to) = (time("StartTime"), time("EndTime"));
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err((
                "InvalidTimeRangeException",
                "the end is before the start".to_owned(),
            ));
        }
        let size = call
            .parameter("MaxResults")
            .map_or(Ok(PAGE), str::parse)
            .unwrap_or(0);
        if !(1..=PAGE).contains(&size) {
            return Err(("InvalidMaxResultsException", "1 to 50".to_owned()));
        }
        let before = match call.parameter("NextToken") {
            None => usize::MAX,
            Some(token) => token
                .strip_prefix("before-")
                .and_then(|n| n.parse().ok())
                .ok_or(("InvalidNextTokenException", token.to_owned()))?,
        };
        Ok(Question {
            region: call.region.clone(),
            attribute: Question::attribute(call)?,
            from,
            to,
            size,
            before,
        })
    }

    fn attribute(call: &Call) -> Result<Option<(String, String)>, Refused> {
        const KNOWN: [&str; 8] = [
            "EventId",
            "EventName",
            "ReadOnly",
            "Username",
            "ResourceType",
            "ResourceName",
            "EventSource",
            "AccessKeyId",
        ];
        let refused = |text: &str| ("InvalidLookupAttributesException", text.to_owned());
        let text = call.parameter("LookupAttributes").unwrap_or("[]");
        let given: Vec<Value> = serde_json::from_str(text).map_err(|_| refused("not a list"))?;
        let [one] = &given[..] else {
            return if given.is_empty() {
                Ok(None)
            } else {
                Err(refused("one attribute at a time"))
            };
        };
        let part = |name: &str| one[name].as_str().unwrap_or("").to_owned();
        let (key, value) = (part("AttributeKey"), part("AttributeValue"));
        if KNOWN.contains(&key.as_str()) {
            Ok(Some((key, value)))
        } else {
            Err(refused(&key))
        }
    }

    fn means(&self, event: &Event) -> bool {
        // The trail keeps whole seconds, and so compares them.
        let second = event.at.timestamp();
        event.region == self.region
            && event.number < self.before
            && self.from.is_none_or(|from| second >= from.timestamp())
            && self.to.is_none_or(|to| second <= to.timestamp())
            && self
                .attribute
                .as_ref()
                .is_none_or(|(key, value)| event.has(key, value))
    }
}

fn source_of(call: &Call) -> String {
    format!("{}.amazonaws.com", call.service)
}

/// `UserName` is `userName` here.
fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or(String::new(), |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

fn request_parameters(call: &Call) -> Value {
    let shown = call
        .parameters
        .iter()
        .filter(|(name, value)| *name != "Version" && !name.contains('.') && *value != WITHHELD)
        .map(|(name, value)| (lower_first(name), json!(value)));
    let shown: Map<String, Value> = shown.collect();
    if shown.is_empty() {
        Value::Null
    } else {
        Value::Object(shown)
    }
}

/// What a success made, as far as incident work asks for it; secrets and session tokens are never in it.
fn response_elements(call: &Call, text: &str) -> Value {
    let get = |name: &str| xml::text(text, name);
    match call.action.as_str() {
        "CreateAccessKey" => json!({ "accessKey": {
            "userName": get("UserName"), "accessKeyId": get("AccessKeyId"),
            "status": get("Status"), "createDate": get("CreateDate"),
        } }),
        "CreateUser" => json!({ "user": {
            "userName": get("UserName"), "userId": get("UserId"), "arn": get("Arn"), "path": get("Path"),
        } }),
        "AssumeRole" | "AssumeRoleWithWebIdentity" => json!({
            "credentials": { "accessKeyId": get("AccessKeyId"), "expiration": get("Expiration") },
            "assumedRoleUser": { "assumedRoleId": get("AssumedRoleId"), "arn": get("Arn") },
        }),
        "GetSessionToken" => json!({
            "credentials": { "accessKeyId": get("AccessKeyId"), "expiration": get("Expiration") },
        }),
        "GetFederationToken" => json!({
            "credentials": { "accessKeyId": get("AccessKeyId"), "expiration": get("Expiration") },
            "federatedUser": { "federatedUserId": get("FederatedUserId"), "arn": get("Arn") },
        }),
        _ => Value::Null,
    }
}

fn resources(call: &Call, response: &Value) -> Vec<(&'static str, String)> {
    const NAMED: [(&str, &str); 6] = [
        ("UserName", "AWS::IAM::User"),
        ("AccessKeyId", "AWS::IAM::AccessKey"),
        ("RoleName", "AWS::IAM::Role"),
        ("RoleArn", "AWS::IAM::Role"),
        ("PolicyArn", "AWS::IAM::Policy"),
        ("SecretId", "AWS::SecretsManager::Secret"),
    ];
    let mut found: Vec<(&'static str, String)> = NAMED
        .iter()
        .filter_map(|(name, kind)| Some((*kind, call.parameter(name)?.to_owned())))
        .collect();
    for place in ["/accessKey/accessKeyId", "/credentials/accessKeyId"] {
        if let Some(made) = response.pointer(place).and_then(Value::as_str) {
            found.push(("AWS::IAM::AccessKey", made.to_owned()));
        }
    }
    found
}
