//! Generates the enum of all causes from `causes.toml`. Code that names a cause that does not exist does not compile.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script everything through its environment, and it reads one file"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    symptom: String,
    cause: String,
    fix: BTreeMap<String, String>,
    #[serde(default)]
    texts: Vec<String>,
    #[serde(default)]
    codes: Vec<String>,
    #[serde(default)]
    network: bool,
    #[serde(default)]
    link: BTreeMap<String, String>,
    row: Option<String>,
}

fn main() {
    const SOURCE: &str = "src/diagnosis/causes.toml";
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");
    let text = std::fs::read_to_string(SOURCE).expect("causes.toml is there");
    let entries: BTreeMap<String, Entry> =
        toml::from_str(&text).expect("causes.toml is what the build script reads");
    let folder = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&folder).join("causes.rs"), generate(&entries))
        .expect("the build folder is writable");
}

fn generate(entries: &BTreeMap<String, Entry>) -> String {
    let (mut variants, mut names, mut all, mut arms) =
        (String::new(), String::new(), String::new(), String::new());
    for (id, entry) in entries {
        let variant = variant(id);
        let Entry { symptom, cause, fix, texts, codes, network, link, row } = entry;
        // Writing to a String cannot fail.
        let _ = writeln!(variants, "#[doc = {cause:?}] #[serde(rename = {id:?})] {variant},");
        let _ = writeln!(names, "Self::{variant} => {id:?},");
        let _ = write!(all, "Self::{variant}, ");
        let (fix, link): (Vec<_>, Vec<_>) = (fix.iter().collect(), link.iter().collect());
        let _ = writeln!(
            arms,
            "Self::{variant} => &Description {{ symptom: {symptom:?}, origin: {cause:?}, fixes: &{fix:?}, texts: &{texts:?}, \
             codes: &{codes:?}, network: {network}, links: &{link:?}, row: {row:?} }},"
        );
    }
    format!(
        "/// The causes, by stable names; generated from `causes.toml`.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]\n\
         #[expect(clippy::doc_markdown, reason = \"the documentation is text of the catalogue\")]\n\
         pub enum Cause {{\n{variants}}}\n\n\
         impl Cause {{\n\
         /// All of them, by name.\n\
         pub const ALL: &'static [Self] = &[{all}];\n\n\
         /// The stable name.\n\
         #[must_use]\n\
         pub fn as_str(self) -> &'static str {{ match self {{ {names} }} }}\n\n\
         fn description(self) -> &'static Description {{ match self {{ {arms} }} }}\n\
         }}\n"
    )
}

/// `proxy-unreachable` as `ProxyUnreachable`.
fn variant(id: &str) -> String {
    id.split('-')
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect()
}
