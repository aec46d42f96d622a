//! Verifying an incident folder: its ledger and all its bags; the worst verdict wins.

use super::ledger::LedgerView;
use super::report::{Book, Report, Severity};
use super::{Given, Policy, bag, pinned};
use crate::encoding::{Hash, hex};
use crate::ledger::LEDGER;
use crate::seal::SEAL;
use crate::source::{BagSource, Kind, Listed, SubSource};
use std::collections::{BTreeMap, BTreeSet};

/// One bag of the folder.
struct Found<'a> {
    dir: String,
    source: SubSource<'a>,
    /// Number by its folder's name.
    number: Option<u32>,
    prev_seal: Option<Hash>,
}

pub(super) fn verify(
    source: &dyn BagSource,
    listed: &[Listed],
    policy: &Policy,
    given: &Given<'_>,
) -> Report {
    let mut book = Book::default();
    let bags = find_bags(&mut book, source, listed);
    let claims: Vec<_> = bags
        .iter()
        .filter_map(|found| bag::claimed_seal(&found.source))
        .collect();
    let sizes: Vec<u64> = claims
        .iter()
        .map(|seal| seal.ledger_size)
        .chain(given.at_least.map(|head| head.size))
        .collect();
    let base = claims.first().map(|seal| seal.origin.clone());
    let ledger = LedgerView::check(
        &mut book,
        source,
        &sizes,
        &given.fingerprints,
        base.as_deref(),
    );
    if let Some(head) = given.at_least {
        ledger.check_at_least(&mut book, head);
    }
    if ledger.there {
        pinned::check(&mut book, source, listed, &ledger.pins);
    }
    let mut bags = bags;
    let mut reports = Vec::new();
    for found in &mut bags {
        reports.push(verify_bag(found, policy, given, &ledger));
    }
    check_numbers(&mut book, &bags, &ledger);
    check_seals(&mut book, &bags, &reports, &claims, given);
    // Leftovers of writes outside the signed files are no part of the evidence; they are named.
    for item in listed
        .iter()
        .filter(|item| item.kind == Kind::Other && !item.path.starts_with("bags/"))
    {
        book.wrong(
            "C01",
            &item.path,
            "a regular file or folder",
            "a link or a special file",
        );
    }
    book.pass("C01", "ledger and bags in their places");
    ["C02", "C03", "C04", "C05", "C06", "C07", "C19"]
        .iter()
        .for_each(|check| book.skip(check, "made for each bag, see there", ""));
    if given.expect_seal.is_none() && given.at_least.is_none() {
        book.skip(
            "C18",
            "the reader gave no seal and no head to compare with",
            "--expect-seal HEX or --at-least SIZE:ROOT, from paper",
        );
    }
    book.pass("C18", "the incident is what the reader expects");
    book.anchored = given.at_least.is_some() && !book.has_failed("C18");
    book.name = book
        .ledger
        .as_ref()
        .map_or_else(|| "(unnamed)".to_owned(), |ledger| ledger.incident.clone());
    book.bags = reports;
    book.into_report("incident", policy)
}

fn find_bags<'a>(book: &mut Book, source: &'a dyn BagSource, listed: &[Listed]) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    let top = listed.iter().filter(|item| {
        item.path
            .strip_prefix("bags/")
            .is_some_and(|rest| !rest.contains('/'))
    });
    for item in top {
        if item.kind != Kind::Dir {
            book.wrong("C01", &item.path, "a bag", "a file or a link");
            continue;
        }
        let number = item
            .path
            .rsplit_once('_')
            .and_then(|(_, number)| number.parse().ok());
        if number.is_none() {
            book.wrong(
                "C01",
                &item.path,
                "a folder <INCIDENT>_<NNNN>",
                "another name",
            );
        }
        found.push(Found {
            dir: item.path.clone(),
            source: SubSource::new(source, &item.path, listed),
            number,
            prev_seal: None,
        });
    }
    found
}

fn verify_bag(
    found: &mut Found<'_>,
    policy: &Policy,
    given: &Given<'_>,
    ledger: &LedgerView,
) -> Report {
    let listed = found.source.list().unwrap_or_default();
    let given = Given {
        ledger: None,
        ..given.clone()
    };
    let mut book = bag::check(
        Book::default(),
        &found.source,
        &listed,
        &given,
        None,
        Some(ledger),
    );
    found.prev_seal = bag::claimed_seal(&found.source).map(|seal| seal.prev_seal);
    let folder = found.dir.trim_start_matches("bags/");
    if book.seal.is_some() && book.name != folder {
        let name = book.name.clone();
        book.wrong("C01", crate::manifest::BAG_INFO, folder, &name);
    }
    book.name = folder.to_owned();
    book.skip("C15", "made for the whole incident, see there", "");
    book.skip("C18", "made for the whole incident, see there", "");
    book.skip("C21", "made for the whole incident, see there", "");
    book.into_report("bag", policy)
}

/// Numbers start at 0001 and have no gaps; every bag that was opened or sealed is here.
fn check_numbers(book: &mut Book, bags: &[Found<'_>], ledger: &LedgerView) {
    let here: BTreeSet<u32> = bags.iter().filter_map(|found| found.number).collect();
    let sealed: BTreeSet<u32> = ledger.sealed.iter().map(|(number, ..)| *number).collect();
    for number in sealed.difference(&here) {
        book.wrong(
            "C15",
            &format!("bags/…_{number:04}"),
            "the bag that the ledger says was sealed",
            "no such folder: it was withheld",
        );
    }
    // A seal is durable before its entry: once the ledger has it, no crash takes it away.
    for found in bags.iter().filter(|found| {
        found.prev_seal.is_none() && found.number.is_some_and(|n| sealed.contains(&n))
    }) {
        book.wrong(
            "C15",
            &format!("{}/{}", found.dir, crate::seal::SEAL),
            "the seal that the ledger says was made",
            "no seal that can be read: it was taken away",
        );
    }
    for number in ledger
        .opened
        .difference(&here)
        .filter(|number| !sealed.contains(number))
    {
        let path = format!("bags/…_{number:04}");
        book.fail(
            "C15",
            Severity::Incomplete,
            &path,
            None,
            "the bag that the ledger says was opened",
            "no such folder: resume the incident, or it was withheld",
        );
    }
    let known: BTreeSet<u32> = here
        .iter()
        .chain(&ledger.opened)
        .chain(&sealed)
        .copied()
        .collect();
    for (expected, number) in (1..).zip(&known) {
        if expected != *number {
            book.wrong(
                "C15",
                LEDGER,
                &format!("bag {expected:04}"),
                &format!("a gap before bag {number:04}"),
            );
            break;
        }
    }
    for number in here.difference(&ledger.opened).filter(|_| ledger.there) {
        book.wrong(
            "C15",
            LEDGER,
            &format!("a bag.opened entry for bag {number:04}"),
            "none",
        );
    }
}

/// The seals form one line: each names the one before, exactly one names none.
fn check_seals(
    book: &mut Book,
    bags: &[Found<'_>],
    reports: &[Report],
    claims: &[crate::seal::Seal],
    given: &Given<'_>,
) {
    let mut by_seal: BTreeMap<String, &str> = BTreeMap::new();
    for (found, report) in bags.iter().zip(reports) {
        if let Some(seal) = &report.seal {
            by_seal.insert(seal.seal_sha256.clone(), &found.dir);
        }
    }
    let mut named: BTreeMap<Hash, &str> = BTreeMap::new();
    for found in bags {
        let Some(prev) = found.prev_seal else {
            continue;
        };
        let path = format!("{}/{SEAL}", found.dir);
        if prev != [0; 32] && !by_seal.contains_key(&hex(&prev)) {
            book.wrong(
                "C15",
                &path,
                &format!("the seal before, {}", hex(&prev)),
                "no such seal here",
            );
        }
        if let Some(twin) = named.insert(prev, &found.dir) {
            book.wrong("C15", &path, "a seal before that no other bag names", twin);
        }
    }
    for pair in claims.windows(2) {
        if pair[0].origin != pair[1].origin {
            book.wrong(
                "C15",
                &format!("bag {:04}", pair[1].bag),
                &pair[0].origin,
                &pair[1].origin,
            );
        }
    }
    if let Some(expected) = given.expect_seal
        && !by_seal.contains_key(&hex(&expected))
    {
        book.wrong(
            "C18",
            "bags",
            &format!("a bag with seal {}", hex(&expected)),
            "none",
        );
    }
    book.pass(
        "C15",
        &format!("{} seals in one line, numbers without gaps", by_seal.len()),
    );
}
