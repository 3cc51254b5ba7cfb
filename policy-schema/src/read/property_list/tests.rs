use super::*;

fn xml(body: &str) -> Vec<u8> {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<plist version=\"1.0\"><dict>{body}</dict></plist>")
        .into_bytes()
}

#[test]
fn managed_preferences_are_read_and_keys_of_profile_ignored() {
    let policy = read(&xml("<key>UpdateMode</key><string>notify</string><key>ReportPosture</key><true/>\
         <key>UpdateDeferDays</key><integer>7</integer>\
         <key>Scopes</key><array><string>openid</string></array>\
         <key>PayloadUUID</key><string>x</string><key>_manualProfile</key><dict><key>a</key><array/></dict>\
         <key>Recommended</key><dict><key>LogLevel</key><string>debug</string></dict>"))
    .unwrap();
    let keys: Vec<_> = policy.enforced.keys().map(String::as_str).collect();
    assert_eq!(keys, ["ReportPosture", "Scopes", "UpdateDeferDays", "UpdateMode"]);
    assert_eq!(policy.enforced["Scopes"].value, RawValue::List(vec!["openid".into()]));
    assert_eq!(policy.recommended["LogLevel"].value, RawValue::Str("debug".into()));
}

#[test]
fn binary_and_xml_are_read_the_same() {
    let document =
        xml("<key>UpdateMode</key><string>off</string><key>Scopes</key><array><string>a</string></array>");
    let value = plist::Value::from_reader(Cursor::new(&document)).unwrap();
    let mut binary = Vec::new();
    value.to_writer_binary(&mut binary).unwrap();
    assert_eq!(read(&binary).unwrap(), read(&document).unwrap());
}

#[test]
fn type_that_no_setting_has_keeps_its_name() {
    let policy = read(&xml(
        "<key>a</key><real>1.5</real><key>b</key><date>2020-01-01T00:00:00Z</date><key>c</key><data>AAAA</data>\
         <key>d</key><dict><key>x</key><dict/></dict><key>e</key><array><array/></array>",
    ))
    .unwrap();
    let kinds: Vec<_> = policy.enforced.values().map(|entry| entry.value.kind_name().to_owned()).collect();
    assert_eq!(
        kinds,
        ["a number with a fraction", "a date", "data", "a dictionary", "a list of other things than texts"]
    );
}

#[test]
fn hostile_document_is_error() {
    let deep = xml(&format!("<key>a</key>{}", "<array>".repeat(200_000)));
    let wide = xml(&(0..60_000).map(|n| format!("<key>{n}</key><true/>")).collect::<Vec<_>>().concat());
    let truncated = &xml("<key>UpdateMode</key><string>off</string>")[..80];
    for bytes in [deep.as_slice(), &wide, truncated, b"", b"bplist00", b"<plist><array/></plist>"] {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]);
        assert!(read(bytes).is_err(), "{start}");
    }
}

#[test]
fn key_set_twice_is_error() {
    let twice = xml("<key>UpdateMode</key><string>off</string><key>UpdateMode</key><string>notify</string>");
    assert_eq!(read(&twice).unwrap_err().message, "the key `UpdateMode` is set twice");
}

#[test]
fn document_with_own_entities_is_error() {
    let bytes = b"<?xml version=\"1.0\"?><!DOCTYPE plist [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;\">]>\
        <plist><dict><key>x</key><string>&b;</string></dict></plist>";
    assert!(read(bytes).unwrap_err().message.contains("entities"));
}

/// Found by trial: what editors and teams write, and any parser of XML takes, was refused.
#[test]
fn legal_xml_is_read() {
    let mode = |document: &[u8]| read(document).unwrap().enforced["UpdateMode"].value.clone();
    let body = "<dict><key>UpdateMode</key><string>off</string></dict>";
    let utf16 = |text: &str| -> Vec<u8> {
        format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    for document in [
        format!("<!-- IT & Security -->\n<plist version=\"1.0\">{body}</plist>").into_bytes(),
        format!("<!-- no <![CDATA[ here, ends with </plist> -->\n<plist>{body}</plist>").into_bytes(),
        format!("<plist>{body}</plist>\n<!-- managed by the platform team -->\n").into_bytes(),
        format!("\u{feff}<?xml version='1.0' encoding='utf-8'?><plist>{body}</plist>").into_bytes(),
        format!("\n\n<?xml version=\"1.0\"?>\r\n<plist>{body}</plist>").into_bytes(),
        utf16(&format!("<?xml version=\"1.0\" encoding=\"UTF-16\"?><plist>{body}</plist>")),
        xml("<key>UpdateMode</key><string><![CDATA[off]]></string>"),
        xml("<key>UpdateMode</key><string>o<!-- - -->f&#102;</string>"),
    ] {
        assert_eq!(mode(&document), RawValue::Str("off".into()), "{}", String::from_utf8_lossy(&document));
    }
    let latin = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><plist><dict><key>a</key><string>Caf\xe9</string></dict></plist>";
    assert_eq!(read(latin).unwrap().enforced["a"].value, RawValue::Str("Café".into()));
    let text = read(&xml("<key>a</key><string>&lt;&amp;&#228;&gt;<![CDATA[<&x]]></string>")).unwrap();
    assert_eq!(text.enforced["a"].value, RawValue::Str("<&ä><&x".into()));
}

#[test]
fn document_that_is_not_well_formed_is_error() {
    let two = [xml("<key>a</key><true/>"), xml("<key>b</key><true/>")].concat();
    let nul = [xml("<key>a</key><true/>"), vec![0, 0]].concat();
    for (document, reason) in [
        (xml("<key>ProxyUrl</key><string>evil&foo;.example</string>"), "`&foo;` is not an XML entity"),
        (xml("<key>a</key><string>A&nbsp;B</string>"), "`&nbsp;` is not an XML entity"),
        (xml("<key>a</key><string>off&#0;</string>"), "is not an XML entity"),
        (xml("<key>a</key><string>a & b</string>"), "an `&` that begins no XML entity"),
        (
            xml("<key>Recommended</key><dict><key>a</key><true/></dict><key>recommended</key><dict></dict>"),
            "second dictionary",
        ),
        (two, "after its end"),
        (nul, "after its end"),
        (b"<plist><dict><key>a</key>".to_vec(), "cut off"),
        (b"<policy/>".to_vec(), "not a property list"),
        (b"<\0p\0l\0i\0s\0t\0".to_vec(), "UTF-16 without a byte order mark"),
        (b"<?xml version=\"1.0\" encoding=\"koi8-r\"?><plist/>".to_vec(), "encoding `koi8-r`"),
    ] {
        let error = read(&document).unwrap_err();
        assert!(error.message.contains(reason), "{reason}: {}", error.message);
    }
}

/// Found by trial: a profile under another name, or in the form of older consoles, set nothing and was called fine.
#[test]
fn payloads_of_each_form_are_read_or_named() {
    let domain = "dev.steward.agent";
    let document = |body: &str| read_document(&xml(body), domain);
    let payload =
        |kind: &str, body: &str| format!("<dict><key>PayloadType</key><string>{kind}</string>{body}</dict>");
    let profile = |payloads: &str| {
        format!(
            "<key>PayloadContent</key><array>{payloads}</array><key>PayloadType</key><string>Configuration</string>"
        )
    };
    let off = "<key>UpdateMode</key><string>off</string>";
    let mcx = |domain: &str, frequency: &str| {
        format!(
            "<key>PayloadContent</key><dict><key>{domain}</key><dict><key>{frequency}</key><array><dict>\
             <key>mcx_preference_settings</key><dict>{off}</dict></dict></array></dict></dict>"
        )
    };
    let managed = "com.apple.ManagedClient.preferences";
    for body in [
        off.to_owned(),
        profile(&payload(domain, off)),
        profile(
            &[payload("com.apple.wifi.managed", ""), payload(domain, off), payload(domain, off)].concat(),
        ),
        profile(&payload(managed, &mcx(domain, "Forced"))),
    ] {
        let policy = document(&body).unwrap();
        assert_eq!(policy.enforced["UpdateMode"].value, RawValue::Str("off".into()), "{body}");
        assert_eq!(policy.remarks, [], "{body}");
    }
    let two = profile(
        &[payload(domain, off), payload(domain, "<key>UpdateMode</key><string>notify</string>")].concat(),
    );
    assert!(document(&two).unwrap_err().message.contains("different values in two payloads"));
    for (body, remark) in [
        (
            profile(&payload("com.example.other", off)),
            "no payload of the type dev.steward.agent; there is com.example.other",
        ),
        (profile(""), "its list `PayloadContent` is empty"),
        (profile(&payload(managed, &mcx("com.example.other", "Forced"))), "there is com.example.other"),
        (profile(&payload(managed, &mcx(domain, "Set-Once"))), "are not policy; only those under"),
        (
            profile(&payload(domain, &format!("<key>PayloadContent</key><dict>{off}</dict>"))),
            "a setting is in a dictionary",
        ),
        ([profile(""), off.to_owned()].concat(), "at the top level of the profile"),
        ("<key>PayloadType</key><string>com.example.other</string>".to_owned(), "is a payload of the type"),
    ] {
        let policy = document(&body).unwrap();
        assert!(policy.is_empty() && policy.remarks[0].message.contains(remark), "{:?}", policy.remarks);
    }
    let alone = document(&format!("<key>PayloadType</key><string>{domain}</string>{off}")).unwrap();
    assert!(!alone.is_empty() && alone.remarks[0].message.contains("is the payload by itself"));
    assert!(document("<key>$archiver</key><string>NSKeyedArchiver</string>").is_err());
}

/// Thirty arrays, each holding the one below it twice: a billion leaves in half a kilobyte.
#[test]
fn binary_bomb_is_error() {
    let mut bytes = b"bplist00".to_vec();
    let mut offsets = Vec::new();
    let mut object = |bytes: &mut Vec<u8>, data: &[u8]| {
        offsets.push(u8::try_from(bytes.len()).unwrap());
        bytes.extend_from_slice(data);
    };
    object(&mut bytes, &[0xd1, 1, 2]);
    object(&mut bytes, &[0x51, b'a']);
    for next in 3..33_u8 {
        object(&mut bytes, &[0xa2, next, next]);
    }
    object(&mut bytes, &[0x51, b'x']);
    let table = bytes.len() as u64;
    bytes.extend_from_slice(&offsets);
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 1, 1]);
    for number in [offsets.len() as u64, 0, table] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    assert!(read(&bytes).is_err());
}

/// Found by review: such files were refused with the words of a library.
#[test]
fn broken_property_list_is_explained_in_words() {
    let list = |inner: &str| format!("<plist version=\"1.0\">\n<dict>\n{inner}\n</dict></plist>");
    for (text, message, hint) in [
        (
            list("<key>OrganizationName</key><string>R & D</string>"),
            "line 3, column ",
            "write `&` itself as &amp;",
        ),
        (list("<key>UpdateMode</key><String>off</String>"), "<String> is not an element", "write <string>"),
        (list("<key>UpdateMode</key><text>off</text>"), "<text> is not an element", "values are <string>"),
        (list("<key>UpdateMode</key><string>off</key>"), "</key> where <string> is to be closed", "in order"),
        (
            list("<key>UpdateDeferDays</key><integer>a week</integer>"),
            "an <integer> that is not",
            "digits only",
        ),
        (list("<key>UpdateMode</key><string>off"), "is to be closed", "in order"),
        ("bplist00\u{1}".to_owned(), "cut off or malformed", "write it again"),
    ] {
        let error = read(text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(message), "{text}: {error}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{text}: {:?}", error.hint);
    }
}

#[test]
fn profile_for_users_is_remarked() {
    let profile = |scope: &str| {
        format!(
            "<plist><dict><key>PayloadType</key><string>Configuration</string><key>PayloadScope</key>\
             <string>{scope}</string><key>PayloadContent</key><array><dict><key>PayloadType</key>\
             <string>dev.steward.agent</string><key>UpdateMode</key><string>off</string></dict></array></dict></plist>"
        )
    };
    let remarks =
        |scope: &str| read_document(profile(scope).as_bytes(), "dev.steward.agent").unwrap().remarks;
    assert_eq!(remarks("System"), []);
    assert!(remarks("User")[0].message.contains("`PayloadScope` is `User`"));
}
