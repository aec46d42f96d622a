//! What every code means, offline. Codes are never reused.

/// One code: what it means, and what to do.
#[derive(Debug, Clone, Copy)]
pub struct Explained {
    /// The code.
    pub code: &'static str,
    /// What happened.
    pub means: &'static str,
    /// What to do.
    pub do_now: &'static str,
}

macro_rules! codes {
    ($($code:literal: $means:literal, $do_now:literal;)+) => {
        /// Every code, in order.
        pub const CODES: &[Explained] = &[$(Explained { code: $code, means: $means, do_now: $do_now }),+];
    };
}

codes! {
    "FB0101": "The playbook is not in the strict form: unknown or duplicate key, second document, anchor, alias, control character, or a wrong type.", "Correct the line that is named; firebreak playbook schema gives the form to your editor.";
    "FB0102": "The file says another format version than playbook/v1.", "Write `firebreak: playbook/v1`.";
    "FB0103": "`id` is missing, no slug, or differs from the file's name.", "Give it the file's name without .yaml.";
    "FB0104": "`name` is missing or longer than 120 characters.", "Give it a short name.";
    "FB0105": "The content differs from what was recorded under the same version.", "Raise `version`.";
    "FB0106": "`types` is missing or holds an unknown type.", "Use the types that CACAO names: investigation, mitigation, notification, …";
    "FB0107": "`severity` or `impact` is not between 0 and 100.", "Use 0 for undefined.";
    "FB0108": "A role is used and not declared.", "Declare it under `roles`.";
    "FB0109": "A warning is allowed without a reason.", "Write the reason behind the code.";
    "FB0110": "There are no steps.", "Add one.";
    "FB0111": "A step has no kind, or more than one.", "Keep exactly one of call, run, manual, check, approve, notify, if, parallel, steps, wait, note.";
    "FB0113": "A playbook calls itself.", "Break the circle.";
    "FB0114": "Two steps of one block have the same id.", "Rename one.";
    "FB0115": "There is no such action.", "firebreak playbook schema lists the actions; check the spelling.";
    "FB0116": "An argument under `with` does not fit the action.", "Correct the argument that is named.";
    "FB0117": "A key is missing, or this kind of step cannot honour it.", "Add it, or take it away, as the finding says.";
    "FB0118": "An output names a source that this step does not have.", "Use stdout, stderr, exit, answer, json:/… or result:/…, as the kind allows.";
    "FB0201": "A variable that must be given has no value.", "Give it with --var name=value.";
    "FB0202": "A variable's value does not fit its type, pattern or list.", "Give another value.";
    "FB0203": "An expression compares values of different types.", "Compare like with like.";
    "FB0204": "There is no such variable.", "Check the name.";
    "FB0205": "A constant was assigned.", "Take the assignment away.";
    "FB0206": "An expression cannot be read.", "Correct it at the column that is named; the language is CEL.";
    "FB0207": "An expression failed, or its answer is not true or false. The run is parked.", "Correct the playbook and make a new plan, or answer the step.";
    "FB0301": "An approval asks for less than policy does for that effect.", "Raise the quorum or take the approval away.";
    "FB0302": "A step that cannot be undone has no probe and does not ask after a crash.", "Add done_if, or resume: ask.";
    "FB0303": "People's paperwork stands on the way to contained or restored without a budget.", "Move it to a parallel branch, or give it a budget.";
    "FB0304": "A step disturbs a source before its more volatile acquisition.", "Acquire first.";
    "FB0305": "A reversible step has no undo.", "Add one.";
    "FB0306": "An approval does not say what happens when nobody answers.", "Add on_timeout.";
    "FB0307": "${…} stands unquoted inside { } or [ ].", "Quote it.";
    "FB0308": "A variable is read where no earlier step can have set it.", "Move the step, or give the variable a value.";
    "FB0309": "A condition that CACAO runners cannot carry.", "Use = or != on text, or allow the warning with a reason.";
    "FB0310": "A step declares a weaker effect than its action has.", "Declare the action's effect.";
    "FB0312": "The planned time is over the recovery limit.", "Shorten the path or raise the limit.";
    "FB0313": "The recovery limit is over the tier's RTO.", "Choose which of the two holds; both verdicts are printed.";
    "FB0314": "A step whose effect leaves the organisation would run in a drill.", "Say drill: simulate.";
    "FB0315": "A role has no reachable contact.", "Complete the contacts.";
    "FB0316": "A step runs a shell.", "Name the program and its words.";
    "FB0317": "A milestone step goes on after failure.", "Park instead.";
    "FB0318": "A numbered step of the runbook is missing.", "Add it, as manual if nothing else can do it.";
    "FB0319": "A numbered step stands in another order without a reason.", "Add why.";
    "FB0320": "An image is named by tag.", "Name its digest.";
    "FB0322": "A secret would reach an argument list, address, text or expression.", "Refer to it by name.";
    "FB0401": "Something changed since the plan: nothing was done.", "Make a new plan, look at it, approve it.";
    "FB0402": "A step cannot be done now.", "See the reason that is named; correct it and plan again.";
    "FB0403": "Nobody holds a role that must approve.", "Add a person with that role to people.yaml and open the policy again.";
    "FB0405": "A right is missing at the cluster. Nothing was done.", "firebreak permissions VERB prints the least role; have it bound, then type the same command again.";
    "FB0406": "The plan is for the other mode (live or drill).", "Plan again in this incident.";
    "FB0501": "An approval text is not in its exact form.", "Let firebreak playbook approve write it.";
    "FB0502": "The signature does not verify.", "Sign the exact file again.";
    "FB0503": "The key, its type or its namespace is not trusted for this.", "Use an Ed25519 key that stands in the pinned allowed_signers for approval@firebreak.";
    "FB0504": "The key is revoked or outside its validity.", "Use a valid key.";
    "FB0505": "The person does not hold a role that may decide.", "Ask somebody who does.";
    "FB0506": "The approval has expired.", "Ask again.";
    "FB0507": "The approval is for another run, plan, step, call or attempt.", "Sign the request of this gate.";
    "FB0508": "The approval was used before.", "Sign a new one.";
    "FB0509": "The same person or key twice, or the executor where that does not count.", "Ask another person.";
    "FB0510": "An approver said no.", "See the reason in the ledger; make another plan, or ask again.";
    "FB0601": "An entry could not be written to the ledger, so nothing was done.", "Free space or fix permissions, then resume.";
    "FB0602": "A step may have happened: the reply was lost or the process died. The run is parked.", "firebreak resume looks first; firebreak incident resolve STEP --as FOUND --reason TEXT records what a person found: ran, did-not-run or retry.";
    "FB0603": "Another process holds the run or the ledger.", "Wait for it, then type the same command again.";
    "FB0604": "The ledger, or a file that it pins, fails verification. Nothing goes on from it.", "firebreak verify PATH lists what is wrong; keep a copy of the folder as it is.";
    "FB0605": "An expression needs a value that is not there. The run is parked.", "Answer the step that gives it, or plan again with --var.";
    "FB0606": "A deadline passed.", "See the step; resume goes on.";
    "FB0607": "An undo failed and something is left.", "Do what is listed, then type the undo again.";
    "FB0608": "The host's clock went back.", "Entries are kept in order and marked; set the clock right.";
    "FB0609": "The playbook on disk differs from the pinned one.", "The run goes on with the pinned one.";
    "FB0610": "There is no such run or step, or this is not the moment for it.", "firebreak incident status shows where each run stands.";
    "FB0611": "A check does not hold.", "See what it found; correct it, then firebreak resume checks again.";
    "FB0612": "A message could not be sent.", "Send it yourself and note it, or correct the webhook, then firebreak resume.";
    "FB0613": "A person says that a manual step was not done.", "firebreak resume asks again.";
    "FB0614": "The incident has open runs or isolated pods: without its key they could not be finished or given back.", "Finish or release them first, or close with --leave.";
    "FB1001": "A person must write the text of a section.", "firebreak report write SECTION --file FILE.";
    "FB1002": "A person must state a time that only a person can know.", "firebreak incident milestone NAME --at TIME.";
    "FB1003": "Two key times lie in the wrong order.", "State the wrong one again: the newest statement counts.";
    "FB1004": "A milestone says more than steps, bags or proofs do.", "Finish the step that is named, or state the milestone with its true time.";
    "FB1005": "A text or an entry cannot be read as it was recorded.", "firebreak verify says what is left; write the text again.";
    "FB1006": "A verification did not pass.", "firebreak verify PATH lists why.";
    "FB1007": "The host's clock went backwards.", "Set it right, and say in a note what its times are worth.";
    "FB1008": "The document cannot be written, or a text cannot be read.", "Free space or fix permissions, then firebreak report build.";
    "FB1100": "A fault of firebreak itself.", "Keep the message and the incident folder; nothing was lost that was acknowledged.";
    "FB1101": "The command line is wrong.", "firebreak help COMMAND.";
    "FB1102": "The incident exists already.", "Use it, or choose another id.";
    "FB1103": "There is no such incident, or none is open.", "firebreak incident status lists them.";
    "FB1104": "A file of the incident folder cannot be written.", "Free space or fix permissions.";
    "FB1105": "A file cannot be read.", "Fix permissions, or name another.";
    "FB1106": "The host lacks something: randomness, a key, a free id.", "See the message.";
    "FB1107": "No folder to keep incidents in.", "Set FIREBREAK_HOME.";
    "FB1108": "The configuration is wrong.", "firebreak config prints the keys.";
    "FB1109": "Several incidents are open.", "Say which with --incident.";
    "FB1110": "Not confirmed: nothing was changed.", "Type the word that is asked for, or give --confirm without a terminal.";
    "FB1111": "Nothing was found to verify.", "Name a bag or an incident folder.";
    "FB1112": "The answer could not be written to standard output.", "Free space, or print it elsewhere; what was done stands in firebreak log.";
    "FB1201": "The action refuses: its target does not allow it.", "See the reason and what to do instead.";
    "FB1202": "The other side is busy or was not reached; nothing happened.", "Type the same command again.";
    "FB1203": "The action failed; nothing is left in doubt.", "See the reason; correct it, then firebreak resume, or type the same command again.";
    "FB1204": "Evidence could not be written.", "Free space or fix permissions; the next resume recovers the open bag.";
    "FB1205": "The bag is empty.", "Add something first.";
    "FB1206": "The target is not there.", "Check namespace and name.";
    "FB1207": "The server cannot be reached.", "Check address, network and context.";
    "FB1208": "The kubeconfig or its context cannot be used.", "Name one with --kubeconfig and --context.";
    "FB1209": "Another cluster answers behind the name that this incident is bound to.", "Point the context at the incident's cluster, or open another incident.";
    "FB1210": "A release left something: others changed it meanwhile.", "Do what is listed by hand; the rest was given back.";
    "FB3001": "There is no such rotation plan in this incident, or the file is none.", "firebreak rotate plan makes one; firebreak rotate show prints the newest.";
    "FB3002": "The rotation plan is too old to be begun. Nothing was changed.", "Plan again, look at it, approve it: firebreak rotate plan.";
    "FB3003": "A step needs a cloud account and none is configured.", "Set AWS_PROFILE, or name one with --profile; firebreak doctor shows what is seen.";
    "FB3004": "Somebody else rotates in this account.", "Wait for it, or resume that run; an expired lease is taken over by itself.";
    "FB3005": "The lease on the account could not be had or read. Nothing was changed.", "Check `lease_bucket` and its rights (firebreak permissions rotate --format iam), then resume.";
    "FB3006": "Another cloud account answers than the one that this incident is bound to. Nothing was changed.", "Choose the incident's account with --profile, or open another incident.";
    "FB3007": "The cloud account cannot be used: credentials, region, endpoint or the network.", "See the reason; firebreak doctor shows what is seen.";
    "FB3010": "A rotation is stuck: something could not be taken back.", "firebreak rotate status lists what is left; do it by hand, then firebreak rotate resume.";
    "FB3011": "A rotation needs a person, or waits for time.", "firebreak rotate status says for each credential why and what to do; then firebreak rotate resume.";
    "FB3012": "A credential was given back as it was: the old one is alive.", "firebreak rotate status says why its consumer failed; mend it, then plan again.";
    "FB3021": "A guard refuses: the rotation would hit our own identity, or how we came in. Nothing was changed.", "Use another identity, or leave it out: --exclude NAME.";
    "FB3022": "A guard refuses: no emergency access is configured, or none answers as configured. Nothing was changed.", "Name a profile and its ARN under `break_glass` in the configuration; try it: aws sts get-caller-identity --profile NAME.";
    "FB3023": "A user's both key slots are in use, so that no new key can be made.", "Say which key may be deleted: --free-slot ID, with a second person.";
    "FB3024": "A canary: calling with it or reading it alerts its owner. It is left alone.", "Ask its owner.";
    "FB3025": "The deny does not fit beside the principal's other inline policies.", "Remove one, or deny by an organisation policy.";
    "FB3026": "Somebody else writes this secret: a service, a rotation function, a controller.", "Rotate it there; no copy of what is written elsewhere is changed.";
    "FB3027": "Our clock and the cloud's are minutes apart: cut-off times would be wrong.", "Set this host's clock by NTP, then plan again.";
    "FB3030": "The selection cannot be read, or selects by a field that a credential does not have.", "Correct it at the column that is named; the language is CEL. firebreak rotate select shows what it means.";
    "FB3031": "Of some credentials it cannot be told whether they are meant, because something could not be read.", "Grant the right to read it, or decide: --on-unknown include or exclude.";
    "FB3032": "Nothing is selected.", "firebreak rotate select true shows what there is.";
    "FB3033": "Deleting a credential waits for a second person.", "Plan without deletions: the old one ends inactive and proven dead; or give it to a team, see firebreak policy init --people FILE --signers FILE.";
    "FB3034": "The rotation map is missing, wrong, or names what is not there.", "Correct what is named; firebreak rotate map drafts one.";
    "FB3035": "A wait has no such name, or is shorter than is safe against a real cloud.", "Leave the waits as they are; shorter ones are for servers on this host.";
    "FB3036": "What was named is not in this account.", "Check the name and the account; firebreak doctor shows which one answers.";
}

/// Finds a code, however it is written.
pub fn find(code: &str) -> Option<&'static Explained> {
    CODES
        .iter()
        .find(|e| e.code.eq_ignore_ascii_case(code.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_given_once() {
        assert!(CODES.windows(2).all(|w| w[0].code < w[1].code));
    }

    /// Every code that stands in the source can be explained.
    #[test]
    fn every_code_of_the_source_is_explained() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let pattern = regex::Regex::new("\"(FB[0-9]{4})\"").expect("pattern");
        let mut todo = vec![root];
        let mut missing = std::collections::BTreeSet::new();
        while let Some(folder) = todo.pop() {
            for item in std::fs::read_dir(folder).expect("readable").flatten() {
                let path = item.path();
                if path.is_dir() {
                    todo.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    let text = std::fs::read_to_string(&path).expect("readable");
                    missing.extend(
                        pattern
                            .captures_iter(&text)
                            .map(|c| c[1].to_owned())
                            .filter(|c| find(c).is_none()),
                    );
                }
            }
        }
        assert!(missing.is_empty(), "not explained: {missing:?}");
    }
}
