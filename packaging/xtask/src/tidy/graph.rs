//! No circle of modules within a crate. Parent and child of one module may use each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Files;
use super::crates::Crate;
use super::modules::{ModulePath, Tree, Use};
use super::tokens::System;

/// For each module, those that it uses, each with the first path that leads there.
type Graph = BTreeMap<ModulePath, BTreeMap<ModulePath, Use>>;

pub(super) fn complaints(crates: &[Crate], files: &Files) -> Vec<String> {
    // The same circle may exist on several systems.
    let mut found = BTreeSet::new();
    for package in crates {
        for target in package.targets.iter().filter(|target| !target.is("custom-build")) {
            for system in System::ALL {
                let tree = Tree::read(&target.src_path, files, system);
                found.extend(tree.unreadable.iter().map(|file| format!("{}: is not Rust", file.display())));
                found.extend(circles(&graph(tree.uses())).iter().map(|circle| describe(circle)));
            }
        }
    }
    found.into_iter().collect()
}

fn graph(uses: Vec<Use>) -> Graph {
    let mut graph = Graph::new();
    for found in uses {
        if !found.from.starts_with(&found.to) && !found.to.starts_with(&found.from) {
            let below = graph.entry(found.from.clone()).or_default();
            below.entry(found.to.clone()).or_insert(found);
        }
    }
    graph
}

/// The shortest circle through each module that is in one; each circle once.
fn circles(graph: &Graph) -> Vec<Vec<&Use>> {
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for start in graph.keys() {
        let Some(circle) = shortest_circle(graph, start) else { continue };
        let members: BTreeSet<&ModulePath> = circle.iter().map(|found| &found.from).collect();
        if seen.insert(members) {
            circles.push(circle);
        }
    }
    circles
}

/// Searches in breadth, so the first way back is the shortest.
fn shortest_circle<'g>(graph: &'g Graph, start: &'g ModulePath) -> Option<Vec<&'g Use>> {
    let mut reached: BTreeMap<&ModulePath, &Use> = BTreeMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(module) = waiting.pop_front() {
        for (to, found) in graph.get(module).into_iter().flatten() {
            if reached.contains_key(to) {
                continue;
            }
            reached.insert(to, found);
            waiting.push_back(to);
        }
    }
    let mut circle = vec![*reached.get(start)?];
    while let Some(first) = circle.last().filter(|found| found.from != *start) {
        circle.push(reached.get(&first.from)?);
    }
    circle.reverse();
    Some(circle)
}

fn describe(circle: &[&Use]) -> String {
    let name = |path: &ModulePath| if path.is_empty() { "crate".to_owned() } else { path.join("::") };
    let mut names: Vec<String> = circle.iter().map(|found| name(&found.from)).collect();
    names.extend(names.first().cloned());
    let lines =
        circle.iter().map(|found| format!("\n    {}:{}: `{}`", found.file.display(), found.line, found.path));
    let file = circle.first().map(|found| found.file.display().to_string()).unwrap_or_default();
    format!("{file}: circle of modules: {}{}", names.join(" -> "), lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::crates::tests::library;
    use super::super::tests::invented;
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        complaints(&[library("net", "net", &[])], &invented(files))
    }

    #[test]
    fn circle_is_reported_once_with_the_lines_that_make_it() {
        let files = [
            ("net/src/lib.rs", "mod a;\nmod b;\nmod c;"),
            ("net/src/a.rs", "//! A.\nuse crate::b::B;\npub struct A;"),
            ("net/src/b.rs", "pub struct B;\nfn f() { crate::c::g() }"),
            ("net/src/c.rs", "use super::a::A;\npub fn g() {}"),
        ];
        assert_eq!(
            found(&files),
            ["net/src/a.rs: circle of modules: a -> b -> c -> a\n    net/src/a.rs:2: `crate::b::B`\n    \
              net/src/b.rs:2: `crate::c::g`\n    net/src/c.rs:1: `super::a::A`"]
        );
    }

    #[test]
    fn circle_of_siblings_and_of_distant_modules_is_reported() {
        let siblings = [
            ("net/src/lib.rs", "mod a;"),
            ("net/src/a.rs", "mod b;\nmod c;"),
            ("net/src/a/b.rs", "use super::c::C;\npub struct B;"),
            ("net/src/a/c.rs", "use super::b::B;\npub struct C;"),
        ];
        assert_eq!(found(&siblings).len(), 1);
        let distant = [
            ("net/src/lib.rs", "mod a;\nmod d;"),
            ("net/src/a.rs", "mod b;\npub use b::B;"),
            ("net/src/a/b.rs", "use crate::d::D;\npub struct B;"),
            ("net/src/d.rs", "use crate::a::B;\npub struct D;"),
        ];
        assert_eq!(found(&distant).len(), 1);
    }

    #[test]
    fn circle_on_one_system_only_is_reported() {
        let files = [
            ("net/src/lib.rs", "mod a;\nmod b;"),
            ("net/src/a.rs", "use crate::b::B;\npub struct A;"),
            ("net/src/b.rs", "#[cfg(windows)]\nuse crate::a::A;\npub struct B;"),
        ];
        assert_eq!(found(&files).len(), 1);
    }

    #[test]
    fn shortest_circle_through_each_module_is_reported() {
        let files = [
            ("net/src/lib.rs", "mod a;\nmod b;\nmod c;"),
            ("net/src/a.rs", "use crate::b;\nuse crate::c;"),
            ("net/src/b.rs", "use crate::a;"),
            ("net/src/c.rs", "use crate::b;"),
        ];
        let found = found(&files);
        assert_eq!(found.len(), 2);
        assert!(found.iter().any(|circle| circle.contains("a -> b -> a\n")), "{found:?}");
        assert!(found.iter().any(|circle| circle.contains("c -> b -> a -> c\n")), "{found:?}");
    }

    #[test]
    fn parent_and_child_tests_and_arrows_down_pass() {
        let files = [
            ("net/src/lib.rs", "mod a;\nmod b;\npub use a::A;"),
            (
                "net/src/a.rs",
                "mod c;\nuse c::C;\npub struct A;\n#[cfg(test)]\nmod tests { use crate::b::B; }",
            ),
            ("net/src/a/c.rs", "use super::A;\nuse crate::b::D;\npub struct C;"),
            ("net/src/b.rs", "use crate::a::A;\npub struct B;\n#[cfg(test)]\nuse crate::a::c::C;"),
        ];
        // `a::c` uses `b`, `b` uses `a`, and `a` is the parent of `a::c`.
        assert_eq!(found(&files), Vec::<String>::new());
    }

    #[test]
    fn text_that_is_not_rust_is_reported() {
        assert_eq!(found(&[("net/src/lib.rs", "fn f() {")]), ["net/src/lib.rs: is not Rust"]);
    }
}
