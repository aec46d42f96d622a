//! What the verifier says: checks, findings, and the verdict that follows from them.

use super::{Anchor, Policy};
use crate::encoding::Hash;
use serde::Serialize;
use std::collections::BTreeMap;

/// Every check by its number, with what it looks at.
pub const CHECKS: [(&str, &str); 21] = [
    ("C01", "layout and names"),
    ("C02", "payload manifest"),
    ("C03", "tag manifest"),
    ("C04", "seal form and signature"),
    ("C05", "seal names these manifests and this map"),
    (
        "C06",
        "checkpoint form and signature, equal to the seal's tree",
    ),
    ("C07", "root recomputed from every record and salt"),
    ("C08", "packs and index"),
    ("C09", "signer trusted"),
    ("C10", "epoch range"),
    ("C11", "revocation"),
    ("C12", "time stamps"),
    ("C13", "ledger chain, signed heads, this seal's place in it"),
    ("C14", "witness quorum"),
    ("C15", "previous seal, bag numbers"),
    ("C16", "custody signatures and continuity"),
    ("C17", "approvals"),
    ("C18", "what the reader expects"),
    ("C19", "recoveries after a crash"),
    ("C20", "ingest checks re-run"),
    ("C21", "files that the ledger pins by digest"),
];

/// What no verifier of ours can check; printed always, also after exit 0.
const NEVER_CHECKED: [&str; 6] = [
    "what happened before acquisition",
    "whether acquisition was complete",
    "the host clock, beyond a time stamp",
    "who held the private key",
    "anything after the last anchored head",
    "whether the last custody record is absent",
];

/// Why a check that nobody touched was not made, and what would make it.
const OUT_OF_SCOPE: [(&str, &str, &str); 10] = [
    (
        "C08",
        "packs and index.bin are derived files that this version does not write or read",
        "nothing is lost: C07 reads every record",
    ),
    (
        "C10",
        "key epochs are not judged without a ledger",
        "give the ledger with --ledger",
    ),
    (
        "C11",
        "this version reads no revocations",
        "compare the fingerprint with the newest printed form",
    ),
    (
        "C12",
        "this version reads no time stamps",
        "openssl ts -verify -data seal/seal.note -in seal/seal.note.tsr -CAfile TSA-CA.pem -attime TIME",
    ),
    (
        "C14",
        "this version reads no cosignatures",
        "check the ledger checkpoint with a witness's own tool",
    ),
    (
        "C15",
        "one bag alone shows no neighbours",
        "verify the incident folder",
    ),
    (
        "C16",
        "this version reads no hand-overs",
        "ssh-keygen -Y verify over each custody record, as VERIFY.sh of a later release does",
    ),
    (
        "C17",
        "firebreak checked each approval when it was given; no verifier checks it again",
        "ssh-keygen -Y verify -f trust/allowed_signers -I PRINCIPAL -n approval@firebreak -s TEXT.sig < TEXT, with text and signature of each gate.decided entry; a drill's are of approval-drill@firebreak",
    ),
    (
        "C20",
        "this version re-runs no ingest checks",
        "repeat the checks that the acquisition records name",
    ),
    (
        "C21",
        "the files that entries pin stand in the incident folder",
        "verify the incident folder",
    ),
];

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be known; it changes no verdict.
    Note,
    /// A file that no signature covers.
    Unprotected,
    /// Kept after a crash.
    Recovered,
    /// The signer is not known to the reader.
    Untrusted,
    /// Something is not signed.
    Unsealed,
    /// Something could not be checked to its end.
    Incomplete,
    /// Present and wrong.
    Tampered,
}

/// What is wrong, where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check found it.
    pub check: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// Which file.
    pub path: String,
    /// Which record or entry, where that is known.
    pub record: Option<u64>,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    /// Made, nothing wrong.
    #[serde(rename = "PASSED")]
    Passed,
    /// Made, something wrong.
    #[serde(rename = "FAILED")]
    Failed,
    /// Not made, or not to its end.
    #[serde(rename = "NOT CHECKED")]
    NotChecked,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// C01 to C21.
    pub id: &'static str,
    /// What it looks at.
    pub name: &'static str,
    /// How it ended.
    pub state: State,
    /// Why it ended so.
    pub reason: String,
    /// What would check it.
    pub how: String,
}

/// The verdict, best first; the worst finding decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All bytes, trusted signer, pinned from outside.
    IntactAnchored,
    /// All bytes, trusted signer, nothing pins it in time.
    FreshnessNotProven,
    /// Recovered after a crash; otherwise as the two above.
    RecoveredTail,
    /// Consistent in itself; the reader has not said whose key it is.
    SignerNotTrusted,
    /// Not sealed.
    Unsealed,
    /// Could not be checked to the end.
    Incomplete,
    /// Present and wrong.
    Tampered,
}

impl Verdict {
    /// Returns its words.
    pub fn words(self) -> &'static str {
        match self {
            Self::IntactAnchored => "INTACT+ANCHORED",
            Self::FreshnessNotProven => "INTACT, FRESHNESS NOT PROVEN",
            Self::RecoveredTail => "RECOVERED TAIL",
            Self::SignerNotTrusted => "INTACT, SIGNER NOT TRUSTED",
            Self::Unsealed => "UNSEALED",
            Self::Incomplete => "INCOMPLETE",
            Self::Tampered => "TAMPERED",
        }
    }

    /// Returns the exit code.
    pub fn exit(self, policy: &Policy) -> u8 {
        match self {
            Self::IntactAnchored => 0,
            Self::FreshnessNotProven if policy.anchor == Anchor::Required => 20,
            Self::FreshnessNotProven => 0,
            Self::RecoveredTail => 22,
            Self::SignerNotTrusted => 21,
            Self::Unsealed => 23,
            Self::Incomplete => 24,
            Self::Tampered => 6,
        }
    }
}

/// What the seal says, once its signature is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SealFacts {
    /// Base origin.
    pub origin: String,
    /// Number of the bag.
    pub bag: u32,
    /// SHA-256 of the seal.
    pub seal_sha256: String,
    /// Fingerprint of the key, in groups of four.
    pub fingerprint: String,
    /// Records.
    pub tree_size: u64,
    /// Root in base64.
    pub root: String,
    /// Payload bytes.
    pub bytes: u64,
    /// Payload files.
    pub files: u64,
    /// How often it was recovered.
    pub recoveries: u64,
    /// Size of the ledger that it names.
    pub ledger_size: u64,
    /// When it was closed, by the host's claim.
    pub closed: String,
}

/// What the ledger holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerFacts {
    /// The incident.
    pub incident: String,
    /// Live or drill.
    pub mode: String,
    /// Entries stored.
    pub size: u64,
    /// Root over them in base64.
    pub root: String,
    /// Entries under the newest signed head.
    pub signed_size: u64,
    /// Fingerprint of the key, in groups of four.
    pub fingerprint: Option<String>,
}

/// A bag of which every byte was checked under a key that the reader named. Only [`super::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBag {
    facts: SealFacts,
    seal_sha256: Hash,
}

impl VerifiedBag {
    pub(super) fn new(facts: SealFacts, seal_sha256: Hash) -> Self {
        Self { facts, seal_sha256 }
    }

    /// Returns what its seal says.
    pub fn facts(&self) -> &SealFacts {
        &self.facts
    }

    /// Returns the SHA-256 of its seal.
    pub fn seal_sha256(&self) -> &Hash {
        &self.seal_sha256
    }
}

/// Everything the verifier has to say.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this report, 1.
    pub v: u32,
    /// `bag`, `incident` or `unknown`.
    pub what: &'static str,
    /// Name of the bag or incident, by its own claim.
    pub name: String,
    /// The verdict in words; TAMPERED says where.
    pub verdict: String,
    /// The exit code.
    pub exit: u8,
    /// Every check.
    pub checks: Vec<Check>,
    /// Every finding, in order.
    pub findings: Vec<Finding>,
    /// What was not checked; never empty.
    pub not_checked: Vec<String>,
    /// The seal, once its signature is good.
    pub seal: Option<SealFacts>,
    /// The ledger, if there is one.
    pub ledger: Option<LedgerFacts>,
    /// The bags of an incident.
    pub bags: Vec<Report>,
    /// The verdict as a value.
    #[serde(skip)]
    pub kind: Verdict,
    /// What may be built upon.
    #[serde(skip)]
    pub verified: Vec<VerifiedBag>,
}

/// Gathers checks and findings while a verification runs.
#[derive(Default)]
pub(super) struct Book {
    pub(super) findings: Vec<Finding>,
    states: BTreeMap<&'static str, (State, String, String)>,
    pub(super) anchored: bool,
    pub(super) name: String,
    pub(super) seal: Option<SealFacts>,
    pub(super) ledger: Option<LedgerFacts>,
    pub(super) bags: Vec<Report>,
    pub(super) seal_sha256: Option<Hash>,
    /// The bag has no seal: what sealing writes may be half made, because a crash or a full disk leaves it so.
    pub(super) unsealed: bool,
}

/// Whether a finding is about what sealing itself writes before the seal; until then nothing signs it, and a crash may have cut it.
fn made_by_sealing(check: &str, path: &str) -> bool {
    let facts = path == crate::manifest::BAGIT
        || path == crate::manifest::BAG_INFO
        || path.starts_with("acquisition/");
    matches!(check, "C02" | "C03" | "C04" | "C07") || (check == "C01" && facts)
}

impl Book {
    /// Notes a finding; its check has failed unless the finding is only to be known.
    pub(super) fn fail(
        &mut self,
        check: &'static str,
        severity: Severity,
        path: &str,
        record: Option<u64>,
        expected: &str,
        found: &str,
    ) {
        let severity = match severity {
            Severity::Tampered if self.unsealed && made_by_sealing(check, path) => {
                Severity::Unsealed
            }
            other => other,
        };
        let (path, expected, found) = (path.to_owned(), expected.to_owned(), found.to_owned());
        let state = match severity {
            Severity::Note | Severity::Unprotected => None,
            Severity::Incomplete | Severity::Unsealed | Severity::Untrusted => {
                Some(State::NotChecked)
            }
            Severity::Recovered | Severity::Tampered => Some(State::Failed),
        };
        if let Some(state) = state {
            let failed_before = self
                .states
                .get(check)
                .is_some_and(|(state, ..)| *state == State::Failed);
            if !failed_before {
                self.states
                    .insert(check, (state, format!("{path}: {found}"), String::new()));
            }
        }
        self.findings.push(Finding {
            check,
            severity,
            path,
            record,
            expected,
            found,
        });
    }

    /// Something present is wrong.
    pub(super) fn wrong(&mut self, check: &'static str, path: &str, expected: &str, found: &str) {
        self.fail(check, Severity::Tampered, path, None, expected, found);
    }

    /// Says that a check was made; it has passed unless a finding says otherwise.
    pub(super) fn pass(&mut self, check: &'static str, reason: &str) {
        self.states
            .entry(check)
            .or_insert_with(|| (State::Passed, reason.to_owned(), String::new()));
    }

    /// Says that a check was not made, and what would make it.
    pub(super) fn skip(&mut self, check: &'static str, reason: &str, how: &str) {
        self.states
            .entry(check)
            .or_insert_with(|| (State::NotChecked, reason.to_owned(), how.to_owned()));
    }

    /// Whether anything of this check has failed.
    pub(super) fn has_failed(&self, check: &str) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.check == check && finding.severity >= Severity::Untrusted)
    }

    pub(super) fn into_report(mut self, what: &'static str, policy: &Policy) -> Report {
        for (id, reason, how) in OUT_OF_SCOPE {
            self.skip(id, reason, how);
        }
        let own = self.own_verdict();
        let worst = self.bags.iter().map(|bag| bag.kind).chain([own]).max();
        let kind = worst.unwrap_or(own);
        let checks = self.checks();
        let mut not_checked: Vec<String> = checks
            .iter()
            .filter(|check| check.state == State::NotChecked)
            .map(|check| format!("{} {}: {}", check.id, check.name, check.reason))
            .collect();
        not_checked.extend(NEVER_CHECKED.map(str::to_owned));
        Report {
            v: 1,
            what,
            verdict: self.verdict_text(kind),
            exit: kind.exit(policy),
            checks,
            not_checked,
            verified: self.verified(kind),
            kind,
            name: self.name,
            findings: self.findings,
            seal: self.seal,
            ledger: self.ledger,
            bags: self.bags,
        }
    }

    fn own_verdict(&self) -> Verdict {
        match self.findings.iter().map(|finding| finding.severity).max() {
            Some(Severity::Tampered) => Verdict::Tampered,
            Some(Severity::Incomplete) => Verdict::Incomplete,
            Some(Severity::Unsealed) => Verdict::Unsealed,
            Some(Severity::Untrusted) => Verdict::SignerNotTrusted,
            Some(Severity::Recovered) => Verdict::RecoveredTail,
            _ if self.anchored => Verdict::IntactAnchored,
            _ => Verdict::FreshnessNotProven,
        }
    }

    fn verdict_text(&self, kind: Verdict) -> String {
        let own = self
            .findings
            .iter()
            .find(|finding| finding.severity == Severity::Tampered);
        let of_bag = self.bags.iter().find(|bag| bag.kind == Verdict::Tampered);
        match (kind, own, of_bag) {
            (
                Verdict::Tampered,
                Some(Finding {
                    path,
                    record: Some(record),
                    ..
                }),
                _,
            ) => format!("TAMPERED at {path}:{record}"),
            (Verdict::Tampered, Some(finding), _) => format!("TAMPERED at {}", finding.path),
            (Verdict::Tampered, None, Some(bag)) => bag.verdict.replacen(
                "TAMPERED at ",
                &format!("TAMPERED at bags/{}/", bag.name),
                1,
            ),
            _ => kind.words().to_owned(),
        }
    }

    fn checks(&self) -> Vec<Check> {
        let state = |(id, name): (&'static str, &'static str)| {
            let (state, reason, how) = self.states.get(id).cloned().unwrap_or_else(|| {
                (
                    State::NotChecked,
                    "nothing here to check it on".to_owned(),
                    String::new(),
                )
            });
            Check {
                id,
                name,
                state,
                reason,
                how,
            }
        };
        CHECKS.map(state).into()
    }

    /// Only a bag of its own, with every byte checked under a trusted key.
    fn verified(&self, kind: Verdict) -> Vec<VerifiedBag> {
        let good = matches!(
            kind,
            Verdict::IntactAnchored | Verdict::FreshnessNotProven | Verdict::RecoveredTail
        );
        match (&self.seal, self.seal_sha256) {
            (Some(facts), Some(seal_sha256)) if good => {
                vec![VerifiedBag::new(facts.clone(), seal_sha256)]
            }
            _ => self
                .bags
                .iter()
                .flat_map(|bag| bag.verified.clone())
                .collect(),
        }
    }
}
