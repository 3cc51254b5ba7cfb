//! What `steward export` writes, read by other programs: plistutil, OpenSSL, Samba, ajv, a shell. (`cargo xtask ci` checks
//! ADMX files with Microsoft's schema, where that is available.)
#![expect(clippy::unwrap_used, reason = "everything here is a test or a part of one")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use e2e::device::Device;
use e2e::process::program;
use policy_schema::SETTINGS;
use protocol::report::Report;
use serde_json::{Value, json};

use super::external_provider::node;

/// A policy that sets everything, at both levels.
fn everything() -> String {
    let one = |setting: &policy_schema::Setting| {
        let value = serde_json::to_value(setting.example.to_raw()).unwrap();
        format!("{} = {}\n", setting.key, toml::Value::try_from(value).unwrap())
    };
    let all: String = SETTINGS.iter().map(one).collect();
    // Settings that contradict each other are no error.
    format!("{all}\n[Recommended]\n{all}")
}

struct Export {
    device: Device,
    folder: PathBuf,
}

impl Export {
    async fn new(policy: &str) -> Self {
        let device = Device::new();
        let folder = device.path("export");
        let file = device.path("policy.toml");
        fs_err::write(&file, policy).unwrap();
        let [file, output] = [&file, &folder].map(|path| path.display().to_string());
        let done = device.steward(&["export", "--policy", &file, "--output", &output]).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Self { device, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Runs another program, which has to succeed.
    async fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.device.run(Path::new(program), arguments).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {text}{errors}");
        text
    }
}

#[tokio::test]
async fn exported_property_lists_are_read_by_plistutil() {
    let export = Export::new(&everything()).await;
    for name in ["macos/steward.mobileconfig", "manifest/dev.steward.agent.plist"] {
        let binary = export.path("binary.mobileconfig");
        export.run("plistutil", &["-i", &export.path(name), "-o", &binary]).await;
        assert!(fs_err::read(&binary).unwrap().starts_with(b"bplist00"), "{name}");
    }
    let converted = export.path("binary.mobileconfig");
    export.run("plistutil", &["-i", &export.path("macos/steward.mobileconfig"), "-o", &converted]).await;
    let checked = export.device.printed(&["policy", "check", &converted]).await;
    assert!(checked.starts_with(&format!("{} settings: 0 errors", SETTINGS.len())), "{checked}");
    // The fragment for Intune is the inside of a dictionary.
    let fragment = fs_err::read_to_string(export.path("intune/macos-preferences.xml")).unwrap();
    assert!(fragment.starts_with("<key>") && !fragment.contains("plist"), "{fragment}");
    let whole = format!("<plist version=\"1.0\"><dict>{fragment}</dict></plist>");
    let file = export.device.path("whole.plist");
    fs_err::write(&file, whole).unwrap();
    let checked = export.device.printed(&["policy", "check", &file.display().to_string()]).await;
    assert!(checked.starts_with(&format!("{} settings: 0 errors", SETTINGS.len())), "{checked}");
}

/// The files that launchd reads at its start. It ignores a file that it cannot read, without an error.
#[tokio::test]
async fn launchd_jobs_run_existing_subcommands() {
    let device = Device::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/macos");
    for (name, verb) in [
        ("dev.steward.agent", ["agent"].as_slice()),
        ("dev.steward.broker", &["broker"]),
        ("dev.steward.sign-in", &["login", "--at-logon"]),
    ] {
        let source = folder.join(format!("{name}.plist"));
        let target = device.path("converted.plist");
        let converted = device
            .run(Path::new("plistutil"), &["-i", source.to_str().unwrap(), "-o", target.to_str().unwrap()])
            .await;
        assert!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));
        let job = plist::Value::from_file(&source).unwrap().into_dictionary().unwrap();
        assert_eq!(job["Label"].as_string(), Some(name));
        let arguments: Vec<_> =
            job["ProgramArguments"].as_array().unwrap().iter().filter_map(plist::Value::as_string).collect();
        assert_eq!(arguments, [&["/Library/Application Support/Steward/bin/steward"], verb].concat());
        let help = device.steward(&[verb, &["--help"]].concat()).await;
        assert!(help.status.success(), "{}", String::from_utf8_lossy(&help.stderr));
    }
}

#[tokio::test]
async fn signed_profile_is_verified_by_openssl() {
    let export = Export::new("UpdateMode = \"off\"\n").await;
    let [key, certificate, signed, opened] =
        ["key.pem", "certificate.pem", "signed.mobileconfig", "opened.mobileconfig"]
            .map(|name| export.path(name));
    let subject = ["-subj", "/CN=Steward test", "-addext", "extendedKeyUsage=codeSigning,emailProtection"];
    let make = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    export.run("openssl", &[&make[..], &subject].concat()).await;
    let profile = export.path("macos/steward.mobileconfig");
    let xtask = program("xtask").display().to_string();
    let sign = ["sign-profile", &profile, "--certificate", &certificate, "--key", &key, "--output", &signed];
    export.run(&xtask, &sign).await;
    let verify =
        ["cms", "-verify", "-inform", "der", "-CAfile", &certificate, "-in", &signed, "-out", &opened];
    export.run("openssl", &verify).await;
    assert_eq!(fs_err::read(&opened).unwrap(), fs_err::read(&profile).unwrap());
    let checked = export.device.printed(&["policy", "check", &signed]).await;
    assert!(checked.contains("is a signed profile") && checked.contains("openssl cms -verify"), "{checked}");
}

#[tokio::test]
async fn registry_pol_is_read_by_samba() {
    const SCRIPT: &str = "import sys, json\n\
        from samba.dcerpc import preg\n\
        from samba.ndr import ndr_unpack\n\
        file = ndr_unpack(preg.file, open(sys.argv[1], 'rb').read())\n\
        show = lambda data: data if isinstance(data, (str, int)) else bytes(data).decode('utf-16-le')\n\
        print(json.dumps([[e.keyname, e.valuename, e.type, show(e.data)] for e in file.entries]))\n";
    let policy = "ReportPosture = true\nUpdateDeferDays = 7\nOrganizationName = \"a;b]c\"\nScopes = [\"openid\", \"x\"]\n\
        [Recommended]\nLogLevel = \"debug\"\n";
    let export = Export::new(policy).await;
    let printed =
        export.run("/usr/bin/python3", &["-c", SCRIPT, &export.path("registry/Registry.pol")]).await;
    let entries: Vec<Value> = serde_json::from_str(&printed).unwrap();
    let key = |below: &str| format!("SOFTWARE\\Policies\\Steward{below}");
    for expected in [
        json!([key(""), "ReportPosture", 4, 1]),
        json!([key(""), "UpdateDeferDays", 4, 7]),
        json!([key(""), "OrganizationName", 1, "a;b]c"]),
        json!([key("\\Scopes"), "1", 1, "openid"]),
        json!([key("\\Scopes"), "2", 1, "x"]),
        json!([key("\\Recommended"), "LogLevel", 1, "debug"]),
    ] {
        assert!(entries.contains(&expected), "{expected} is not in {printed}");
    }
}

/// Runs ajv; gives its errors by the name of the document.
async fn ajv(
    device: &Device,
    schema: &str,
    pointer: &str,
    documents: &[(String, Value)],
) -> BTreeMap<String, String> {
    let documents: Vec<Value> =
        documents.iter().map(|(name, document)| json!({ "name": name, "document": document })).collect();
    let file = device.path("documents.json");
    fs_err::write(&file, serde_json::to_vec(&documents).unwrap()).unwrap();
    let script = node().join("validate.mjs").display().to_string();
    let output =
        device.run(Path::new("node"), &[&script, schema, pointer, &file.display().to_string()]).await;
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("ajv: {}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test]
async fn policy_schema_accepts_valid_files_and_rejects_invalid_values() {
    let export = Export::new(&everything()).await;
    let parse = |text: &str| serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap();
    let mut documents = vec![
        ("everything".to_owned(), parse(&everything())),
        ("example".to_owned(), parse(policy_schema::export::EXAMPLE)),
        ("nothing".to_owned(), json!({})),
    ];
    let valid = documents.len();
    for setting in SETTINGS {
        // No setting takes both a number and a list of numbers.
        for wrong in [json!(-1), json!([1]), json!({}), json!(1.5), json!("\u{0}\n")] {
            documents.push((format!("{} {wrong}", setting.key), json!({ setting.key: wrong })));
            documents.push((
                format!("recommended {} {wrong}", setting.key),
                json!({ "Recommended": { setting.key: wrong } }),
            ));
        }
    }
    for (name, wrong) in [
        ("unknown key", json!({ "UpdateMod": "off" })),
        ("choice", json!({ "UpdateMode": "Automatik" })),
        ("range", json!({ "UpdateDeferDays": 91 })),
        ("http", json!({ "Issuer": "ftp://a.example" })),
        ("fragment", json!({ "ReportUrl": "https://a.example/#x" })),
        ("credentials", json!({ "ProxyUrl": "http://user:pw@a.example:3128" })),
        ("too many", json!({ "ProxyBypass": vec!["a.example"; 201] })),
    ] {
        documents.push((name.to_owned(), wrong));
    }
    let errors = ajv(&export.device, &export.path("policy.schema.json"), "#", &documents).await;
    for (name, _) in &documents[..valid] {
        assert_eq!(errors.get(name), None, "{name}");
    }
    // A text of one line may have any characters but control characters, which no pattern that every editor understands can
    // say.
    let accepted: Vec<&String> = documents[valid..]
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !errors.contains_key(*name) && !name.ends_with("\"\\u0000\\n\""))
        .collect();
    assert_eq!(accepted, Vec::<&String>::new());
}

/// The published form, as programs of others check it.
#[tokio::test]
async fn status_schema_accepts_real_status_and_rejects_wrong_fields() {
    let device = Device::new();
    device.push(
        "50.toml",
        "App = \"lab-notes\"\nUpdateMode = \"of\"\nIssuer = \"https://login.example.com\"\n",
    );
    let _agent = device.start_agent().await;
    let status: Value = device.json(&["status", "--json"]).await.unwrap();
    let report: Value = device.json(&["report", "--format", "json"]).await.unwrap();
    let schema = device.path("status.schema.json");
    fs_err::write(&schema, device.steward(&["status", "--schema"]).await.stdout).unwrap();
    let schema = schema.display().to_string();
    let preview: Value = device.json(&["report", "--show", "--json"]).await.unwrap();
    let heartbeat = serde_json::from_value::<Report>(report.clone()).unwrap().heartbeat();
    let receipt = json!({ "sequence": 3, "heartbeats": true, "resend": false });
    for (pointer, document) in [
        ("#/properties/status", status),
        ("#/properties/report", report),
        ("#/properties/preview", preview),
        ("#/properties/heartbeat", serde_json::to_value(heartbeat).unwrap()),
        ("#/properties/receipt", receipt),
    ] {
        let mut documents = vec![("real".to_owned(), document.clone())];
        let fields = document.as_object().unwrap();
        for field in fields.keys() {
            let mut wrong = document.clone();
            wrong[field] = json!([7]);
            documents.push((field.clone(), wrong));
        }
        let errors = ajv(&device, &schema, pointer, &documents).await;
        assert_eq!(errors.get("real"), None);
        assert_eq!(errors.len(), fields.len(), "{errors:?} of {:?}", fields.keys());
    }
}

#[tokio::test]
async fn install_script_writes_policy_that_agent_accepts() {
    let export =
        Export::new("UpdateMode = \"off\"\nOrganizationName = \"O'Brien & \\\"Sons\\\" $HOME `id`\"\n").await;
    for _ in 0..2 {
        export.run("sh", &[&export.path("intune/install.sh"), &export.device.root_text()]).await;
    }
    let folder: Vec<_> = fs_err::read_dir(export.device.policy_folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folder, ["50-steward.toml"]);
    let shown = export.device.printed(&["policy", "show"]).await;
    assert!(shown.contains("O'Brien & \"Sons\" $HOME `id`"), "{shown}");
    let checked = export.device.printed(&["policy", "check", &export.path("linux/50-steward.toml")]).await;
    assert!(checked.starts_with("2 settings, no problems."), "{checked}");
}

/// Found by review: a list that became empty left its files of the export before, to be uploaded again.
#[tokio::test]
async fn files_of_an_earlier_export_are_named() {
    let export = Export::new("UpdateMode = \"off\"\nAllowedEmailDomains = [\"example.com\"]\n").await;
    fs_err::write(export.folder.join("intune/old.xml"), "<enabled/>").unwrap();
    let file = export.device.path("policy.toml").display().to_string();
    let arguments = ["export", "--policy", &file, "--output", &export.path("")];
    let done = export.device.steward(&arguments).await;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(text.contains("do not belong to this policy") && text.contains("intune/old.xml"), "{text}");
    let done = export.device.steward(&[&arguments[..], &["--json"]].concat()).await;
    let document: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(document["left_over"], json!(["intune/old.xml"]));
}

#[tokio::test]
async fn policy_with_errors_is_not_exported() {
    let device = Device::new();
    let file = device.path("policy.toml");
    fs_err::write(&file, "UpdateMode = \"of\"\n").unwrap();
    let output = device.path("export").display().to_string();
    let arguments = ["export", "--policy", &file.display().to_string(), "--output", &output];
    let done = device.steward(&arguments).await;
    assert_eq!(done.status.code(), Some(1));
    let text = [done.stdout, done.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("did you mean `off`?") && !device.path("export").exists(), "{text}");

    fs_err::write(&file, "AllowedEmailDomains = []\n").unwrap();
    let text = device.printed(&arguments).await;
    assert!(text.contains("error: `AllowedEmailDomains` is an empty list"), "{text}");
    assert!(
        !device.path("export/intune/oma-uri.csv").exists()
            && device.path("export/registry/Steward.reg").exists()
    );
}
