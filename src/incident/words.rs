//! The field's closed vocabularies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }
        impl $name {
            /// Every word of this vocabulary, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The word as it is written.
            pub fn as_str(self) -> &'static str { match self { $($name::$variant => $text),+ } }
            /// Parses the written word.
            pub fn parse(text: &str) -> Option<Self> { match text { $($text => Some($name::$variant),)+ _ => None } }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

pub(crate) use word;

word!(
    /// Whether an incident is real or an exercise; fixed when its ledger is opened.
    Mode { /// A real incident.
        Live = "live", /// An exercise: every output says so.
        Drill = "drill" }
);
word!(
    /// The phases of an incident.
    Phase { /// What is this?
        Triage = "triage", /// Stop it from spreading.
        Containment = "containment", /// Take the intruder's means away.
        Eradication = "eradication", /// Bring service back.
        Recovery = "recovery", /// Learn.
        Review = "review" }
);
word!(
    /// How grave it is; SEV1 is the gravest.
    Severity { /// Critical.
        Sev1 = "SEV1", /// High.
        Sev2 = "SEV2", /// Medium.
        Sev3 = "SEV3", /// Low.
        Sev4 = "SEV4" }
);
word!(
    /// What a step does to the world, in rising order of what cannot be taken back.
    Effect { /// Looks only.
        Read = "read", /// Can be undone by the tool.
        Reversible = "reversible", /// Cannot be undone.
        Irreversible = "irreversible", /// Destroys something.
        Destructive = "destructive" }
);
word!(
    /// How a step ended.
    Outcome { /// It happened.
        Done = "done", /// It did not happen, and nothing of it is left in doubt.
        Failed = "failed", /// It may have happened.
        InDoubt = "in doubt", /// It was reversed.
        Undone = "undone", /// Its undo failed: something is left.
        Stuck = "stuck" }
);
word!(
    /// Times that the document and the metrics rest on.
    Milestone { /// When the intrusion began: only ever a person's statement.
        Occurred = "occurred", /// When service began to suffer: only ever a person's statement; RTO counts from it.
        Impact = "impact", /// First signal.
        Detected = "detected", /// A person took it up.
        Acknowledged = "acknowledged", /// Aware in the legal sense: only ever a person's statement.
        Aware = "aware", /// Severity decided.
        Classified = "classified", /// Declared an incident.
        Declared = "declared", /// Proven contained.
        Contained = "contained", /// The intruder's means are gone.
        Eradicated = "eradicated", /// Service is back.
        Restored = "restored", /// Watched and found good.
        Verified = "verified", /// Closed.
        Closed = "closed" }
);
word!(
    /// The lanes of the timeline picture.
    Lane { /// Detect and decide.
        Detect = "detect", /// Contain.
        Contain = "contain", /// Preserve evidence.
        Preserve = "preserve", /// Recover.
        Recover = "recover", /// Notify people.
        Notify = "notify" }
);
word!(
    /// The kind of thing an exhibit holds.
    Category { /// Memory image.
        Memory = "memory", /// Network state.
        Network = "network", /// Processes.
        Process = "process", /// Log files.
        Logs = "logs", /// Configuration and manifests.
        Config = "config", /// Disk or files.
        Disk = "disk", /// Database state.
        Database = "database", /// Cloud audit trail.
        CloudTrail = "cloud-trail", /// Anything else.
        Other = "other" }
);
