//! The host's clock goes backwards: what was written keeps its order, nothing is refused, and the document says so.

mod support;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeZone as _, Utc};
use firebreak::adapter::store::DirStore;
use firebreak::cli::exit::Exit;
use firebreak::custody::{Custody, OpenRequest};
use firebreak::incident::{Actor, IncidentId, Mode};
use firebreak::port::{Clock, HostRandom};
use support::user::User;

const ID: &str = "INC-CLOCK-1";

/// A clock that stands in a year after every run of this test.
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2199, 1, 1, 0, 0, 0)
            .single()
            .expect("a time")
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn an_incident_opened_by_a_clock_that_was_ahead_goes_on_and_says_that_the_clock_went_back() {
    let user = User::new("clock-back");
    let folder = user.home.join("fb").join(ID);
    let request = OpenRequest {
        id: IncidentId::parse(ID).expect("an id"),
        mode: Mode::Live,
        org: "unregistered.invalid".into(),
        targets: Vec::new(),
        policy: "solo".into(),
        trust: Default::default(),
        actor: Actor::person("ana@laptop"),
    };
    let store = Box::new(DirStore::open(&folder).expect("a folder"));
    let random = Arc::new(HostRandom);
    drop(Custody::create(store, request, Arc::new(Ahead), random).expect("an incident"));

    user.expect(&["incident", "note", "the clock was set right"], Exit::Ok);
    std::fs::write(user.home.join("note.txt"), "seen at nine").expect("a file");
    let note = user.home.join("note.txt").display().to_string();
    user.expect(&["evidence", "add", &note], Exit::Ok);
    let (log, _) = user.expect(&["log"], Exit::Ok);
    let lines: Vec<&str> = log.lines().collect();
    assert!(
        lines[0].contains("2199-01-01") && !lines[1].contains("2199"),
        "{log}"
    );
    assert!(lines[1].contains("the clock was set right"), "{log}");
    user.expect(&["report", "build"], Exit::Ok);
    let (open, _) = user.expect(&["report", "check"], Exit::Parked);
    assert!(
        open.contains("FB1007") && open.contains("before entry 1"),
        "{open}"
    );
    let (verdict, _) = user.expect(&["verify", "--last"], Exit::Ok);
    assert!(verdict.contains("INTACT"), "{verdict}");
}
