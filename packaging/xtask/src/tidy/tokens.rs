//! What a Rust source text says about modules: those that it declares, what it imports, and every path that it names.
//!
//! In: the text and the operating system that it is read for. Out: a [`Source`]. What is only for tests or for another
//! operating system is left out. The text is split into tokens, not parsed, so that paths inside macros count as well.

use std::str::FromStr as _;

use proc_macro2::{Delimiter, Ident, LexError, TokenStream, TokenTree};

/// The systems for which `cfg` decides differently.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum System {
    Linux,
    Macos,
    Windows,
}

impl System {
    pub(super) const ALL: [Self; 3] = [Self::Linux, Self::Macos, Self::Windows];

    fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Macos => "macos",
            Self::Windows => "windows",
        }
    }
}

/// What one file says about modules. A scope names the inline modules around something, outermost first.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) modules: Vec<Declaration>,
    pub(super) imports: Vec<Import>,
    /// Paths in code with at least two segments. Those of imports are not among them.
    pub(super) paths: Vec<Reference>,
    /// Names of what is declared outside functions, with the scope.
    pub(super) items: Vec<(Vec<String>, String)>,
}

/// `mod name;` or `mod name { ... }`.
#[derive(Debug, PartialEq)]
pub(super) struct Declaration {
    pub(super) scope: Vec<String>,
    pub(super) name: String,
    pub(super) is_inline: bool,
    /// What `#[path = "..."]` says.
    pub(super) path: Option<String>,
}

/// One name of a `use`.
#[derive(Debug, PartialEq)]
pub(super) struct Import {
    pub(super) reference: Reference,
    /// What it is called in this module; nothing for `*`.
    pub(super) name: Option<String>,
}

/// A path, as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reference {
    pub(super) scope: Vec<String>,
    pub(super) segments: Vec<String>,
    /// From 1.
    pub(super) line: usize,
}

/// Reads a source text.
///
/// # Errors
/// The text is not made of Rust's tokens.
pub(super) fn read(text: &str, system: System) -> Result<Source, LexError> {
    let tokens: Vec<TokenTree> = TokenStream::from_str(text)?.into_iter().collect();
    let mut reader = Reader { system, source: Source::default() };
    reader.walk(&tokens, &[], true);
    Ok(reader.source)
}

struct Reader {
    system: System,
    source: Source,
}

impl Reader {
    /// Reads tokens of one level. `outside` means outside functions: what is declared there can be named elsewhere.
    fn walk(&mut self, tokens: &[TokenTree], scope: &[String], outside: bool) {
        let mut next = 0;
        let mut path_attribute = None;
        while let Some(token) = tokens.get(next) {
            let rest = &tokens[next..];
            if let Some((length, attribute)) = attribute(rest) {
                let is_inner = length == 3;
                if self.condition(&attribute) == Some(false) {
                    if is_inner {
                        return;
                    }
                    next += length + item_length(&rest[length..]);
                    continue;
                }
                path_attribute = path_attribute.or_else(|| path_of(&attribute));
                next += length;
                continue;
            }
            let length = match token {
                TokenTree::Ident(word) if word == "use" && starts_item(tokens, next) => {
                    let end = end_of_statement(rest);
                    self.read_use(&rest[1..end], &[], scope);
                    end
                }
                TokenTree::Ident(word) if word == "mod" => {
                    self.read_module(rest, scope, path_attribute.take())
                }
                TokenTree::Ident(word) => {
                    // `*const T` declares nothing.
                    let pointer = next > 0 && is_sign(&tokens[next - 1], '*');
                    if outside && is_declaration(word) && !pointer {
                        self.read_name(rest, scope);
                    }
                    let segments = path(rest);
                    if segments.len() > 1 {
                        self.source.paths.push(Reference {
                            scope: scope.to_owned(),
                            line: word.span().start().line,
                            segments: segments.clone(),
                        });
                    }
                    segments.len() * 3 - 2
                }
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    self.walk(&inner, scope, false);
                    1
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => 1,
            };
            next += length;
        }
    }

    /// `mod name;` or `mod name { ... }`; gives how many tokens that is.
    fn read_module(&mut self, rest: &[TokenTree], scope: &[String], path: Option<String>) -> usize {
        let [_, TokenTree::Ident(name), body, ..] = rest else { return 1 };
        let (name, is_inline) = (plain(name), matches!(body, TokenTree::Group(_)));
        if let TokenTree::Group(body) = body {
            let inner: Vec<TokenTree> = body.stream().into_iter().collect();
            self.walk(&inner, &[scope, std::slice::from_ref(&name)].concat(), true);
        }
        self.source.modules.push(Declaration { scope: scope.to_owned(), name, is_inline, path });
        3
    }

    /// `struct name`, `static mut name`, `macro_rules! name`. A pointer to a function has no name.
    fn read_name(&mut self, rest: &[TokenTree], scope: &[String]) {
        let name = match rest {
            [_, TokenTree::Ident(word), TokenTree::Ident(name), ..] if word == "mut" => name,
            [_, TokenTree::Punct(sign), TokenTree::Ident(name), ..] if sign.as_char() == '!' => name,
            [_, TokenTree::Ident(name), ..] if !is_declaration(name) => name,
            _ => return,
        };
        self.source.items.push((scope.to_owned(), plain(name)));
    }

    /// Reads what follows `use`, or a group in it.
    fn read_use(&mut self, tokens: &[TokenTree], prefix: &[String], scope: &[String]) {
        for part in tokens.split(|token| is_sign(token, ',')) {
            let mut segments = prefix.to_owned();
            let mut name = None;
            let mut renamed = false;
            let mut line = 0;
            for token in part {
                match token {
                    TokenTree::Ident(word) if word == "as" => renamed = true,
                    TokenTree::Ident(word) if renamed => name = Some(plain(word)),
                    TokenTree::Ident(word) => {
                        line = word.span().start().line;
                        // `a::{self}` is `a`.
                        if word != "self" || segments.is_empty() {
                            segments.push(plain(word));
                        }
                        name = segments.last().cloned();
                    }
                    TokenTree::Punct(sign) if sign.as_char() == '*' => {
                        line = sign.span().start().line;
                        name = None;
                    }
                    TokenTree::Group(group) => {
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.read_use(&inner, &segments, scope);
                        line = 0;
                    }
                    TokenTree::Punct(_) | TokenTree::Literal(_) => {}
                }
            }
            let ends_with_group = matches!(part.last(), None | Some(TokenTree::Group(_)));
            if !ends_with_group {
                let reference = Reference { scope: scope.to_owned(), segments, line };
                self.source.imports.push(Import { reference, name });
            }
        }
    }

    /// What `#[cfg(...)]` decides; nothing if it is not that, or depends on a feature.
    fn condition(&self, attribute: &[TokenTree]) -> Option<bool> {
        match attribute {
            [TokenTree::Ident(name), TokenTree::Group(condition)] if name == "cfg" => {
                self.decide(&condition.stream().into_iter().collect::<Vec<_>>())
            }
            _ => None,
        }
    }

    fn decide(&self, condition: &[TokenTree]) -> Option<bool> {
        match condition {
            [TokenTree::Ident(name)] => match name.to_string().as_str() {
                "test" => Some(false),
                "unix" => Some(self.system != System::Windows),
                "windows" => Some(self.system == System::Windows),
                _ => None,
            },
            [TokenTree::Ident(name), _, TokenTree::Literal(system)] if name == "target_os" => {
                Some(system.to_string().trim_matches('"') == self.system.name())
            }
            [TokenTree::Ident(name), TokenTree::Group(group)] => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let parts = inner.split(|token| is_sign(token, ',')).filter(|part| !part.is_empty());
                let mut parts = parts.map(|part| self.decide(part));
                match name.to_string().as_str() {
                    "not" => parts.next().flatten().map(|decided| !decided),
                    "all" if parts.clone().any(|part| part == Some(false)) => Some(false),
                    "all" if parts.all(|part| part == Some(true)) => Some(true),
                    "any" if parts.clone().any(|part| part == Some(true)) => Some(true),
                    "any" if parts.all(|part| part == Some(false)) => Some(false),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// An attribute at the beginning of the tokens: how many tokens it has, and what stands in its brackets.
fn attribute(tokens: &[TokenTree]) -> Option<(usize, Vec<TokenTree>)> {
    let (length, group) = match tokens {
        [hash, TokenTree::Group(group), ..] if is_sign(hash, '#') => (2, group),
        // `#![...]`: of a whole file.
        [hash, bang, TokenTree::Group(group), ..] if is_sign(hash, '#') && is_sign(bang, '!') => (3, group),
        _ => return None,
    };
    (group.delimiter() == Delimiter::Bracket).then(|| (length, group.stream().into_iter().collect()))
}

/// The file that `path = "..."` names.
fn path_of(attribute: &[TokenTree]) -> Option<String> {
    match attribute {
        [TokenTree::Ident(name), _, TokenTree::Literal(path)] if name == "path" => {
            Some(path.to_string().trim_matches('"').to_owned())
        }
        _ => None,
    }
}

/// How many tokens the item, statement or field has that an attribute stands before.
fn item_length(tokens: &[TokenTree]) -> usize {
    const WORDS: [&str; 17] = [
        "async",
        "const",
        "enum",
        "extern",
        "fn",
        "impl",
        "let",
        "macro_rules",
        "mod",
        "pub",
        "static",
        "struct",
        "trait",
        "type",
        "union",
        "unsafe",
        "use",
    ];
    let mut start = 0;
    while let Some((length, _)) = attribute(&tokens[start..]) {
        start += length;
    }
    let is_item =
        matches!(tokens.get(start), Some(TokenTree::Ident(word)) if WORDS.iter().any(|known| word == known));
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        // Between the fields of a struct; an item may have commas among its types.
        TokenTree::Punct(sign) => sign.as_char() == ';' || (sign.as_char() == ',' && !is_item),
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    // The braces of `use a::{b, c};` do not end it.
    let is_use =
        tokens[start..].iter().take(3).any(|token| matches!(token, TokenTree::Ident(word) if word == "use"));
    if is_use {
        return start + end_of_statement(&tokens[start..]) + 1;
    }
    tokens[start..].iter().position(ends).map_or(tokens.len(), |end| start + end + 1)
}

fn end_of_statement(tokens: &[TokenTree]) -> usize {
    tokens.iter().position(|token| is_sign(token, ';')).unwrap_or(tokens.len())
}

/// Whether a `use` begins an import: in `impl Trait + use<'a>` it does not.
fn starts_item(tokens: &[TokenTree], at: usize) -> bool {
    !tokens.get(at + 1).is_some_and(|token| is_sign(token, '<'))
}

/// The segments of the path at the beginning of the tokens; the first token is a word.
fn path(tokens: &[TokenTree]) -> Vec<String> {
    let mut segments = Vec::new();
    let mut rest = tokens;
    while let [TokenTree::Ident(word), after @ ..] = rest {
        segments.push(plain(word));
        let [first, second, after @ ..] = after else { break };
        if !is_sign(first, ':') || !is_sign(second, ':') {
            break;
        }
        rest = after;
    }
    segments
}

fn is_declaration(word: &Ident) -> bool {
    const WORDS: [&str; 9] =
        ["const", "enum", "fn", "macro_rules", "static", "struct", "trait", "type", "union"];
    WORDS.iter().any(|known| word == known)
}

fn is_sign(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(sign) if sign.as_char() == wanted)
}

/// A word without the mark of a raw identifier.
fn plain(word: &Ident) -> String {
    word.to_string().trim_start_matches("r#").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(text: &str) -> Vec<(String, Option<String>)> {
        let source = read(text, System::Linux).unwrap();
        source.imports.into_iter().map(|import| (import.reference.segments.join("::"), import.name)).collect()
    }

    fn paths(text: &str) -> Vec<String> {
        let source = read(text, System::Linux).unwrap();
        source.paths.into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn each_name_of_a_nested_use_is_an_import() {
        let text = "pub(crate) use crate::a::{self, b::{C, D as E}, f::*};\nuse super::g;\nuse h as _;\nuse {i::J, k};";
        let named = |path: &str, name: &str| (path.to_owned(), Some(name.to_owned()));
        assert_eq!(
            imports(text),
            [
                named("crate::a", "a"),
                named("crate::a::b::C", "C"),
                named("crate::a::b::D", "E"),
                ("crate::a::f".to_owned(), None),
                named("super::g", "g"),
                named("h", "_"),
                named("i::J", "J"),
                named("k", "k"),
            ]
        );
    }

    #[test]
    fn paths_are_found_in_bodies_types_and_macros_but_not_in_text() {
        let text = "fn f(x: crate::a::B) -> Vec<super::c::D> { // crate::no::comment\n g!(\"crate::no::text\", $crate::e::f()); self::h::i::<u8>() }";
        assert_eq!(paths(text), ["crate::a::B", "super::c::D", "crate::e::f", "self::h::i"]);
    }

    #[test]
    fn what_is_only_for_tests_is_left_out() {
        let text = "#[cfg(test)]\nmod tests { use crate::a; fn f() { crate::b::c() } }\n#[cfg(all(test, unix))]\nuse crate::{d, e};\n\
                    #[cfg(test)]\n#[expect(x, reason = \"y\")]\npub fn g<A, B>() { crate::h::i() }\n#[cfg(feature = \"x\")]\nuse crate::j;\n\
                    #[cfg(not(test))]\nuse crate::k;";
        assert_eq!(
            imports(text).into_iter().map(|(path, _)| path).collect::<Vec<_>>(),
            ["crate::j", "crate::k"]
        );
        assert_eq!(paths(text), Vec::<String>::new());
        assert!(read(text, System::Linux).unwrap().modules.is_empty());
    }

    #[test]
    fn cfg_chooses_what_is_for_the_system() {
        let text = "#[cfg(target_os = \"linux\")] #[path = \"linux/mod.rs\"] mod os; #[cfg(windows)] #[path = \"windows/mod.rs\"] mod os;\n\
                    #[cfg(any(target_os = \"macos\", windows))] use crate::a;";
        for (system, path, imports) in [
            (System::Linux, Some("linux/mod.rs"), 0),
            (System::Macos, None, 1),
            (System::Windows, Some("windows/mod.rs"), 1),
        ] {
            let source = read(text, system).unwrap();
            assert_eq!(source.modules.first().and_then(|module| module.path.as_deref()), path, "{system:?}");
            assert_eq!(source.imports.len(), imports, "{system:?}");
        }
    }

    #[test]
    fn modules_and_items_are_found_with_their_scope() {
        let text = "mod a;\npub mod b { mod c; pub struct D; }\npub const fn e() { fn inner() {} }\nmacro_rules! f { () => {} }\nstatic mut G: u8 = 0; type H = fn(I) -> *const J;";
        let source = read(text, System::Linux).unwrap();
        let modules: Vec<_> = source
            .modules
            .iter()
            .map(|module| (module.scope.join("::"), &*module.name, module.is_inline))
            .collect();
        assert_eq!(
            modules,
            [(String::new(), "a", false), ("b".to_owned(), "c", false), (String::new(), "b", true)]
        );
        let items: Vec<_> = source.items.iter().map(|(scope, name)| (scope.join("::"), &**name)).collect();
        assert!(items.contains(&("b".to_owned(), "D")), "{items:?}");
        for name in ["e", "f", "G"] {
            assert!(items.contains(&(String::new(), name)), "{name}: {items:?}");
        }
        assert!(!items.iter().any(|(_, name)| ["inner", "I", "J"].contains(name)), "{items:?}");
    }
}
