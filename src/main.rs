//! The firebreak command: one expression.

fn main() -> std::process::ExitCode {
    firebreak::cli::main()
}
