//! `rcodesign` as its project builds it, without what talks to Apple's servers.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    match apple_codesign::cli::main_impl() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
