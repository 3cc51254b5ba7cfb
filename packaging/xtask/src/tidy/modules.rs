//! The modules of a crate: which file each lies in, and where a path leads.
//!
//! In: the file of a crate's root and the texts of all files. Out: a [`Tree`] for one operating system, since `cfg`
//! chooses between files. Re-exports are followed, so a path leads to the module that declares what it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Files;
use super::tokens::{self, Declaration, Reference, Source, System};

/// Names from the root of the crate downwards; empty for the root.
pub(super) type ModulePath = Vec<String>;

/// How many re-exports are followed: two modules may re-export each other's names without end.
const MAXIMUM_DEPTH: usize = 16;

/// The modules of a crate, inline ones among them.
#[derive(Debug, Default)]
pub(super) struct Tree {
    modules: BTreeMap<ModulePath, Module>,
    /// Files whose text cannot be read as Rust.
    pub(super) unreadable: Vec<PathBuf>,
}

/// A module, or an inline module of one.
#[derive(Debug, Default)]
struct Module {
    /// Where it lies; nothing for inline modules.
    file: Option<PathBuf>,
    items: Vec<String>,
    /// What its own imports are called here, with where they come from.
    names: Vec<(String, Vec<String>)>,
    /// Where `use ...::*` takes names from.
    globs: Vec<Vec<String>>,
    references: Vec<Reference>,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq)]
enum Landing {
    Module(ModulePath),
    /// Something that this module declares.
    ItemOf(ModulePath),
}

/// A path in a module's file that leads into another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Use {
    pub(super) from: ModulePath,
    pub(super) to: ModulePath,
    pub(super) file: PathBuf,
    pub(super) line: usize,
    /// As it is written.
    pub(super) path: String,
}

impl Tree {
    /// Reads a crate from its root file.
    pub(super) fn read(root: &Path, files: &Files, system: System) -> Self {
        let mut tree = Self::default();
        let folder = root.parent().unwrap_or(Path::new(""));
        tree.read_file(root, folder, &[], files, system);
        tree
    }

    /// Reads a file and those of the modules that it declares. Theirs lie in `folder`.
    fn read_file(&mut self, file: &Path, folder: &Path, own: &[String], files: &Files, system: System) {
        let Some(Some(text)) = files.get(file) else { return };
        let Ok(source) = tokens::read(text, system) else {
            self.unreadable.push(file.to_owned());
            return;
        };
        for declaration in &source.modules {
            let path = [own, &declaration.scope, std::slice::from_ref(&declaration.name)].concat();
            if declaration.is_inline {
                self.modules.entry(path).or_default();
            } else if let Some((file, folder)) = locate(declaration, file, folder, files) {
                self.read_file(&file, &folder, &path, files, system);
            }
        }
        self.modules.entry(own.to_owned()).or_default().file = Some(file.to_owned());
        self.insert(own, source);
    }

    fn insert(&mut self, own: &[String], source: Source) {
        let module = |scope: &[String]| [own, scope].concat();
        for (scope, name) in source.items {
            self.modules.entry(module(&scope)).or_default().items.push(name);
        }
        for import in source.imports {
            let entry = self.modules.entry(module(&import.reference.scope)).or_default();
            let segments = import.reference.segments.clone();
            match import.name {
                Some(name) => entry.names.push((name, segments)),
                None => entry.globs.push(segments),
            }
            entry.references.push(import.reference);
        }
        for reference in source.paths {
            self.modules.entry(module(&reference.scope)).or_default().references.push(reference);
        }
    }

    /// Every path that leads from one file of the crate into another, in the order of the modules.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (path, module) in &self.modules {
            let from = self.with_file(path);
            let Some(file) = self.modules.get(from).and_then(|module| module.file.as_ref()) else { continue };
            for reference in &module.references {
                let Some(landing) = self.resolve(path, &reference.segments, MAXIMUM_DEPTH) else { continue };
                let (Landing::Module(to) | Landing::ItemOf(to)) = &landing;
                let to = self.with_file(to);
                if to != from {
                    uses.push(Use {
                        from: from.to_owned(),
                        to: to.to_owned(),
                        file: file.clone(),
                        line: reference.line,
                        path: reference.segments.join("::"),
                    });
                }
            }
        }
        uses
    }

    /// Every path of the crate in full: a name that is imported counts with the path that it is imported from.
    pub(super) fn full_paths(&self) -> Vec<(PathBuf, usize, Vec<String>)> {
        let mut paths = Vec::new();
        for (path, module) in &self.modules {
            let file = self.modules.get(self.with_file(path)).and_then(|module| module.file.clone());
            for reference in &module.references {
                let (first, rest) = reference.segments.split_first().unzip();
                let imported = module.names.iter().find(|(name, _)| Some(name) == first);
                let full = match imported {
                    Some((_, from)) => [from, rest.unwrap_or_default()].concat(),
                    None => reference.segments.clone(),
                };
                paths.push((file.clone().unwrap_or_default(), reference.line, full));
            }
        }
        paths
    }

    /// The module whose file an inline module lies in; others are their own.
    fn with_file<'p>(&self, path: &'p [String]) -> &'p [String] {
        let mut path = path;
        while let Some((_, above)) = path.split_last()
            && self.modules.get(path).is_none_or(|module| module.file.is_none())
        {
            path = above;
        }
        path
    }

    /// Where a path leads that stands in a module; nothing if it leads out of the crate.
    fn resolve(&self, module: &[String], segments: &[String], depth: usize) -> Option<Landing> {
        let depth = depth.checked_sub(1)?;
        let mut at = module.to_owned();
        let mut rest = segments;
        match rest.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {}
            // A child, or a name that is imported here; else a crate from elsewhere.
            first => {
                let imported = self
                    .modules
                    .get(module)?
                    .names
                    .iter()
                    .any(|(name, path)| name == first && path != segments);
                if !imported && !self.modules.contains_key(&child(module, first)) {
                    return None;
                }
            }
        }
        while let Some((first, after)) = rest.split_first() {
            if first == "super" {
                at.pop();
                rest = after;
                continue;
            }
            match self.lookup(&at, first, depth) {
                Some(Landing::Module(next)) => at = next,
                Some(Landing::ItemOf(module)) => return Some(Landing::ItemOf(module)),
                None => return Some(Landing::ItemOf(at)),
            }
            rest = after;
        }
        Some(Landing::Module(at))
    }

    /// What a name in a module means; nothing if that is not known, as for what a macro declares.
    fn lookup(&self, module: &[String], name: &str, depth: usize) -> Option<Landing> {
        let path = child(module, name);
        if self.modules.contains_key(&path) {
            return Some(Landing::Module(path));
        }
        let known = self.modules.get(module)?;
        if known.items.iter().any(|item| item == name) {
            return Some(Landing::ItemOf(module.to_owned()));
        }
        let imported = known.names.iter().find(|(own, _)| own == name);
        if let Some((_, from)) = imported {
            return self.resolve(module, from, depth);
        }
        known.globs.iter().find_map(|glob| match self.resolve(module, glob, depth)? {
            Landing::Module(other) if other != module => self.lookup(&other, name, depth.checked_sub(1)?),
            Landing::Module(_) | Landing::ItemOf(_) => None,
        })
    }
}

fn child(module: &[String], name: &str) -> ModulePath {
    [module, &[name.to_owned()]].concat()
}

/// The file of a module that another file declares, and the folder of the modules that it declares itself.
fn locate(
    declaration: &Declaration,
    file: &Path,
    folder: &Path,
    files: &Files,
) -> Option<(PathBuf, PathBuf)> {
    if let Some(path) = &declaration.path {
        let found = file.parent()?.join(path);
        let folder = found.parent()?.to_owned();
        return Some((found, folder));
    }
    let folder: PathBuf = folder.join(declaration.scope.iter().collect::<PathBuf>());
    let own = folder.join(&declaration.name);
    [folder.join(format!("{}.rs", declaration.name)), own.join("mod.rs")]
        .into_iter()
        .find(|candidate| files.contains_key(candidate))
        .map(|found| (found, own))
}

#[cfg(test)]
mod tests {
    use super::super::tests::invented;
    use super::*;

    fn uses(files: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::read(Path::new("x/src/lib.rs"), &invented(files), System::Linux);
        let shown = |path: &[String]| if path.is_empty() { "crate".to_owned() } else { path.join("::") };
        tree.uses().iter().map(|found| format!("{} -> {}", shown(&found.from), shown(&found.to))).collect()
    }

    #[test]
    fn paths_lead_to_the_module_of_the_longest_match() {
        let files = [
            ("x/src/lib.rs", "mod a;\nmod b;"),
            ("x/src/a/mod.rs", "mod c;\nuse self::c::C;\npub struct A;"),
            ("x/src/a/c.rs", "use super::super::b::f;\npub struct C;"),
            (
                "x/src/b.rs",
                "use crate::a::{A, c::C};\nfn g() { crate::a::A::new(); std::fs::read(); serde::x(); }\npub fn f() {}",
            ),
        ];
        assert_eq!(uses(&files), ["a -> a::c", "a::c -> b", "b -> a", "b -> a::c", "b -> a"]);
    }

    #[test]
    fn reexports_are_followed_to_the_declaration() {
        let files = [
            ("x/src/lib.rs", "mod a;\nmod b;\nmod d;\npub use a::A as Z;\npub use d::*;"),
            ("x/src/a.rs", "pub use self::c::{C, D as E};\nmod c;\npub struct A;"),
            ("x/src/a/c.rs", "pub struct C;\npub struct D;"),
            ("x/src/b.rs", "use crate::Z;\nuse crate::a::{C, E};\nuse crate::Y;"),
            ("x/src/d.rs", "pub enum Y {}"),
        ];
        let found = uses(&files);
        assert_eq!(
            found.iter().filter(|found| found.starts_with("b ")).collect::<Vec<_>>(),
            ["b -> a", "b -> a::c", "b -> a::c", "b -> d"]
        );
    }

    #[test]
    fn names_that_reexport_each_other_end() {
        let files = [
            ("x/src/lib.rs", "mod a;\nmod b;"),
            ("x/src/a.rs", "pub use crate::b::X;\npub use crate::b::*;"),
            ("x/src/b.rs", "pub use crate::a::X;\npub use crate::a::*;\nuse crate::a::Unknown;"),
        ];
        assert!(!uses(&files).is_empty());
    }

    #[test]
    fn inline_modules_belong_to_their_file() {
        let files = [
            ("x/src/lib.rs", "mod a;\nmod b { pub mod c; pub fn f() { super::a::g() } }"),
            ("x/src/b/c.rs", "use crate::b::f;\nuse super::super::a::g;"),
            ("x/src/a.rs", "mod inner { use super::super::b::c; }"),
        ];
        assert_eq!(uses(&files), ["a -> b::c", "crate -> a", "b::c -> crate", "b::c -> a"]);
    }

    #[test]
    fn path_attribute_names_the_file_of_the_system() {
        let files = [
            (
                "x/src/lib.rs",
                "#[cfg(unix)] #[path = \"linux/mod.rs\"] mod os;\n#[cfg(windows)] #[path = \"windows/mod.rs\"] mod os;\nmod a;",
            ),
            ("x/src/linux/mod.rs", "pub mod ipc;"),
            ("x/src/linux/ipc.rs", "use crate::a::f;"),
            ("x/src/windows/mod.rs", "use crate::a::f;"),
            ("x/src/a.rs", "pub fn f() {}"),
        ];
        assert_eq!(uses(&files), ["os::ipc -> a"]);
    }

    #[test]
    fn imported_names_count_with_their_full_path() {
        let files = invented(&[(
            "x/src/lib.rs",
            "use std::{env, fs as files};\nfn f() { env::var(\"x\"); files::read() }",
        )]);
        let tree = Tree::read(Path::new("x/src/lib.rs"), &files, System::Linux);
        let paths: Vec<String> = tree.full_paths().into_iter().map(|(_, _, path)| path.join("::")).collect();
        assert_eq!(paths, ["std::env", "std::fs", "std::env::var", "std::fs::read"]);
    }
}
