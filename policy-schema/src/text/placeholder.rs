//! Templates that were not filled in: the marks of the usual tools, and words that stand for a value.

/// The part of a text that a template was to fill in: `<...>`, `{{...}}`, `$X`, `${X}`, `$(X)`, `%X%`, `#{X}#` and the
/// like.
#[must_use]
pub fn placeholder(text: &str) -> Option<&str> {
    find_part(text, placeholder_at)
}

/// The same in a sentence, which may hold some of these characters: only the forms that nothing but a template has.
#[must_use]
pub fn placeholder_in_sentence(text: &str) -> Option<&str> {
    find_part(text, |text| {
        let found = placeholder_at(text)?;
        let inner = found.trim_matches(|letter: char| !letter.is_alphanumeric());
        let word =
            inner.len() > 1 && inner.chars().all(|letter| is_of_identifier(letter) || "-. ".contains(letter));
        // `Example <Corp>` may be a name.
        let capital = found.starts_with('<')
            && inner.starts_with(char::is_uppercase)
            && inner.contains(char::is_lowercase);
        let shell = found.starts_with('$') && !found.contains(['{', '(']);
        let single_brace = found.starts_with('{') && !found.starts_with("{{") && !found.starts_with("{%");
        (word && !capital && !shell && !single_brace).then_some(found)
    })
}

/// The part of an address, between its dots and slashes, that stands for one to be filled in: `your-domain`, `TENANT-ID`,
/// the GUID of zeros.
#[must_use]
pub fn placeholder_in_address(text: &str) -> Option<&str> {
    const NAMES: [&str; 13] = [
        "tenantid",
        "clientid",
        "directoryid",
        "environmentid",
        "envid",
        "orgid",
        "companyname",
        "orgname",
        "tenantname",
        "domainname",
        "hostname",
        "oktadomain",
        "appid",
    ];
    const OWN: [&str; 12] = [
        "company",
        "domain",
        "org",
        "organization",
        "organisation",
        "tenant",
        "oktadomain",
        "host",
        "hostname",
        "site",
        "server",
        "environment",
    ];
    text.split(['/', '.', ':', '?', '=', '&', '@']).find(|part| {
        let folded = fold(part);
        is_filled_with_one(part)
            || NAMES.contains(&folded.as_str())
            || folded.strip_prefix("your").is_some_and(|rest| {
                let rest = rest.trim_end_matches("here").trim_end_matches("name").trim_end_matches("id");
                OWN.contains(&rest)
            })
    })
}

/// What every form of a placeholder begins with.
const BEGIN: &[u8] = b"$%{<#@[_!";

fn find_part(text: &str, at: impl Fn(&str) -> Option<&str>) -> Option<&str> {
    let starts = text.bytes().enumerate().filter(|(_, byte)| BEGIN.contains(byte));
    starts.map(|(start, _)| start).find_map(|start| at(&text[start..]))
}

/// Whether a text is nothing but such a part. A sentence may hold these characters.
#[must_use]
pub fn is_placeholder(text: &str) -> bool {
    const SAID: [&str; 24] = [
        "changeme",
        "replaceme",
        "placeholder",
        "todo",
        "tbd",
        "fixme",
        "null",
        "undefined",
        "nil",
        "notset",
        "clientid",
        "applicationid",
        "applicationclientid",
        "appid",
        "tenantid",
        "directoryid",
        "directorytenantid",
        "clientsecret",
        "token",
        "secret",
        "issuer",
        "issuerurl",
        "enrollmenttoken",
        "enrolmenttoken",
    ];
    const VERBS: [&str; 7] = ["your", "replacewith", "insert", "enter", "put", "paste", "add"];
    const OBJECTS: [&str; 17] = [
        "id",
        "here",
        "domain",
        "tenant",
        "secret",
        "token",
        "name",
        "url",
        "issuer",
        "org",
        "company",
        "organization",
        "organisation",
        "value",
        "email",
        "contact",
        "key",
    ];
    let text = text.trim();
    let variable = text.strip_prefix('$').is_some_and(is_identifier);
    let folded = fold(text);
    let in_brackets = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inner| {
        inner.chars().any(char::is_alphabetic)
            && inner.chars().all(|letter| letter.is_alphanumeric() || "-_ /".contains(letter))
    });
    // Nobody's name is in capitals and underscores.
    let loud = text.contains('_') && !text.contains(' ') && !text.chars().any(char::is_lowercase);
    let asks = VERBS.iter().any(|verb| folded.starts_with(verb))
        && OBJECTS.iter().any(|object| folded.ends_with(object))
        && text.contains(['_', '-', ' '])
        && text.is_ascii();
    // `your-company` may be the name of an app.
    let names_owner =
        ["org", "company", "organization", "organisation"].iter().any(|end| folded.ends_with(end));
    variable
        || SAID.contains(&folded.trim_matches(|letter| "()<>".contains(letter)))
        || placeholder_at(text).is_some_and(|found| found.len() == text.len())
        || in_brackets
        || is_filled_with_one(text)
        || asks && (loud || !names_owner)
}

/// Whether a text is made of one character, as `xxxx-xxxx` and the GUID of zeros.
fn is_filled_with_one(text: &str) -> bool {
    let all_same = |allowed: &str| {
        text.len() > 3 && text.chars().all(|letter| letter == '-' || allowed.contains(letter))
    };
    all_same("xX") && text.contains(['x', 'X']) || text.len() >= 32 && all_same("0")
}

fn fold(text: &str) -> String {
    text.to_ascii_lowercase().replace(['-', '_', ' '], "")
}

/// The placeholder that a text begins with.
fn placeholder_at(text: &str) -> Option<&str> {
    const PAIRS: [(&str, &str); 12] = [
        ("${{", "}}"),
        ("{{", "}}"),
        ("{%", "%}"),
        ("${", "}"),
        ("$(", ")"),
        ("#{", "}"),
        ("<%", "%>"),
        ("@@", "@@"),
        ("[[", "]]"),
        ("__", "__"),
        ("@", "@"),
        ("!", "!"),
    ];
    if !text.bytes().next().is_some_and(|first| BEGIN.contains(&first)) {
        return None;
    }
    for (open, close) in PAIRS {
        let Some(rest) = text.strip_prefix(open) else { continue };
        let Some(end) = rest.find(close) else { continue };
        let inner = rest[..end].trim();
        let named = match open {
            "__" | "[[" | "@@" => is_identifier(inner),
            // Of one character, they stand in other texts as well.
            "@" | "!" => {
                is_identifier(&rest[..end])
                    && inner.len() > 1
                    && !inner.chars().any(|one| one.is_ascii_lowercase())
            }
            _ => !inner.is_empty(),
        };
        return named.then(|| &text[..open.len() + end + close.len()]);
    }
    let letters = |text: &str| text.chars().any(char::is_alphabetic);
    if let Some(rest) = text.strip_prefix('<') {
        let end = rest.find('>')?;
        // `<help@example.com>` is an address.
        let named = letters(&rest[..end]) && !rest.starts_with(' ') && !rest[..end].contains(['@', ':']);
        return named.then(|| &text[..end + 2]);
    }
    // `{0}` and `{tenant-id}`; a GUID in braces is a GUID.
    if let Some(rest) = text.strip_prefix('{') {
        let end = rest.find('}')?;
        let is_guid = end == 36 && rest[..end].chars().all(|one| one.is_ascii_hexdigit() || one == '-');
        return (end > 0 && !is_guid && !rest[..end].contains(['{', '"', ':'])).then(|| &text[..end + 2]);
    }
    if let Some(rest) = text.strip_prefix('%') {
        let end = rest.find('%')?;
        let name = &rest[..end];
        let is_byte = name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let named = is_identifier(name.trim_end_matches("(x86)")) && name.len() > 1;
        return (named && !is_byte).then(|| &text[..end + 2]);
    }
    // Only in capitals: `$metadata` is an ordinary part of an address.
    let name = text.strip_prefix('$')?;
    let end = name.find(|letter: char| !is_of_identifier(letter)).unwrap_or(name.len());
    let upper = name[..end].chars().all(|letter| !letter.is_ascii_lowercase());
    (end > 1 && upper && is_identifier(&name[..end])).then(|| &text[..=end])
}

fn is_of_identifier(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(is_of_identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_that_a_template_was_to_fill_in_is_found() {
        for (text, expected) in [
            ("https://login.microsoftonline.com/<tenant ID>/v2.0", Some("<tenant ID>")),
            ("https://login.microsoftonline.com/{{aadtenantid}}/v2.0", Some("{{aadtenantid}}")),
            ("https://login.microsoftonline.com/{tenant}/v2.0", Some("{tenant}")),
            ("https://${IDP_HOST}/oauth2", Some("${IDP_HOST}")),
            ("https://$OKTA_DOMAIN", Some("$OKTA_DOMAIN")),
            ("https://%IDP_HOST%/x", Some("%IDP_HOST%")),
            (r"%ProgramFiles(x86)%\a.exe", Some("%ProgramFiles(x86)%")),
            ("#{ClientId}#", Some("#{ClientId}")),
            ("$(ClientId)", Some("$(ClientId)")),
            ("${{ vars.CLIENT_ID }}", Some("${{ vars.CLIENT_ID }}")),
            ("it@@ORG@@", Some("@@ORG@@")),
            ("https://@ORG@.okta.com", Some("@ORG@")),
            ("!CLIENTID!", Some("!CLIENTID!")),
            ("Help <help@example.com>", None),
            ("__CLIENT_ID__", Some("__CLIENT_ID__")),
            ("https://a.example/%C3%BC%20%AB", None),
            ("https://a.example/$metadata?x={}", None),
            ("{6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10}", None),
            ("a < b > 1", None),
        ] {
            assert_eq!(placeholder(text), expected, "{text}");
        }
        for text in [
            "$EMAIL",
            "$email",
            "{{domain}}",
            "<client ID>",
            "%CLIENT_ID%",
            "CHANGEME",
            "replace-me",
            "xxxx-xxxx",
            "00000000-0000-0000-0000-000000000000",
            "your-client-id",
            "YOUR_CLIENT_ID_HERE",
            "ENTER_CLIENT_ID_HERE",
            "CLIENT-ID",
            "YOUR_ORG",
            "[Company Name]",
            "null",
            "undefined",
            "TOKEN",
            "@ORG@",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in [
            "O’Reilly’s “R&D” – 100% $HOME `x` <y> 'z'",
            "chat {#it-help} {{ item }} {% if x %}",
            "<help@example.com>",
            "IT <help@example.com>",
            "example.com",
            "Your IT team",
            "0oa1",
            "GOCSPX-a$B",
            "yourcompany.com",
            "10",
            "insert coin",
            "your-company",
        ] {
            assert!(!is_placeholder(text), "{text}");
        }
        for text in [
            "it-help@{{ domain }}",
            "Help: ${URL}",
            "{{ org }} GmbH",
            "Acme %REGION%",
            "Acme <region>",
            "Acme @ORG@",
            "${{ vars.ORG }} Inc.",
        ] {
            assert!(placeholder_in_sentence(text).is_some(), "{text}");
        }
        for text in [
            "O’Reilly’s “R&D” – 100% $HOME `x` <y> 'z'",
            "chat {#it-help} for $5",
            "IT <help@example.com>",
            "up 5% to 10%",
            "Hey! You! <3",
        ] {
            assert_eq!(placeholder_in_sentence(text), None, "{text}");
        }
        for (text, expected) in [
            ("https://your-domain.okta.com", Some("your-domain")),
            ("yourcompany.com", Some("yourcompany")),
            ("https://login.microsoftonline.com/TENANT-ID/v2.0", Some("TENANT-ID")),
            (
                "https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000/v2.0",
                Some("00000000-0000-0000-0000-000000000000"),
            ),
            ("https://login.microsoftonline.com/xxxxxxxx-xxxx-xxxx/v2.0", Some("xxxxxxxx-xxxx-xxxx")),
            ("https://example.okta.com/oauth2/default/v1/token", None),
            ("https://yourself.example.com/", None),
        ] {
            assert_eq!(placeholder_in_address(text), expected, "{text}");
        }
    }
}
