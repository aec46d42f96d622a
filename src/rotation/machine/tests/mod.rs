//! The crash tables of the machines, as data (`rows`), and what reads them.

mod player;
mod rows;

use player::play;
use rows::ROWS;

#[test]
fn each_row_of_the_crash_tables_is_what_the_machine_does() {
    let mut wrong = Vec::new();
    for row in ROWS {
        let played = play(row);
        if played != row.then {
            wrong.push(format!(
                "{} {} after `{}` seeing `{}`:\n  table: {}\n  code:  {played}",
                row.table, row.item, row.after, row.seen, row.then
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_tables_name_every_step_of_every_machine() {
    for step in rows::STEPS {
        let named = |r: &&rows::Row| r.after.contains(step) || r.then.contains(step);
        assert!(ROWS.iter().any(|r| named(&r)), "no row names {step}");
    }
}
