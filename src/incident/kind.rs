//! Names of the entry kinds. A kind is never renamed: old ledgers must read for ever.

/// The ledger's first entry: [`super::body::LedgerOpened`].
pub const LEDGER_OPENED: &str = "ledger.opened";
/// A torn tail was set aside after a crash.
pub const LEDGER_RECOVERED: &str = "ledger.recovered";
/// A target joined the incident's scope: [`super::body::TargetAdded`].
pub const TARGET_ADDED: &str = "target.added";
/// The incident was declared: [`super::body::IncidentOpened`].
pub const INCIDENT_OPENED: &str = "incident.opened";
/// A note of a person for the timeline: [`super::body::Note`].
pub const INCIDENT_NOTE: &str = "incident.note";
/// The incident was closed: [`super::body::Note`].
pub const INCIDENT_CLOSED: &str = "incident.closed";
/// Text that a person wrote for a section of the document: [`super::body::ReportText`].
pub const REPORT_TEXT: &str = "report.text";
/// The document was built: [`super::body::ReportBuilt`].
pub const REPORT_BUILT: &str = "report.built";

/// A bag's number is taken: [`super::body::BagOpened`].
pub const BAG_OPENED: &str = "bag.opened";
/// A bag is sealed: [`super::body::BagSealed`].
pub const BAG_SEALED: &str = "bag.sealed";
/// An open bag was recovered after a crash.
pub const BAG_RECOVERED: &str = "bag.recovered";
/// An exhibit was taken in: [`super::body::ExhibitAcquired`].
pub const EXHIBIT_ACQUIRED: &str = "exhibit.acquired";
/// A bag was verified: [`super::body::ExhibitChecked`].
pub const EXHIBIT_CHECKED: &str = "exhibit.checked";

/// A plan was kept, so that people can decide about its run before it begins: [`super::body::RunPlanned`].
pub const RUN_PLANNED: &str = "run.planned";
/// A run exists: [`super::body::RunCreated`].
pub const RUN_CREATED: &str = "run.created";
/// A run was parked: [`super::body::RunParked`].
pub const RUN_PARKED: &str = "run.parked";
/// A run goes on: [`super::body::RunResumed`].
pub const RUN_RESUMED: &str = "run.resumed";
/// A run ended: [`super::body::RunEnded`].
pub const RUN_ENDED: &str = "run.ended";
/// A gate waits for people: [`super::body::GateRequested`].
pub const GATE_REQUESTED: &str = "gate.requested";
/// Somebody decided: [`super::body::GateDecided`].
pub const GATE_DECIDED: &str = "gate.decided";
/// A gate's time ran out: [`super::body::GateExpired`].
pub const GATE_EXPIRED: &str = "gate.expired";
/// **The intent**: [`super::body::StepStarted`].
pub const STEP_STARTED: &str = "step.started";
/// **The outcome**: [`super::body::StepFinished`].
pub const STEP_FINISHED: &str = "step.finished";
/// A step may have happened: [`super::body::StepInDoubt`].
pub const STEP_IN_DOUBT: &str = "step.in_doubt";
/// A person or a probe decided what a doubtful step did: [`super::body::StepResolved`].
pub const STEP_RESOLVED: &str = "step.resolved";
/// Intent of an undo: [`super::body::UndoStarted`].
pub const UNDO_STARTED: &str = "undo.started";
/// Outcome of an undo: [`super::body::UndoFinished`].
pub const UNDO_FINISHED: &str = "undo.finished";
/// A person's answer to a manual step: [`super::body::Answer`].
pub const ANSWER: &str = "answer";
/// A milestone was reached or stated: [`super::body::MilestoneReached`].
pub const MILESTONE: &str = "milestone";
/// A deadline went by: [`super::body::DeadlinePassed`].
pub const DEADLINE_PASSED: &str = "deadline.passed";
/// A message was shown or sent: [`super::body::Notice`].
pub const NOTICE_SENT: &str = "notice.sent";
/// A message could not be sent: [`super::body::Notice`].
pub const NOTICE_FAILED: &str = "notice.failed";

/// What an action is about to write, with what was there: [`super::body::WriteIntended`].
pub const WRITE_INTENDED: &str = "contain.write_intended";
/// What was there after a write: [`super::body::WriteSeen`].
pub const WRITE_SEEN: &str = "contain.write_seen";
/// What containment observed before it acted: [`super::body::ContainmentPlanned`].
pub const CONTAINMENT_PLANNED: &str = "contain.planned";
/// A proof table: [`super::body::Proof`].
pub const CONTAIN_PROVEN: &str = "contain.proven";
/// A canary's result: [`super::body::Canary`].
pub const CONTAIN_CANARY: &str = "contain.canary";
/// Credentials that a contained pod could use: [`super::body::Credentials`].
pub const CREDENTIALS_LISTED: &str = "contain.credentials";

/// A rotation was planned: [`super::rotate::RotationPlanned`].
pub const ROTATION_PLANNED: &str = "rotate.planned";
/// Intent of one remote change to a credential: [`super::rotate::RotateIntent`].
pub const ROTATE_INTENT: &str = "rotate.intent";
/// Its outcome: [`super::rotate::RotateOutcome`].
pub const ROTATE_OUTCOME: &str = "rotate.outcome";
/// Something was looked at: [`super::rotate::RotateObserved`].
pub const ROTATE_OBSERVED: &str = "rotate.observed";
/// An item ended, for now or for good: [`super::rotate::RotateItem`].
pub const ROTATE_ITEM: &str = "rotate.item";
