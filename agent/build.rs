//! How the binary is linked. A process of the command line lives for a millisecond, and a good part of it goes into
//! loading libraries: `libgcc_s` alone costs a tenth of that. It is therefore linked in where the compiler has it.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script everything through its environment"
)]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let optimized = std::env::var("OPT_LEVEL").is_ok_and(|level| level != "0");
    let native = std::env::var("HOST").ok() == std::env::var("TARGET").ok();
    if !(optimized && native && target("OS") == "linux" && target("ENV") == "gnu") {
        return;
    }
    let asked = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    let place = asked.ok().and_then(|answer| String::from_utf8(answer.stdout).ok()).unwrap_or_default();
    // Without such a file, the compiler answers with its bare name.
    if let Some(folder) = Path::new(place.trim()).parent().filter(|folder| folder.is_absolute()) {
        println!("cargo::rustc-link-search=native={}", folder.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
        println!("cargo::rustc-link-arg-bins=-static-libgcc");
    }
}
