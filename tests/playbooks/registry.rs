//! Declarations of actions for these tests: the same names and arguments as the real ones, without what they do.

use firebreak::action::registry::{ActionSpec, Registry, Sample, UndoSpec, Use, check_as};
use firebreak::incident::{Effect, Phase};
use schemars::JsonSchema;
use serde::Deserialize;

macro_rules! arguments {
    ($name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        /// Arguments.
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code, reason = "only their shape matters here")]
        struct $name { $($field: $kind),* }
    };
}

arguments!(None0 {});
arguments!(Pods { namespace: String, pod: Option<String>, selector: Option<String> });
arguments!(Volatile { namespace: String, pod: Option<String>, selector: Option<String>, budget_s: Option<u64> });
arguments!(Isolate { namespace: String, pod: Option<String>, selector: Option<String>, isolate_first: Option<bool> });
arguments!(Pod { namespace: String, pod: String, keep: Option<bool> });
arguments!(Node { node: Option<String>, namespace: Option<String>, pod: Option<String> });
arguments!(Gone {
    namespace: String,
    pod: String,
    uid: String
});
arguments!(Files { paths: Vec<String> });
arguments!(Rotate {
    plan_sha256: String
});
arguments!(Trail { events: Vec<String> });

arguments!(Call0 { url: Option<String>, token: Option<serde_json::Value>, image: Option<String>, level: Option<Level> });

/// A closed argument.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Level {
    /// Low.
    Low,
    /// High.
    High,
}

macro_rules! spec {
    ($name:literal, $args:ty, $effect:ident, $phase:ident, $uses:expr, $undo:expr, $result:expr, $volatility:expr, $disturbs:expr) => {
        ActionSpec {
            name: $name,
            about: concat!("Stands for ", $name, "."),
            effect: Effect::$effect,
            phase: Phase::$phase,
            uses: $uses,
            args_schema: || schemars::schema_for!($args),
            check_args: check_as::<$args>,
            undo: $undo,
            result: $result,
            rights: &[],
            exhibit: Option::None,
            volatility: $volatility,
            disturbs: $disturbs,
            timeout_s: 120,
        }
    };
}

const NO_UNDO: UndoSpec = UndoSpec::None("it only looks");
const TAKEN: &[(&str, Sample)] = &[("exhibits", Sample::Integer)];
const VERDICT: &[(&str, Sample)] = &[
    ("verdict", Sample::Text),
    ("why", Sample::Texts),
    ("tried", Sample::Integer),
];

/// Its arguments are many: they are the real ones.
const PLAN_ROTATION: ActionSpec = spec!(
    "eradicate.plan_rotation",
    firebreak::action::eradicate::PlanArgs,
    Read,
    Eradication,
    &[Use::Call],
    NO_UNDO,
    &[("plan_sha256", Sample::Text), ("items", Sample::Integer)],
    None,
    0
);

static SPECS: [ActionSpec; 19] = [
    spec!(
        "contain.revoke_sessions",
        firebreak::action::eradicate::RevokeArgs,
        Reversible,
        Containment,
        &[Use::Call],
        UndoSpec::Own,
        &[("revoked", Sample::Integer)],
        None,
        0
    ),
    spec!(
        "acquire.cloud_trail",
        Trail,
        Read,
        Containment,
        &[Use::Call],
        NO_UNDO,
        TAKEN,
        Some(6),
        0
    ),
    PLAN_ROTATION,
    spec!(
        "eradicate.rotate_credentials",
        Rotate,
        Irreversible,
        Eradication,
        &[Use::Call],
        UndoSpec::None("an old credential that the intruder may know is not brought back"),
        &[("done", Sample::Integer), ("undone", Sample::Integer)],
        None,
        0
    ),
    spec!(
        "acquire.volatile",
        Volatile,
        Read,
        Triage,
        &[Use::Call],
        NO_UNDO,
        TAKEN,
        Some(1),
        0
    ),
    spec!(
        "acquire.manifests",
        Pods,
        Read,
        Containment,
        &[Use::Call],
        NO_UNDO,
        TAKEN,
        Some(6),
        0
    ),
    spec!(
        "acquire.logs",
        Pods,
        Read,
        Containment,
        &[Use::Call],
        NO_UNDO,
        TAKEN,
        Some(5),
        0
    ),
    spec!(
        "acquire.files",
        Files,
        Read,
        Containment,
        &[Use::Call],
        NO_UNDO,
        TAKEN,
        Some(5),
        0
    ),
    spec!(
        "contain.isolate_workload",
        Isolate,
        Reversible,
        Containment,
        &[Use::Call],
        UndoSpec::Own,
        VERDICT,
        None,
        2
    ),
    spec!(
        "contain.probe_isolation",
        Pods,
        Read,
        Containment,
        &[Use::Call, Use::Check],
        NO_UNDO,
        VERDICT,
        None,
        0
    ),
    spec!(
        "contain.release_workload",
        Pod,
        Reversible,
        Recovery,
        &[Use::Call, Use::Undo],
        UndoSpec::None("isolate it again"),
        VERDICT,
        None,
        0
    ),
    spec!(
        "contain.run_canary",
        Pod,
        Reversible,
        Containment,
        &[Use::Call],
        UndoSpec::Own,
        VERDICT,
        None,
        0
    ),
    spec!(
        "contain.cordon_node",
        Node,
        Reversible,
        Containment,
        &[Use::Call],
        UndoSpec::Own,
        VERDICT,
        None,
        0
    ),
    spec!(
        "contain.list_credentials",
        Pods,
        Read,
        Containment,
        &[Use::Call],
        NO_UNDO,
        VERDICT,
        None,
        0
    ),
    spec!(
        "contain.delete_pod",
        Gone,
        Irreversible,
        Containment,
        &[Use::Call],
        UndoSpec::None("a pod that is gone is gone"),
        VERDICT,
        None,
        6
    ),
    spec!(
        "report.build",
        None0,
        Read,
        Review,
        &[Use::Call],
        NO_UNDO,
        &[],
        None,
        0
    ),
    spec!(
        "test.probe",
        Pods,
        Read,
        Triage,
        &[Use::Call, Use::Check, Use::Probe],
        NO_UNDO,
        &[("ok", Sample::Bool)],
        None,
        0
    ),
    spec!(
        "test.call",
        Call0,
        Read,
        Triage,
        &[Use::Call],
        NO_UNDO,
        VERDICT,
        None,
        0
    ),
    spec!(
        "test.destroy",
        None0,
        Destructive,
        Eradication,
        &[Use::Call],
        UndoSpec::None("it destroys"),
        &[],
        None,
        0
    ),
];

/// All of them.
pub fn registry() -> Registry {
    Registry::of(&SPECS)
}
