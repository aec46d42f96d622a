//! The trail: management events of the last 90 days.

use aws_config::Region;
use aws_sdk_cloudtrail::config::Builder;
use aws_sdk_cloudtrail::types::{Event, LookupAttribute, LookupAttributeKey};

use super::connect::Inner;
use super::policy::{said, sdk_time, time};
use super::rate::Service;
use super::wire::{Call, Does};
use crate::port::{Cause, Page, PortError, TrailBy, TrailEvent, TrailQuery};

const TRIED: &str = "read the trail of";
/// Most that a page holds.
const PAGE: i32 = 50;

impl Inner {
    pub(super) async fn look_up(&self, query: &TrailQuery) -> Result<Page<TrailEvent>, PortError> {
        let region = query.region.as_str();
        let call =
            Call::new(Service::CloudTrail, Does::Read, TRIED, region).in_region(Some(region));
        let request = self
            .trail
            .lookup_events()
            .max_results(PAGE)
            .start_time(sdk_time(query.from))
            .end_time(sdk_time(query.to))
            .set_lookup_attributes(attribute(query.by.as_ref())?.map(|a| vec![a]))
            .set_next_token(query.page.clone());
        let make = || {
            let there = Builder::new().region(Region::new(region.to_owned()));
            request.clone().customize().config_override(there).send()
        };
        let out = self.wire.call(call, make).await?.value;
        let events = out.events.unwrap_or_default();
        let items: Option<Vec<TrailEvent>> = events.into_iter().map(event).collect();
        let items = items.ok_or_else(|| {
            PortError::new(
                Cause::Unreadable,
                TRIED,
                region,
                "an event has no time or no name",
            )
        })?;
        Ok(Page {
            items,
            next: out.next_token.filter(|t| !t.is_empty()),
        })
    }
}

fn attribute(by: Option<&TrailBy>) -> Result<Option<LookupAttribute>, PortError> {
    let Some(by) = by else { return Ok(None) };
    let (key, value) = match by {
        TrailBy::AccessKey(id) => (LookupAttributeKey::AccessKeyId, id),
        TrailBy::EventName(name) => (LookupAttributeKey::EventName, name),
        TrailBy::Username(name) => (LookupAttributeKey::Username, name),
        TrailBy::Resource(name) => (LookupAttributeKey::ResourceName, name),
    };
    LookupAttribute::builder()
        .attribute_key(key)
        .attribute_value(value)
        .build()
        .map(Some)
        .map_err(|e| PortError::new(Cause::Local, TRIED, value, e.to_string()))
}

/// `None` for an event without a time or a name: skipping it would hide what somebody did.
fn event(e: Event) -> Option<TrailEvent> {
    Some(TrailEvent {
        at: e.event_time.as_ref().and_then(time)?,
        name: e.event_name?,
        id: e.event_id.unwrap_or_default(),
        source: e.event_source.unwrap_or_default(),
        access_key: e.access_key_id.as_deref().and_then(said),
        username: e.username.as_deref().and_then(said),
        raw: e.cloud_trail_event,
    })
}
