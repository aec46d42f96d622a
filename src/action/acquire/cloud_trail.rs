//! `acquire.cloud_trail`: what the cloud's audit trail holds about keys, users and resources, copied before its 90 days are over.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::action::registry::{ActionSpec, UndoSpec, Use, check_as, read_as};
use crate::action::{Action, ActionError, Applied, Class, Context, Observed, Preview};
use crate::incident::{Category, Effect, Phase, clock_text};
use crate::port::{ExhibitDraft, TrailBy, TrailEvent, TrailQuery};

use super::bag::StepBag;
use super::{READS, RESULT, look_for_bag};

/// Events of one question and region; more is said, and is for the trail's own store.
const MOST: usize = 20_000;
/// How far back the trail answers.
const DAYS: i64 = 90;

/// Arguments of `acquire.cloud_trail`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrailArgs {
    /// Events made with these access key ids.
    pub keys: Vec<String>,
    /// Events of these user or session names.
    pub users: Vec<String>,
    /// Events of these names, such as `AssumeRole`.
    pub events: Vec<String>,
    /// Events about these resources: ARNs or names.
    pub resources: Vec<String>,
    /// From, RFC 3339; 90 days back by default, which is all that there is.
    pub from: Option<String>,
    /// To, RFC 3339; now by default.
    pub to: Option<String>,
    /// Regions; all enabled ones by default, and the global one.
    pub regions: Vec<String>,
}

static SPEC: ActionSpec = ActionSpec {
    name: "acquire.cloud_trail",
    about: "Copies events of the cloud's audit trail about keys, users and resources.",
    effect: Effect::Read,
    phase: Phase::Containment,
    uses: &[Use::Call],
    args_schema: || schemars::schema_for!(TrailArgs),
    check_args: check_as::<TrailArgs>,
    undo: UndoSpec::None(READS),
    result: RESULT,
    rights: &[],
    exhibit: Some(Category::CloudTrail),
    volatility: Some(6),
    disturbs: 0,
    timeout_s: 1_800,
};

/// Copies events of the audit trail.
///
/// *Effect*: read. *Undo*: none needed. *What it disturbs*: nothing. *Permissions*: `cloudtrail:LookupEvents`, `ec2:DescribeRegions` or
/// `account:ListRegions`. *Cost and time*: 50 events a call and two calls a second and region, one attribute a call. Management events only,
/// about five minutes late: what is younger, and data events, are open ends. *Source*: CloudTrail API reference, `LookupEvents`.
pub struct CloudTrail;

/// What is asked: for people, and for the trail.
type Asked = (String, Option<TrailBy>);

#[async_trait]
impl Action for CloudTrail {
    fn spec(&self) -> &'static ActionSpec {
        &SPEC
    }

    async fn preview(&self, cx: &Context, args: &Value) -> Result<Preview, ActionError> {
        let args = read(args)?;
        window(cx, &args)?;
        let account = cx.estate()?.cloud.identity().await?.value.account;
        let changes = questions(&args)
            .into_iter()
            .map(|(what, _)| format!("copy {what} of account {account}"));
        Ok(Preview {
            changes: changes.collect(),
            undo: READS.into(),
            cannot: vec![
                "data events, events older than 90 days, and those of the last minutes".into(),
            ],
            binding: [("account".to_owned(), account)].into(),
            ..Preview::default()
        })
    }

    async fn apply(&self, cx: &Context, args: &Value) -> Result<Applied, ActionError> {
        let args = read(args)?;
        let (from, to) = window(cx, &args)?;
        let estate = cx.estate()?;
        let account = estate.cloud.identity().await?.value.account;
        let regions = estate.cloud.regions().await;
        let mut bag = StepBag::open(cx, "audit trail of the cloud account")?;
        let regions = match (args.regions.is_empty(), regions) {
            (false, _) => args.regions.clone(),
            (true, Ok(regions)) => regions,
            (true, Err(e)) => {
                bag.missing("the list of regions", &e.detail);
                Vec::new()
            }
        };
        // Events of IAM land here, whatever else is enabled.
        let mut all: BTreeSet<String> = regions.into_iter().collect();
        if args.regions.is_empty() {
            all.insert("us-east-1".into());
        }
        for (what, by) in questions(&args) {
            for region in &all {
                (cx.progress)(&format!("{what} in {region}"));
                let query = TrailQuery {
                    region: region.clone(),
                    by: by.clone(),
                    from,
                    to,
                    page: None,
                };
                take(cx, &mut bag, &what, &account, query).await?;
            }
        }
        let late = to > cx.ports.clock.now() - TimeDelta::minutes(15);
        if late {
            bag.missing(
                "events of the last minutes",
                "the trail is some minutes late: ask again later",
            );
        }
        bag.seal()
    }

    async fn observe(&self, cx: &Context, _args: &Value) -> Result<Observed, ActionError> {
        look_for_bag(cx)
    }
}

fn read(args: &Value) -> Result<TrailArgs, ActionError> {
    read_as(args).map_err(|e| ActionError::new(Class::Refused, e.to_string()))
}

fn window(cx: &Context, args: &TrailArgs) -> Result<(DateTime<Utc>, DateTime<Utc>), ActionError> {
    let now = cx.ports.clock.now();
    let time = |text: &Option<String>, otherwise: DateTime<Utc>| match text.as_deref() {
        None | Some("") => Ok(otherwise),
        Some(text) => text.parse().map_err(|_| {
            ActionError::new(
                Class::Refused,
                format!("`{text}` is no time (2026-11-25T03:04:05Z)"),
            )
        }),
    };
    Ok((
        time(&args.from, now - TimeDelta::days(DAYS))?,
        time(&args.to, now)?,
    ))
}

/// One question for each attribute; everything where none is named.
fn questions(args: &TrailArgs) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    let mut add = |what: &str, names: &[String], by: fn(String) -> TrailBy| {
        for name in names {
            all.push((format!("events {what} {name}"), Some(by(name.clone()))));
        }
    };
    add("made with key", &args.keys, TrailBy::AccessKey);
    add("of", &args.users, TrailBy::Username);
    add("named", &args.events, TrailBy::EventName);
    add("about", &args.resources, TrailBy::Resource);
    if all.is_empty() {
        all.push(("all events".into(), None));
    }
    all
}

/// Copies one question's events, newest first, as they come: one exhibit. What came before a failure is kept.
async fn take(
    cx: &Context,
    bag: &mut StepBag,
    what: &str,
    account: &str,
    mut query: TrailQuery,
) -> Result<(), ActionError> {
    let region = query.region.clone();
    let what = format!("{what} in {region}");
    let (mut lines, mut count) = (String::new(), 0);
    let why = loop {
        if cx.cancelled() {
            break Some("stopped by the person who ran it".to_owned());
        }
        match cx.estate()?.cloud.trail(&query).await {
            Err(e) => break Some(e.to_string()),
            Ok(page) => {
                count += page.items.len();
                page.items.iter().for_each(|e| line(e, &mut lines));
                match page.next {
                    None => break None,
                    Some(_) if count >= MOST => {
                        break Some(format!(
                            "there are more than {MOST} events: narrow the question, or ask the trail's own store"
                        ));
                    }
                    next => query.page = next,
                }
            }
        }
    };
    if count > 0 {
        let from_to = format!(
            "{} to {}",
            clock_text::seconds(query.from),
            clock_text::seconds(query.to)
        );
        let draft = ExhibitDraft {
            name: "events".into(),
            description: what.clone(),
            category: Category::CloudTrail,
            system: [
                ("account", account),
                ("region", &region),
                ("window", &from_to),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
            method: "LookupEvents".into(),
            command: None,
            trust: None,
            volatility: 6,
        };
        bag.bytes(&draft, lines.as_bytes())?;
    }
    match why {
        Some(why) => bag.missing(&what, &why),
        None if count == 0 => bag.missing(&what, "the trail has none"),
        None => {}
    }
    Ok(())
}

/// The event as the trail gave it; where it gave no text, what it said of it.
fn line(event: &TrailEvent, lines: &mut String) {
    match &event.raw {
        Some(raw) => lines.push_str(&raw.replace('\n', " ")),
        None => {
            let known = json!({
                "eventID": event.id, "eventName": event.name, "eventSource": event.source,
                "eventTime": clock_text::seconds(event.at), "accessKeyId": event.access_key, "username": event.username,
            });
            lines.push_str(&known.to_string());
        }
    }
    lines.push('\n');
}
