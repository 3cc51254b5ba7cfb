//! Rules for the crates of the workspace: arrows point down only, each crate has a reason, its folder has its name.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Files;

/// Which crates each crate may depend on. This is the design's picture of the house, and the only place that has it:
/// arrows point down only, so a new arrow is a change of the design. Every crate of the workspace is listed, and two
/// that design foresees.
const ARROWS: [(&str, &[&str]); 12] = [
    ("policy-schema", &[]),
    ("protocol", &["policy-schema"]),
    ("updates", &["policy-schema", "protocol"]),
    ("platform", &["policy-schema"]),
    ("net", &["platform", "protocol", "policy-schema"]),
    ("broker", &["net", "platform", "protocol", "policy-schema"]),
    ("session", &["platform"]),
    ("watchdog", &["platform", "policy-schema", "updates"]),
    ("agent", &["broker", "net", "platform", "protocol", "policy-schema", "updates", "watchdog"]),
    ("dashboard", &["platform", "protocol", "policy-schema", "updates"]),
    ("xtask", &["policy-schema"]),
    // It drives the built binaries, and may use the types of all of them.
    (
        "e2e",
        &[
            "agent",
            "broker",
            "dashboard",
            "net",
            "platform",
            "policy-schema",
            "protocol",
            "updates",
            "watchdog",
        ],
    ),
];

const REASONS: [&str; 5] = [
    "Another program shares it",
    "Free of IO",
    "May hold unsafe code",
    "Another process runs it",
    "Must not depend on what it guards",
];

/// A member of the workspace, as `cargo metadata` describes it.
#[derive(Deserialize)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) manifest_path: PathBuf,
    pub(super) description: Option<String>,
    pub(super) dependencies: Vec<Dependency>,
    pub(super) targets: Vec<Target>,
}

/// What a crate depends on.
#[derive(Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// `dev`, `build`, or nothing for a normal one.
    pub(super) kind: Option<String>,
    /// Only crates of this repository have one.
    pub(super) path: Option<PathBuf>,
}

/// What cargo builds from a crate.
#[derive(Deserialize)]
pub(super) struct Target {
    /// `lib`, `bin`, `test`, `custom-build` ...
    pub(super) kind: Vec<String>,
    pub(super) src_path: PathBuf,
}

impl Target {
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind.iter().any(|own| own == kind)
    }
}

/// Reads what `cargo metadata --no-deps --format-version 1` prints. Paths become paths in the repository.
pub(super) fn read_metadata(json: &[u8]) -> anyhow::Result<Vec<Crate>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Crate>,
        workspace_root: PathBuf,
    }
    let Metadata { mut packages, workspace_root } = serde_json::from_slice(json)?;
    let shorten = |path: &mut PathBuf| {
        if let Ok(short) = path.strip_prefix(&workspace_root) {
            *path = short.to_owned();
        }
    };
    for package in &mut packages {
        shorten(&mut package.manifest_path);
        package.targets.iter_mut().for_each(|target| shorten(&mut target.src_path));
    }
    Ok(packages)
}

pub(super) fn complaints(crates: &[Crate], files: &Files) -> Vec<String> {
    let of_one = |package| {
        let found = [arrows(package), reason(package, files), folder(package)].concat();
        found.into_iter().map(|complaint| format!("{}: {complaint}", package.manifest_path.display()))
    };
    crates.iter().flat_map(of_one).collect()
}

/// Normal, build, target-specific and development dependencies count alike: what a test of a crate needs from above
/// belongs in the crate above.
fn arrows(package: &Crate) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
        return vec![format!("the crate `{}` is not in the picture of the house", package.name)];
    };
    let own = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
    let wrong = own.filter(|dependency| !allowed.contains(&dependency.name.as_str()));
    wrong
        .map(|Dependency { name, .. }| {
            format!("depends on `{name}`; `{}` may depend on {allowed:?} only", package.name)
        })
        .collect()
}

fn reason(package: &Crate, files: &Files) -> Vec<String> {
    // The product itself needs no reason.
    if package.name == "agent" {
        return Vec::new();
    }
    let root = package.targets.iter().find(|target| target.is("lib"));
    let root = root.or_else(|| package.targets.iter().find(|target| target.is("bin")));
    let text = root.and_then(|root| files.get(&root.src_path)?.as_deref()).unwrap_or_default();
    let first = text.lines().next().and_then(|line| line.strip_prefix("//! ")).unwrap_or_default();
    let named = |text: &str| REASONS.iter().any(|reason| text.starts_with(reason));
    let mut complaints = Vec::new();
    if !named(package.description.as_deref().unwrap_or_default()) {
        complaints.push(format!("the description begins with none of the reasons for a crate: {REASONS:?}"));
    }
    if !named(first) {
        let root = root.map(|root| root.src_path.display().to_string()).unwrap_or_default();
        complaints.push(format!(
            "the first line of {root} begins with none of the reasons for a crate: {REASONS:?}"
        ));
    }
    complaints
}

fn folder(package: &Crate) -> Vec<String> {
    let folder = package.manifest_path.parent().and_then(Path::file_name).unwrap_or_default();
    let is_tests = folder == "tests" && package.name == "e2e";
    if folder == package.name.as_str() || is_tests {
        return Vec::new();
    }
    vec![format!("the crate `{}` lies in a folder of another name", package.name)]
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::invented;
    use super::*;

    /// A library with one normal dependency of each name; those of this repository are in `ARROWS`.
    pub(in super::super) fn library(name: &str, folder: &str, dependencies: &[&str]) -> Crate {
        let dependency = |name: &&str| Dependency {
            name: (*name).to_owned(),
            kind: None,
            path: ARROWS.iter().any(|(own, _)| own == name).then(PathBuf::new),
        };
        Crate {
            name: name.to_owned(),
            manifest_path: Path::new(folder).join("Cargo.toml"),
            description: Some("Free of IO: an example".to_owned()),
            dependencies: dependencies.iter().map(dependency).collect(),
            targets: vec![Target {
                kind: vec!["lib".to_owned()],
                src_path: Path::new(folder).join("src/lib.rs"),
            }],
        }
    }

    #[test]
    fn arrow_that_points_up_is_reported() {
        for (name, dependency) in
            [("protocol", "net"), ("platform", "protocol"), ("xtask", "platform"), ("e2e", "xtask")]
        {
            let found = arrows(&library(name, name, &["policy-schema", dependency]));
            assert!(
                found.len() == 1 && found[0].contains(&format!("depends on `{dependency}`")),
                "{found:?}"
            );
        }
        assert!(arrows(&library("common", "common", &[]))[0].contains("not in the picture"));
    }

    #[test]
    fn build_and_development_dependencies_count_as_arrows() {
        for kind in ["build", "dev"] {
            let mut package = library("protocol", "protocol", &["agent"]);
            package.dependencies[0].kind = Some(kind.to_owned());
            assert_eq!(arrows(&package).len(), 1, "{kind}");
        }
    }

    #[test]
    fn arrows_that_point_down_and_crates_from_elsewhere_pass() {
        let nothing = Vec::<String>::new();
        assert_eq!(arrows(&library("broker", "broker", &["net", "platform", "protocol", "serde"])), nothing);
        assert_eq!(arrows(&library("agent", "agent", &["broker", "updates", "axum"])), nothing);
        assert_eq!(arrows(&library("e2e", "tests", &["agent", "broker", "protocol"])), nothing);
    }

    /// The picture itself has no circle: every crate depends only on crates for which that is known already.
    #[test]
    fn arrows_of_the_picture_make_no_circle() {
        let mut placed: Vec<&str> = Vec::new();
        while placed.len() < ARROWS.len() {
            let next = ARROWS.iter().find(|(name, below)| {
                !placed.contains(name) && below.iter().all(|crate_below| placed.contains(crate_below))
            });
            placed.push(next.expect("a circle, or a crate that is not listed").0);
        }
    }

    #[test]
    fn crate_without_a_reason_is_reported() {
        let files = invented(&[("net/src/lib.rs", "//! Handy things.\n")]);
        let mut package = library("net", "net", &[]);
        let found = reason(&package, &files);
        assert!(found.len() == 1 && found[0].contains("first line of net/src/lib.rs"), "{found:?}");
        package.description = Some("Handy things".to_owned());
        assert_eq!(reason(&package, &files).len(), 2);
    }

    #[test]
    fn crate_with_a_reason_passes() {
        for reason_for_it in REASONS {
            let files = invented(&[("net/src/lib.rs", &format!("//! {reason_for_it}: an example.\n"))]);
            assert_eq!(reason(&library("net", "net", &[]), &files), Vec::<String>::new());
        }
        let agent = library("agent", "agent", &[]);
        assert_eq!(
            reason(&agent, &invented(&[("agent/src/lib.rs", "//! The agent.")])),
            Vec::<String>::new()
        );
    }

    #[test]
    fn folder_that_is_not_named_for_its_crate_is_reported() {
        assert_eq!(folder(&library("agent-platform", "agent/platform", &[])).len(), 1);
        assert_eq!(folder(&library("platform", "agent/platform", &[])), Vec::<String>::new());
        assert_eq!(folder(&library("e2e", "tests", &[])), Vec::<String>::new());
    }

    #[test]
    fn metadata_of_cargo_is_read_with_paths_in_the_repository() {
        let json = br#"{"workspace_root": "/r", "packages": [{"name": "net", "manifest_path": "/r/agent/net/Cargo.toml",
            "description": null, "targets": [{"kind": ["lib"], "src_path": "/r/agent/net/src/lib.rs"}],
            "dependencies": [{"name": "serde", "kind": "build"}, {"name": "platform", "kind": null, "path": "/r/x"}]}]}"#;
        let crates = read_metadata(json).unwrap();
        assert_eq!(crates[0].manifest_path, Path::new("agent/net/Cargo.toml"));
        assert_eq!(crates[0].targets[0].src_path, Path::new("agent/net/src/lib.rs"));
        let [serde, platform] = &crates[0].dependencies[..] else { panic!("two dependencies") };
        assert_eq!((serde.kind.as_deref(), serde.path.is_some()), (Some("build"), false));
        assert_eq!((platform.kind.as_deref(), platform.path.is_some()), (None, true));
    }
}
