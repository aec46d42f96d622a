//! Walking a chain of credentials through the audit trail.

use chrono::{DateTime, Utc};

use crate::port::{Estate, PortError, TrailBy, TrailEvent, TrailQuery};
use crate::rotation::chain::{Ask, Walk};

/// Where events of IAM and of the global token service land.
pub(super) const GLOBAL_REGION: &str = "us-east-1";
/// Pages of one question and region: 50 events each. What is beyond is an open end.
const PAGES: u32 = 40;

/// Where and when to look.
#[derive(Clone)]
pub(super) struct Window {
    /// Regions.
    pub(super) regions: Vec<String>,
    /// From.
    pub(super) from: DateTime<Utc>,
    /// To.
    pub(super) to: DateTime<Utc>,
}

impl Window {
    /// All enabled regions; where they cannot be listed, ours and the global one, which is an open end.
    pub(super) async fn of(
        estate: &Estate,
        region: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> (Self, Option<String>) {
        let (mut regions, end) = match estate.cloud.regions().await {
            Ok(regions) => (regions, None),
            Err(e) => (
                vec![region.to_owned()],
                Some(format!(
                    "regions could not be listed ({e}): the trail was read in {region} and {GLOBAL_REGION} only"
                )),
            ),
        };
        if !regions.iter().any(|r| r == GLOBAL_REGION) {
            regions.push(GLOBAL_REGION.into());
        }
        (Window { regions, from, to }, end)
    }
}

/// Walks from these starts until nothing is left to ask.
pub(super) async fn walk(
    estate: &Estate,
    account: &str,
    starts: Vec<Ask>,
    window: &Window,
) -> Walk {
    let mut walk = Walk::from(account, starts);
    while let Some(ask) = walk.next_ask() {
        for region in &window.regions {
            match events(estate, ask.by(), region, window).await {
                Ok((events, whole)) => {
                    walk.feed(&ask, &events);
                    if !whole {
                        walk.fail(
                            &ask,
                            &format!("{region} has more than {} events", PAGES * 50),
                        );
                    }
                }
                Err(e) => walk.fail(&ask, &format!("{region}: {}", e.detail)),
            }
        }
    }
    walk
}

/// Events of one attribute in one region, newest first, and whether that is all of them.
pub(super) async fn events(
    estate: &Estate,
    by: TrailBy,
    region: &str,
    window: &Window,
) -> Result<(Vec<TrailEvent>, bool), PortError> {
    let mut all = Vec::new();
    let mut page = None;
    for _ in 0..PAGES {
        let query = TrailQuery {
            region: region.to_owned(),
            by: Some(by.clone()),
            from: window.from,
            to: window.to,
            page,
        };
        let found = estate.cloud.trail(&query).await?;
        all.extend(found.items);
        match found.next {
            Some(next) => page = Some(next),
            None => return Ok((all, true)),
        }
    }
    Ok((all, false))
}
