//! Damaged input: every parser answers, none panics, and what it accepts it would have written itself.
#![allow(missing_docs, reason = "a test crate has no reader of docs")]

mod scene;

use firebreak_evidence::checkpoint::Checkpoint;
use firebreak_evidence::entry::Entry;
use firebreak_evidence::manifest::{BagInfo, parse as parse_manifest};
use firebreak_evidence::map::Map;
use firebreak_evidence::note::{parse_pem, pem, split_note};
use firebreak_evidence::seal::Seal;
use firebreak_evidence::{json, path};
use scene::{bag_of, incident, verdict};

/// A small deterministic generator (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }

    /// Cuts, repeats, overwrites or inserts somewhere.
    fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.below(3) {
            let (at, len) = (self.below(damaged.len()), self.below(9));
            let end = damaged.len().min(at + len);
            match self.below(5) {
                0 => damaged.truncate(at),
                1 => _ = damaged.drain(at..end),
                2 => {
                    let copy = damaged[at..end].to_vec();
                    damaged.splice(at..at, copy);
                }
                3 if !damaged.is_empty() => damaged[at] = self.below(256) as u8,
                _ => damaged.insert(at, b"\n \t\0/.=\"{}0\xff\xe2"[self.below(13)]),
            }
        }
        damaged
    }
}

#[test]
fn parsers_accept_only_what_they_would_write() {
    let all = incident();
    let bag = bag_of(&all, 2);
    let mut random = Random(7);
    let (mut accepted, rounds) = (0, 4000);
    for _ in 0..rounds {
        let note = random.damage(&bag.files["seal/seal.note"]);
        if let Ok((body, _)) = split_note(&note)
            && let Ok(seal) = Seal::parse(body)
        {
            assert_eq!(seal.body(), body);
            accepted += 1;
        }
        let note = random.damage(&bag.files["tlog/checkpoint"]);
        if let Some(head) = split_note(&note)
            .ok()
            .and_then(|(body, _)| Checkpoint::parse(body))
        {
            assert!(note.starts_with(head.body().as_bytes()));
            accepted += 1;
        }
        let map = random.damage(&bag.files["tlog/map.tsv"]);
        if let Ok(parsed) = Map::parse(&map) {
            assert_eq!(parsed.to_text().as_bytes(), map);
            accepted += 1;
        }
        let info = random.damage(&bag.files["bag-info.txt"]);
        if let Some(parsed) = BagInfo::parse(&info) {
            assert_eq!(parsed.to_text().as_bytes(), info);
            accepted += 1;
        }
        let key = random.damage(&bag.files["keys/log.pem"]);
        if let Some(parsed) = parse_pem(&key) {
            assert_eq!(pem(&parsed).as_bytes(), key);
            accepted += 1;
        }
        let manifest = random.damage(&bag.files["manifest-sha256.txt"]);
        let (lines, _) = parse_manifest(&manifest);
        assert!(lines.iter().all(|line| path::check(&line.path).is_ok()));
        let line = random.damage(&all.files["ledger/ledger.jsonl"]);
        let line = line
            .split_inclusive(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        if let Ok(entry) = Entry::parse(line) {
            assert!(json::check_integers(&entry.body).is_ok());
            accepted += 1;
        }
    }
    assert!(
        accepted > rounds / 10,
        "the damage is not so great that nothing is tried: {accepted}"
    );
}

#[test]
fn the_verifier_answers_whatever_the_damage_and_never_with_a_pass() {
    let bag = bag_of(&incident(), 2);
    let names: Vec<&String> = bag.files.keys().collect();
    let mut random = Random(11);
    for round in 0..600 {
        let mut mutant = bag.clone();
        let name = names[random.below(names.len())];
        let damaged = random.damage(&bag.files[name]);
        if damaged == bag.files[name] {
            continue;
        }
        mutant.files.insert(name.clone(), damaged);
        let report = verdict(&mutant);
        assert!(
            [6, 24].contains(&report.exit),
            "round {round}, {name}\n{report}"
        );
    }
}

#[test]
fn an_incident_with_any_damaged_file_never_passes() {
    let all = incident();
    let names: Vec<&String> = all.files.keys().collect();
    let mut random = Random(13);
    for round in 0..600 {
        let mut mutant = all.clone();
        let name = names[random.below(names.len())];
        let damaged = random.damage(&all.files[name]);
        if damaged == all.files[name] {
            continue;
        }
        mutant.files.insert(name.clone(), damaged);
        let report = verdict(&mutant);
        assert!(
            [6, 23, 24].contains(&report.exit),
            "round {round}, {name}\n{report}"
        );
    }
}
