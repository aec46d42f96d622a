//! The status board: at any moment it names the one command that helps most, whole and typable.

mod support;

use firebreak::cli::exit::Exit;
use support::user::User;

const ID: &str = "INC-BOARD-1";

/// The command that the board names, without the program's name.
fn next(user: &User) -> String {
    let board = user.json(&["--json"], Exit::Ok);
    let next = board["incidents"][0]["next"].as_str().expect("next");
    let next = next.strip_prefix("firebreak ").expect("our command");
    let (text, _) = user.expect(&[], Exit::Ok);
    assert!(
        text.trim_end()
            .ends_with(&format!("next: firebreak {next}")),
        "{text}"
    );
    next.to_owned()
}

fn opened(name: &str) -> User {
    let user = User::new(name);
    user.expect(&["incident", "open", "odd logins", "--id", ID], Exit::Ok);
    user
}

#[test]
fn the_next_command_contains_then_seals_then_builds_then_checks() {
    let user = opened("board-next");
    assert_eq!(next(&user), format!("contain pod NS/NAME --incident {ID}"));
    user.expect(&["evidence", "open", "disk of the laptop"], Exit::Ok);
    assert_eq!(
        next(&user),
        format!("evidence seal --bag 1 --incident {ID}")
    );
    std::fs::write(user.home.join("note.txt"), "seen at nine").expect("a file");
    let note = user.home.join("note.txt").display().to_string();
    user.expect(&["evidence", "add", &note], Exit::Ok);
    user.expect(
        &["evidence", "seal", "--bag", "1", "--incident", ID],
        Exit::Ok,
    );
    assert_eq!(next(&user), format!("report build --incident {ID}"));
    user.expect(&["report", "build", "--incident", ID], Exit::Ok);
    assert_eq!(next(&user), format!("report check --incident {ID}"));
}

#[test]
fn an_incident_that_is_not_here_is_said_also_by_the_board() {
    let user = opened("board-unknown");
    let (_, story) = user.expect(&["--incident", "INC-NOPE"], Exit::Usage);
    assert!(story.contains("FB1103") && story.contains(ID), "{story}");
    let (board, _) = user.expect(&["--incident", ID], Exit::Ok);
    assert!(board.contains("odd logins"), "{board}");
}

/// Two manual steps and a gate; no cluster is asked for anything.
const PLAYBOOK: &str = r"firebreak: playbook/v1
id: by-hand
name: By hand
description: What people do.
version: 1
types: [mitigation]
roles:
  ic: { kind: individual, name: Incident commander, contact: incident-commander }
steps:
  - id: look
    name: Look at the rack
    manual: Say which machine blinks.
    owner: ic
  - id: tell
    name: Tell the owner
    manual: Say who was told.
    owner: ic
";

#[test]
fn a_parked_run_names_the_answer_that_it_waits_for_and_then_resume() {
    let user = opened("board-waits");
    let book = user.home.join("by-hand.yaml");
    std::fs::write(&book, PLAYBOOK).expect("a playbook");
    let (book, plan) = (
        book.display().to_string(),
        user.home.join("plan.json").display().to_string(),
    );
    user.expect(&["playbook", "plan", &book, "-o", &plan], Exit::Ok);
    let (_, refused) = user.expect(&["playbook", "apply", &plan], Exit::Denied);
    let digest = refused
        .trim()
        .rsplit(' ')
        .next()
        .expect("a digest")
        .to_owned();
    let applied = ["playbook", "apply", &plan, "--confirm", &digest];
    let (_, story) = user.expect(&applied, Exit::Parked);
    assert!(
        story.contains("Say which machine blinks.")
            && story.contains("firebreak incident answer look TEXT"),
        "{story}"
    );
    assert_eq!(
        next(&user),
        format!("incident answer look TEXT --incident {ID}")
    );
    user.expect(&["incident", "answer", "look", "the third"], Exit::Ok);
    assert_eq!(next(&user), format!("resume {ID}"));
    user.expect(&["resume", ID], Exit::Parked);
    assert_eq!(
        next(&user),
        format!("incident answer tell TEXT --incident {ID}")
    );
}

#[test]
fn a_run_whose_pinned_playbook_was_changed_says_that_nothing_can_be_told_of_it() {
    let user = opened("board-unreadable");
    let book = user.home.join("by-hand.yaml");
    std::fs::write(&book, PLAYBOOK).expect("a playbook");
    let book = book.display().to_string();
    let planned = user.json(&["playbook", "plan", &book, "--json"], Exit::Ok);
    let run = planned["plan"]["run"].as_str().expect("a run");
    let digest = &planned["digest"].as_str().expect("a digest")[..12];
    let apply = ["playbook", "apply", run, "--confirm", digest];
    user.expect(&apply, Exit::Parked);
    let sha256 = planned["plan"]["playbook_sha256"].as_str().expect("sha256");
    let pinned = user.home.join(format!("fb/{ID}/trust/{sha256}.yaml"));
    std::fs::write(pinned, "changed").expect("written");
    let (board, _) = user.expect(&[], Exit::Ok);
    assert!(
        board.contains("UNREADABLE") && board.contains("FB0604"),
        "{board}"
    );
    assert_eq!(next(&user), format!("verify --incident {ID}"));
}
