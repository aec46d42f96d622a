//! Playbooks that more than one test program carries out.

/// Many pods, and before them throw-away pods of ours: where nothing enforces, nobody's pod is touched.
pub const CANARY_THEN_MANY: &str = "firebreak: playbook/v1
id: many
name: Isolate many pods where the node enforces
version: 1
types: [mitigation]
vars:
  ns: { type: string, external: true, description: Namespace }
  enforcement: { type: string, value: not-run, description: What the canary saw }
steps:
  - id: canary
    call: contain.run_canary
    with: { namespace: \"${ns}\", pod: web, probe_image: \"localhost/busybox:1\" }
    effect: reversible
    outputs: { enforcement: { from: \"result:/verdict\" } }
    plan_value: { enforcement: enforced }
  - id: gate
    if: enforcement == 'enforced'
    then:
      - id: isolate
        call: contain.isolate_workload
        with: { namespace: \"${ns}\", selector: \"app!=client\", isolate_first: true }
        effect: reversible
    else:
      - { id: stop, note: \"Nothing enforces here: no pod was touched.\" }
";
