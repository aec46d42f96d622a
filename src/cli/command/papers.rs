//! `explain`, `completions`, `man`, `help exit-codes`: what can be read offline.

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::cli::error::{CliError, CliResult};
use crate::cli::exit::Exit;
use crate::cli::explain;
use crate::cli::output::Output;

/// Explains a code, or lists all of them.
pub fn explain(out: &Output, code: Option<&str>) -> CliResult {
    let Some(code) = code else {
        for e in explain::CODES {
            out.answer(format!("{}  {}", e.code, e.means));
        }
        return Ok(Exit::Ok);
    };
    let e = explain::find(code).ok_or_else(|| {
        CliError::usage(format!("there is no code `{code}`"))
            .hint("firebreak explain lists all codes")
    })?;
    if out.json {
        out.document(&serde_json::json!({"schema": "firebreak/explain/v1", "code": e.code, "means": e.means, "do_now": e.do_now}))?;
    }
    out.answer(format!(
        "{}: {}\n\nWhat to do: {}",
        e.code, e.means, e.do_now
    ));
    Ok(Exit::Ok)
}

/// Prints help for a command, or the table of exit codes.
pub fn help(out: &Output, topic: &[String]) -> CliResult {
    if topic == ["exit-codes"] {
        out.answer(Exit::table().trim_end());
        return Ok(Exit::Ok);
    }
    let mut command = Cli::command();
    command.build();
    let mut here = &mut command;
    for word in topic {
        here = here.find_subcommand_mut(word).ok_or_else(|| {
            CliError::usage(format!("there is no command `{}`", topic.join(" ")))
                .hint("firebreak help lists the commands")
        })?;
    }
    out.answer(here.render_long_help().to_string().trim_end());
    Ok(Exit::Ok)
}

/// Prints a shell's completions.
pub fn completions(out: &Output, shell: clap_complete::Shell) -> CliResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "firebreak", &mut script);
    out.write(&script);
    Ok(Exit::Ok)
}

/// Prints the man page, or writes one page a command into a folder.
pub fn man(out: &Output, folder: Option<&std::path::Path>) -> CliResult {
    let cannot = |e: std::io::Error| {
        CliError::new(
            Exit::Failed,
            "FB1104",
            format!("cannot write the man page: {e}"),
        )
    };
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(cannot)?;
        clap_mangen::generate_to(Cli::command(), folder).map_err(cannot)?;
        return Ok(Exit::Ok);
    }
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(Cli::command());
    man.render(&mut page).map_err(cannot)?;
    let mut codes = String::from(".SH \"EXIT CODES\"\n");
    for exit in Exit::all() {
        codes.push_str(&format!(".TP\n{}\n{}\n", exit.code(), exit.meaning()));
    }
    page.extend_from_slice(codes.as_bytes());
    out.write(&page);
    Ok(Exit::Ok)
}
