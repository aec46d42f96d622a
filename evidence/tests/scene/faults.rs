//! The golden evidence: good bags and incidents, and bad ones that hold one fault each and are named by it.

use super::{
    BASE, Desk, INCIDENT, Payload, acquisition, bag_of, fill, incident, intruder, signer, spec,
    without_state,
};
use firebreak_evidence::bag::{BAG_CHECKPOINT, BAG_KEY, BAG_VKEYS, BagWriter, Resumed, SALT_KEY};
use firebreak_evidence::checkpoint::{Checkpoint, bag_origin, ledger_origin};
use firebreak_evidence::encoding::{base64, hex, sha256, unbase64};
use firebreak_evidence::manifest::{BAG_INFO, MANIFEST, ManifestLine, TAG_MANIFEST, to_text};
use firebreak_evidence::map::MAP;
use firebreak_evidence::memory::{Crash, MemorySink, MemorySource};
use firebreak_evidence::note::{SeedSigner, Signer as _, pem, sign_note, vkey};
use firebreak_evidence::record::Mode;
use firebreak_evidence::seal::{SEAL, Seal};
use serde_json::json;

/// What `VERIFY.sh` must say of a golden bag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// The same exit code as firebreak-verify.
    Agrees,
    /// It cannot see this fault and must list the named check as NOT CHECKED.
    NotChecked(&'static str),
    /// It reads bags only.
    NotABag,
}

/// One golden folder.
pub struct Golden {
    pub name: &'static str,
    pub files: MemorySource,
    pub exit: u8,
    pub script: Script,
}

/// Every golden folder, in order of the name within good and bad.
pub fn all() -> Vec<Golden> {
    let all = incident();
    let (vector, mixed) = (bag_of(&all, 1), bag_of(&all, 2));
    let mut with_form = vector.clone();
    put(
        &mut with_form,
        "forms/custody-form.html",
        b"<p>for ink</p>\n",
    );
    let mut golden = vec![
        Golden {
            name: "good_with_a_form",
            files: with_form,
            exit: 0,
            script: Script::Agrees,
        },
        Golden {
            name: "good_vector",
            files: vector.clone(),
            exit: 0,
            script: Script::Agrees,
        },
        Golden {
            name: "good_mixed",
            files: mixed.clone(),
            exit: 0,
            script: Script::Agrees,
        },
        Golden {
            name: "good_recovered",
            files: recovered(),
            exit: 22,
            script: Script::Agrees,
        },
        Golden {
            name: "incident_good",
            files: all.clone(),
            exit: 0,
            script: Script::NotABag,
        },
    ];
    for (name, exit, script, fault) in BAG_FAULTS {
        let mut files = mixed.clone();
        fault(&mut files, &vector);
        golden.push(Golden {
            name,
            files,
            exit: *exit,
            script: *script,
        });
    }
    for (name, exit, fault) in INCIDENT_FAULTS {
        let mut files = all.clone();
        fault(&mut files);
        golden.push(Golden {
            name,
            files,
            exit: *exit,
            script: Script::NotABag,
        });
    }
    golden
}

type BagFault = (
    &'static str,
    u8,
    Script,
    fn(&mut MemorySource, &MemorySource),
);

const LOG: &str = "data/auth.log/00000.log";

const BAG_FAULTS: &[BagFault] = &[
    ("file_added", 6, Script::Agrees, |bag, _| {
        put(bag, "data/extra/00000.log", b"extra\n")
    }),
    ("file_removed", 6, Script::Agrees, |bag, _| take(bag, LOG)),
    ("file_emptied", 6, Script::Agrees, |bag, _| {
        put(bag, LOG, b"")
    }),
    ("file_renamed", 6, Script::Agrees, |bag, _| {
        rename(bag, LOG, "data/auth.log/00001.log")
    }),
    ("file_case_twin", 6, Script::Agrees, |bag, _| {
        put(bag, "keys/LOG.pem", b"x")
    }),
    ("file_is_a_link", 6, Script::Agrees, |bag, _| {
        take(bag, "VERIFY.txt");
        bag.others.push("VERIFY.txt".to_owned());
    }),
    ("tag_file_added", 6, Script::Agrees, |bag, _| {
        put(bag, "keys/other.pem", b"x")
    }),
    ("tag_file_changed", 6, Script::Agrees, |bag, _| {
        edit(bag, "acquisition/auth.log.json", "ana@", "bob@")
    }),
    ("byte_changed", 6, Script::Agrees, |bag, _| {
        edit(bag, LOG, "beta", "bets")
    }),
    ("record_dropped", 6, Script::Agrees, |bag, _| {
        edit(bag, LOG, "beta\n", "")
    }),
    ("records_swapped", 6, Script::Agrees, |bag, _| {
        put(bag, LOG, b"beta\nalpha\ngamma\n")
    }),
    ("record_duplicated", 6, Script::Agrees, |bag, _| {
        put(bag, LOG, b"alpha\nalpha\nbeta\ngamma\n")
    }),
    ("final_lf_dropped", 6, Script::Agrees, |bag, _| {
        put(bag, LOG, b"alpha\nbeta\ngamma")
    }),
    ("manifest_line_duplicated", 6, Script::Agrees, |bag, _| {
        manifest_lines(bag, |lines| lines.insert(0, lines[0].clone()))
    }),
    ("manifest_lines_reordered", 6, Script::Agrees, |bag, _| {
        manifest_lines(bag, |lines| lines.swap(0, 1))
    }),
    ("manifest_upper_case", 6, Script::Agrees, |bag, _| {
        manifest_lines(bag, |lines| {
            lines[0] = lines[0][..64].to_uppercase() + &lines[0][64..]
        });
    }),
    (
        "payload_changed_manifests_rebuilt",
        6,
        Script::Agrees,
        |bag, _| {
            edit(bag, LOG, "beta", "bets");
            rebuild_manifests(bag);
        },
    ),
    ("map_range_shifted", 6, Script::Agrees, |bag, _| {
        edit(bag, MAP, "0\t3\t", "1\t3\t")
    }),
    ("salt_key_replaced", 6, Script::Agrees, |bag, _| {
        put(bag, SALT_KEY, &[9; 32])
    }),
    ("checkpoint_missing", 6, Script::Agrees, |bag, _| {
        take(bag, BAG_CHECKPOINT)
    }),
    (
        "checkpoint_of_another_bag",
        6,
        Script::Agrees,
        |bag, other| copy(bag, other, BAG_CHECKPOINT),
    ),
    ("seal_missing", 23, Script::Agrees, |bag, _| take(bag, SEAL)),
    ("seal_of_another_bag", 6, Script::Agrees, |bag, other| {
        copy(bag, other, SEAL)
    }),
    ("seal_wrong_key", 6, Script::Agrees, |bag, _| {
        let seal = seal_of(bag);
        put_seal(bag, &seal, &intruder());
    }),
    ("seal_signed_twice", 6, Script::Agrees, |bag, _| {
        let note = text(bag, SEAL);
        let line = note.lines().last().unwrap_or_default().to_owned();
        put(bag, SEAL, format!("{note}{line}\n").as_bytes());
    }),
    ("seal_with_bytes_after", 6, Script::Agrees, |bag, _| {
        edit(bag, SEAL, "=\n", "=\nx")
    }),
    ("seal_crlf", 6, Script::Agrees, |bag, _| {
        edit(bag, SEAL, "\n", "\r\n")
    }),
    ("seal_base64_not_canonical", 6, Script::Agrees, |bag, _| {
        second_spelling(bag)
    }),
    ("seal_s_too_large", 6, Script::Agrees, |bag, _| {
        s_plus_l(bag)
    }),
    ("seal_small_order_key", 6, Script::Agrees, |bag, _| {
        identity_key(bag)
    }),
    ("resealed_with_another_key", 6, Script::Agrees, |bag, _| {
        resign(bag, &intruder())
    }),
    (
        "signed_root_of_other_records",
        6,
        Script::NotChecked("C07"),
        |bag, _| {
            // The signer itself lies: manifests and seal are of one piece, the tree is of other records.
            edit(bag, LOG, "beta", "bets");
            resign(bag, &signer());
        },
    ),
    ("format_version_unknown", 24, Script::Agrees, |bag, _| {
        edit(bag, BAG_INFO, "Profile: v1", "Profile: v2");
        resign(bag, &signer());
    }),
    ("redacted_copy", 24, Script::Agrees, |bag, _| {
        put(bag, "tlog/redacted.tsv", b"0\t0\tx\tprivacy\n")
    }),
    ("open_bag", 23, Script::Agrees, |bag, _| *bag = open_bag()),
];

type IncidentFault = (&'static str, u8, fn(&mut MemorySource));

const LINES: &str = "ledger/ledger.jsonl";

const INCIDENT_FAULTS: &[IncidentFault] = &[
    ("ledger_line_edited", 6, |all| {
        edit(all, LINES, "bag.opened", "bag.openes")
    }),
    ("ledger_line_dropped", 6, |all| {
        ledger_lines(all, |lines| _ = lines.remove(1))
    }),
    ("ledger_lines_swapped", 6, |all| {
        ledger_lines(all, |lines| lines.swap(1, 2))
    }),
    ("ledger_key_twice", 6, |all| {
        edit(all, LINES, "\"v\":1,", "\"v\":1,\"v\":1,")
    }),
    ("ledger_truncated", 6, |all| {
        ledger_lines(all, |lines| _ = lines.pop())
    }),
    ("ledger_cut_to_an_older_signed_head", 6, |all| {
        // Genuine lines, a genuine older head: the seals name a larger ledger.
        ledger_lines(all, |lines| lines.truncate(2));
        all.files.insert(
            "ledger/checkpoint".to_owned(),
            all.files["ledger/checkpoints/000000000002.note"].clone(),
        );
        take(all, "ledger/checkpoints/000000000004.note");
    }),
    ("ledger_torn", 24, |all| {
        ledger_lines(all, |lines| lines.push("{\"actor\":".to_owned()))
    }),
    ("ledger_head_by_another_key", 6, |all| {
        let origin = ledger_origin(BASE);
        let note = text(all, "ledger/checkpoint");
        let body = note.split("\n\n").next().unwrap_or_default().to_owned() + "\n";
        let note = sign_note(&body, &origin, &intruder()).unwrap_or_default();
        put(all, "ledger/checkpoint", note.as_bytes());
    }),
    ("ledger_unsigned_tail", 23, |all| {
        put(
            all,
            "ledger/checkpoint",
            &all.files["ledger/checkpoints/000000000004.note"].clone(),
        )
    }),
    ("bag_withheld", 6, |all| {
        all.files
            .retain(|path, _| !path.starts_with("bags/INC-2031_0002/"))
    }),
    ("bag_number_gap", 6, |all| {
        all.files = std::mem::take(&mut all.files)
            .into_iter()
            .map(|(path, bytes)| {
                (
                    path.replace("bags/INC-2031_0002", "bags/INC-2031_0003"),
                    bytes,
                )
            })
            .collect();
    }),
    ("seal_not_in_the_ledger", 24, |all| *all = sealed_and_cut()),
];

fn text(files: &MemorySource, path: &str) -> String {
    String::from_utf8_lossy(&files.files[path]).into_owned()
}

fn put(files: &mut MemorySource, path: &str, bytes: &[u8]) {
    files.files.insert(path.to_owned(), bytes.to_vec());
}

fn take(files: &mut MemorySource, path: &str) {
    files
        .files
        .remove(path)
        .expect("the file that the fault takes away");
}

fn rename(files: &mut MemorySource, from: &str, to: &str) {
    let bytes = files
        .files
        .remove(from)
        .expect("the file that the fault renames");
    put(files, to, &bytes);
}

fn copy(files: &mut MemorySource, other: &MemorySource, path: &str) {
    put(files, path, &other.files[path]);
}

fn edit(files: &mut MemorySource, path: &str, from: &str, to: &str) {
    let old = text(files, path);
    let new = old.replace(from, to);
    assert_ne!(old, new, "the fault must change {path}");
    put(files, path, new.as_bytes());
}

fn manifest_lines(bag: &mut MemorySource, change: fn(&mut Vec<String>)) {
    lines_of(bag, MANIFEST, change);
}

fn ledger_lines(all: &mut MemorySource, change: fn(&mut Vec<String>)) {
    lines_of(all, LINES, change);
}

fn lines_of(files: &mut MemorySource, path: &str, change: fn(&mut Vec<String>)) {
    let mut lines: Vec<String> = text(files, path)
        .lines()
        .map(|line| format!("{line}\n"))
        .collect();
    change(&mut lines);
    put(files, path, lines.concat().as_bytes());
}

fn rebuild_manifests(bag: &mut MemorySource) {
    let lines = |bag: &MemorySource, wanted: fn(&str) -> bool| {
        let lines = bag.files.iter().filter(|(path, _)| wanted(path));
        to_text(
            lines
                .map(|(path, bytes)| ManifestLine {
                    hash: sha256(bytes),
                    path: path.clone(),
                })
                .collect(),
        )
    };
    let payload = lines(bag, |path| path.starts_with("data/"));
    put(bag, MANIFEST, payload.as_bytes());
    let tags = lines(bag, |path| {
        !path.starts_with("data/") && !path.starts_with("seal/") && path != TAG_MANIFEST
    });
    put(bag, TAG_MANIFEST, tags.as_bytes());
}

fn seal_of(bag: &MemorySource) -> Seal {
    Seal::claimed(&bag.files[SEAL]).expect("the seal of a good bag")
}

fn put_seal(bag: &mut MemorySource, seal: &Seal, key: &SeedSigner) {
    let note = sign_note(&seal.body(), &seal.origin, key).expect("a key in memory signs");
    put(bag, SEAL, note.as_bytes());
}

/// Signs everything again after a change, with the tree as it was.
fn resign(bag: &mut MemorySource, key: &SeedSigner) {
    let mut seal = seal_of(bag);
    let origin = bag_origin(&seal.origin, seal.bag);
    let head = Checkpoint {
        origin: origin.clone(),
        size: seal.size,
        root: seal.root,
    };
    let note = sign_note(&head.body(), &origin, key).expect("a key in memory signs");
    put(bag, BAG_CHECKPOINT, note.as_bytes());
    put(bag, BAG_KEY, pem(&key.public_key()).as_bytes());
    let names = [seal.origin.clone(), ledger_origin(&seal.origin), origin];
    let vkeys: String = names
        .iter()
        .map(|name| vkey(name, &key.public_key()) + "\n")
        .collect();
    put(bag, BAG_VKEYS, vkeys.as_bytes());
    rebuild_manifests(bag);
    seal.tag_manifest = sha256(&bag.files[TAG_MANIFEST]);
    put_seal(bag, &seal, key);
}

/// The signature of a seal, changed in place.
fn with_signature(bag: &mut MemorySource, change: fn(&mut Vec<u8>)) {
    let note = text(bag, SEAL);
    let blob = note
        .trim_end()
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .to_owned();
    let mut bytes = unbase64(&blob).expect("the signature of a good seal");
    change(&mut bytes);
    edit(bag, SEAL, &blob, &base64(&bytes));
}

/// The same bytes in a second spelling: 68 bytes leave two bits of the last character free.
fn second_spelling(bag: &mut MemorySource) {
    let note = text(bag, SEAL);
    let at = note.len() - 3;
    let last = note.as_bytes()[at];
    let mut bytes = note.into_bytes();
    bytes[at] = last + 1;
    put(bag, SEAL, &bytes);
}

/// S + L signs the same message for verifiers that do not reduce (RFC 8032, 5.1.7).
fn s_plus_l(bag: &mut MemorySource) {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    with_signature(bag, |blob| {
        let mut carry = 0u16;
        for (byte, l) in blob[36..].iter_mut().zip(L) {
            carry += u16::from(*byte) + u16::from(l);
            *byte = carry as u8;
            carry >>= 8;
        }
    });
}

/// Everything signed under the identity point: R = identity, S = 0 verifies for any message with plain verifiers.
fn identity_key(bag: &mut MemorySource) {
    struct Identity;
    impl firebreak_evidence::note::Signer for Identity {
        fn public_key(&self) -> [u8; 32] {
            let mut point = [0; 32];
            point[0] = 1;
            point
        }
        fn sign(&self, _: &[u8]) -> Result<[u8; 64], firebreak_evidence::note::SignerError> {
            let mut signature = [0; 64];
            signature[0] = 1;
            Ok(signature)
        }
    }
    let mut seal = seal_of(bag);
    put(bag, BAG_KEY, pem(&Identity.public_key()).as_bytes());
    let head = Checkpoint {
        origin: bag_origin(BASE, seal.bag),
        size: seal.size,
        root: seal.root,
    };
    let note = sign_note(&head.body(), &head.origin, &Identity).unwrap_or_default();
    put(bag, BAG_CHECKPOINT, note.as_bytes());
    rebuild_manifests(bag);
    seal.tag_manifest = sha256(&bag.files[TAG_MANIFEST]);
    let note = sign_note(&seal.body(), &seal.origin, &Identity).unwrap_or_default();
    put(bag, SEAL, note.as_bytes());
}

/// A bag that was cut in the middle of a line and resumed.
fn recovered() -> MemorySource {
    let sink = MemorySink::default();
    let mut desk = Desk::open(sink.clone()).expect("an empty disk opens");
    desk.tell("ledger.opened", json!({})).expect("memory");
    let mut bag = desk.open_bag(1).expect("memory");
    bag.start_source("auth.log", Mode::Line).expect("memory");
    bag.write(b"alpha\nbeta\ngam").expect("memory");
    bag.commit(&mut desk.gate, &signer()).expect("memory");
    let disk = sink.after(Crash::PowerCut);
    let sink = MemorySink::holding(disk.clone());
    let mut desk = Desk::open(sink.clone()).expect("the ledger is whole");
    let Ok(Resumed::Open(mut bag, Some(_))) = BagWriter::recover(sink.clone(), &disk, spec(1))
    else {
        panic!("the bag is open");
    };
    bag.finish_source(acquisition("E-0001", "/var/log/auth.log"))
        .expect("memory");
    let _sealed = desk.seal(*bag, [0; 32]).expect("memory");
    bag_of(&sink.snapshot(), 1)
}

/// A bag with a signed head and no seal yet.
fn open_bag() -> MemorySource {
    let sink = MemorySink::default();
    let mut desk = Desk::open(sink.clone()).expect("an empty disk opens");
    let mut bag = desk.open_bag(1).expect("memory");
    fill(&mut bag, &mut desk.gate, Payload::Vector).expect("memory");
    bag_of(&sink.snapshot(), 1)
}

/// An incident whose process died between the seal and its entry.
fn sealed_and_cut() -> MemorySource {
    let sink = MemorySink::default();
    let mut desk = Desk::open(sink.clone()).expect("an empty disk opens");
    desk.tell("ledger.opened", json!({})).expect("memory");
    let mut bag = desk.open_bag(1).expect("memory");
    fill(&mut bag, &mut desk.gate, Payload::Vector).expect("memory");
    let head = desk
        .ledger
        .checkpoint_kept(&mut desk.gate, &signer(), &mut desk.sink)
        .expect("memory");
    let inputs = firebreak_evidence::bag::SealInputs {
        ledger: &head,
        prev_seal_sha256: [0; 32],
        epoch: 1,
        closed: super::CLOSED,
        signer: &signer(),
        gate: &mut desk.gate,
    };
    let _sealed = bag.seal(inputs).expect("memory");
    without_state(sink.snapshot())
}

/// The hex that a reader would have on paper.
pub fn seal_sha256(bag: &MemorySource) -> String {
    hex(&sha256(&bag.files[SEAL]))
}

/// The name of the incident's first bag.
pub fn first_bag() -> String {
    format!("{INCIDENT}_0001")
}
