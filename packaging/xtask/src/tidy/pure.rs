//! Crates that are free of IO have no dependency that does it, and name nothing of the standard library that does.

use std::collections::BTreeSet;

use super::Files;
use super::crates::Crate;
use super::modules::Tree;
use super::tokens::System;

/// The crates that other programs rely on to do no IO.
const PURE: [&str; 3] = ["policy-schema", "protocol", "updates"];

/// Crates that do IO, or that serve those that do.
const CRATES: [&str; 8] =
    ["axum", "fs-err", "hyper", "keyring-core", "notify", "reqwest", "sysinfo", "tokio"];

/// Paths, with everything below them.
const PATHS: [&[&str]; 6] = [
    &["std", "fs"],
    &["std", "net"],
    &["std", "process"],
    &["std", "env", "var"],
    &["std", "env", "var_os"],
    &["fs_err"],
];

/// What lies below those and is only a value.
const VALUES: [&[&str]; 3] =
    [&["std", "net", "IpAddr"], &["std", "net", "Ipv4Addr"], &["std", "net", "Ipv6Addr"]];

pub(super) fn complaints(crates: &[Crate], files: &Files) -> Vec<String> {
    let pure = crates.iter().filter(|package| PURE.contains(&package.name.as_str()));
    pure.flat_map(|package| [dependencies(package), paths(package, files)].concat()).collect()
}

/// A build script and tests may read files, so only normal dependencies count.
fn dependencies(package: &Crate) -> Vec<String> {
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind.is_none());
    let wrong = normal.filter(|dependency| CRATES.contains(&dependency.name.as_str()));
    wrong
        .map(|dependency| {
            let manifest = package.manifest_path.display();
            format!(
                "{manifest}: `{}` is free of IO and may not depend on `{}`",
                package.name, dependency.name
            )
        })
        .collect()
}

fn paths(package: &Crate, files: &Files) -> Vec<String> {
    let mut found = BTreeSet::new();
    for target in package.targets.iter().filter(|target| target.is("lib")) {
        for system in System::ALL {
            for (file, line, path) in Tree::read(&target.src_path, files, system).full_paths() {
                let within = |starts: &[&[&str]]| starts.iter().any(|start| starts_with(&path, start));
                if within(&PATHS) && !within(&VALUES) {
                    let path = path.join("::");
                    found.insert(format!(
                        "{}: line {line}: `{}` is free of IO and may not name `{path}`",
                        file.display(),
                        package.name
                    ));
                }
            }
        }
    }
    found.into_iter().collect()
}

fn starts_with(path: &[String], start: &[&str]) -> bool {
    path.len() >= start.len() && path.iter().zip(start).all(|(segment, wanted)| segment == wanted)
}

#[cfg(test)]
mod tests {
    use super::super::crates::tests::library;
    use super::super::tests::invented;
    use super::*;

    #[test]
    fn pure_crate_with_a_dependency_that_does_io_is_reported() {
        for name in PURE {
            let found = complaints(&[library(name, name, &["serde", "tokio"])], &invented(&[]));
            assert!(found.len() == 1 && found[0].contains("may not depend on `tokio`"), "{found:?}");
        }
    }

    #[test]
    fn pure_crate_that_names_io_is_reported() {
        for text in [
            "use std::{fmt, fs};",
            "fn f() { std::process::exit(1) }",
            "use std::env;\nfn f() { env::var(\"x\") }",
            "use std::env::var_os;",
            "use fs_err as fs;",
            "mod inner { fn f(a: std::net::TcpStream) {} }",
        ] {
            let files = invented(&[("protocol/src/lib.rs", text)]);
            let found = complaints(&[library("protocol", "protocol", &[])], &files);
            assert!(found.len() == 1 && found[0].contains("may not name"), "{text}: {found:?}");
        }
    }

    #[test]
    fn pure_crate_whose_tests_or_build_script_do_io_passes() {
        let mut package = library("protocol", "protocol", &["serde", "fs-err", "tokio"]);
        package.dependencies[1].kind = Some("build".to_owned());
        package.dependencies[2].kind = Some("dev".to_owned());
        let text = "use std::collections::BTreeMap;\n// std::fs\n#[cfg(test)]\nmod tests { use std::fs; }\nfn f(a: std::net::IpAddr) { env!(\"x\"); \"std::net\" }";
        assert_eq!(complaints(&[package], &invented(&[("protocol/src/lib.rs", text)])), Vec::<String>::new());
    }

    #[test]
    fn other_crates_may_do_io() {
        let files = invented(&[("net/src/lib.rs", "use std::fs;")]);
        assert_eq!(complaints(&[library("net", "net", &["tokio"])], &files), Vec::<String>::new());
    }
}
