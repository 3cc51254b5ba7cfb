//! What Intune's custom compliance and its apps for Windows need beside the policy: discovery scripts, which print one line of JSON,
//! the rules for it, and the script of a requirement rule (Microsoft, "Custom compliance discovery scripts", "Custom compliance JSON").

use serde_json::{Value, json};

use super::Artefact;
use super::jamf::pretty;
use crate::read::registry_pol::KEY;

/// A fact of a device in the discovery output: THE table of names, from which the output, the scripts and the rules come. Intune
/// compares names with their capitals.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    /// Its name.
    pub name: &'static str,
    /// What kind of value it has, where an agent answers and where none does.
    pub absent: Absent,
}

/// What a device reports that has no agent which answers: nothing healthy, and no version that is new enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// A text.
    Text(&'static str),
    /// A number.
    Number(i32),
    /// Yes or no.
    Boolean(bool),
}

impl Absent {
    /// The value as JSON.
    #[must_use]
    pub fn value(self) -> Value {
        match self {
            Self::Text(text) => text.into(),
            Self::Number(number) => number.into(),
            Self::Boolean(boolean) => boolean.into(),
        }
    }
}

const fn state(name: &'static str) -> Fact {
    Fact { name, absent: Absent::Text("unknown") }
}

const fn text(name: &'static str, absent: &'static str) -> Fact {
    Fact { name, absent: Absent::Text(absent) }
}

/// All facts, in the order of the alphabet. The states are those of the tree of health.
pub const FACTS: [Fact; 21] = [
    state("AgentState"),
    text("AgentVersion", "0.0.0"),
    state("AppState"),
    text("AppVersion", "0.0.0"),
    state("DiskEncryptionState"),
    state("FirewallState"),
    state("Health"),
    text("ObservedAt", "1970-01-01T00:00:00Z"),
    state("PendingRestartState"),
    text("PolicyHash", ""),
    state("PolicyState"),
    state("PostureState"),
    state("ProblemCodes"),
    Fact { name: "ProblemCount", absent: Absent::Number(-1) },
    state("ReportState"),
    state("ScreenLockState"),
    state("SecureBootState"),
    state("SignInState"),
    Fact { name: "SignedIn", absent: Absent::Boolean(false) },
    state("UpdateState"),
    state("VaultState"),
];

/// The line that a discovery script prints where no agent answers: every fact, as the agent prints them in `steward report --format
/// intune`.
fn absent() -> String {
    let facts = FACTS.iter().map(|fact| (fact.name.to_owned(), fact.absent.value()));
    Value::Object(facts.collect()).to_string()
}

/// The scripts of extension attributes of Jamf Pro: one for each fact, since an attribute has one value.
#[must_use]
pub fn extension_attributes() -> Vec<Artefact> {
    let script = |fact: &Fact| {
        let Fact { name, absent } = fact;
        let (kind, absent) = match absent {
            Absent::Text("unknown") | Absent::Boolean(_) => ("String", "unknown"),
            Absent::Text(_) if *name == "ObservedAt" => ("Date", "1970-01-01 00:00:00"),
            Absent::Text(absent) => ("String", *absent),
            Absent::Number(_) => ("Integer", "-1"),
        };
        format!(
            "#!/bin/sh\n\
             # Extension attribute of Jamf Pro: `{name}` of Steward. Data type: {kind}. It prints a result on every device.\n\
             steward='/Library/Application Support/Steward/bin/steward'\n\
             printed=$(\"$steward\" report --format jamf --key {name} 2> /dev/null)\n\
             case $printed in\n\
             '<result>'*'</result>') printf '%s\\n' \"$printed\" ;;\n\
             *) printf '%s\\n' '<result>{absent}</result>' ;;\n\
             esac\n"
        )
    };
    FACTS
        .iter()
        .map(|fact| Artefact::new(format!("jamf/extension-attributes/{}.sh", fact.name), script(fact)))
        .collect()
}

/// Windows 10 version 1809, and Server 2019: what the package needs.
const OLDEST_BUILD: u32 = 17763;

/// All files. `version` is the oldest of the agent that complies.
#[must_use]
pub fn files(version: &str) -> Vec<Artefact> {
    vec![
        Artefact::new("intune/compliance-discovery.ps1", windows(&discovery_windows())),
        Artefact::new("intune/compliance-discovery.sh", discovery_linux()),
        Artefact::new("intune/compliance-rules.json", rules(version)),
        Artefact::new("intune/requirement.ps1", windows(&requirement())),
    ]
}

/// For PowerShell of every version: UTF-8 with a byte order mark, and the line ends of Windows.
fn windows(script: &str) -> Vec<u8> {
    [b"\xef\xbb\xbf", script.replace('\n', "\r\n").as_bytes()].concat()
}

fn discovery_windows() -> String {
    let absent = absent();
    format!(
        "# Discovery script of a custom compliance policy in Intune: prints one line of JSON, and ends with 0.\n\
         # In Intune: \"Run this script using the logged on credentials\": No. It works in 32-bit and in 64-bit PowerShell.\n\
         $absent = '{absent}'\n\
         $folder = $env:ProgramW6432\n\
         if (-not $folder) {{ $folder = $env:ProgramFiles }}\n\
         # Where the package was told to go; 32-bit PowerShell sees another part of the registry.\n\
         $view = [Microsoft.Win32.RegistryView]::Registry64\n\
         $machine = [Microsoft.Win32.RegistryKey]::OpenBaseKey([Microsoft.Win32.RegistryHive]::LocalMachine, $view)\n\
         $key = $machine.OpenSubKey('SOFTWARE\\Steward')\n\
         $chosen = if ($key) {{ $key.GetValue('InstallFolder') }}\n\
         $steward = if ($chosen) {{ Join-Path $chosen 'steward.exe' }} else {{ Join-Path $folder 'Steward\\steward.exe' }}\n\
         $printed = $null\n\
         if (Test-Path -LiteralPath $steward) {{\n    \
             try {{ $printed = & $steward report --format intune 2>$null }} catch {{ $printed = $null }}\n\
         }}\n\
         if ($LASTEXITCODE -eq 0 -and \"$printed\".StartsWith('{{')) {{ \"$printed\" }} else {{ $absent }}\n\
         exit 0\n"
    )
}

fn discovery_linux() -> String {
    let absent = absent();
    format!(
        "#!/bin/sh\n\
         # Discovery script of a custom compliance policy in Intune: prints one line of JSON, and ends with 0. It runs as the user.\n\
         printed=$(PATH=$PATH:/usr/bin:/usr/local/bin steward report --format intune 2> /dev/null)\n\
         case $printed in\n\
         {{*}}) printf '%s\\n' \"$printed\" ;;\n\
         *) printf '%s\\n' '{absent}' ;;\n\
         esac\n\
         exit 0\n"
    )
}

fn requirement() -> String {
    format!(
        "# Requirement rule of an app for Windows in Intune: Steward is installed only where its policy already is. In Intune: \"Run script\n\
         # as 32-bit process on 64-bit clients\": No; \"Run this script using the logged on credentials\": No; output data type: String;\n\
         # operator: Equals; value: ready.\n\
         $build = [Environment]::OSVersion.Version.Build\n\
         if ($build -lt {OLDEST_BUILD}) {{ \"Windows build $build is older than {OLDEST_BUILD}\" }}\n\
         elseif (-not (Test-Path -LiteralPath 'HKLM:\\{KEY}')) {{ 'there is no policy of Steward yet' }}\n\
         else {{ 'ready' }}\n\
         exit 0\n"
    )
}

/// A rule about one fact. The texts are in the languages of [`LANGUAGES`], title and description of each.
struct Rule {
    fact: &'static str,
    operator: &'static str,
    kind: &'static str,
    operand: &'static str,
    texts: [(&'static str, &'static str); 4],
}

/// `en_US` is required; the others are shown to users who have them.
const LANGUAGES: [&str; 4] = ["en_US", "de_DE", "fr_FR", "es_ES"];

const RULES: [Rule; 4] = [
    Rule {
        fact: "AgentVersion",
        operator: "GreaterEquals",
        kind: "Version",
        // The version for which the rules are written.
        operand: "",
        texts: [
            (
                "Steward is missing or out of date.",
                "This device has version {ActualValue} of Steward. Your IT department installs a newer one.",
            ),
            (
                "Steward fehlt oder ist veraltet.",
                "Auf diesem Gerät ist Version {ActualValue} von Steward. Ihre IT-Abteilung installiert eine neuere.",
            ),
            (
                "Steward manque ou n'est pas à jour.",
                "Cet appareil a la version {ActualValue} de Steward. Votre service informatique en installe une plus récente.",
            ),
            (
                "Steward falta o no está actualizado.",
                "Este dispositivo tiene la versión {ActualValue} de Steward. Su departamento de TI instala una más reciente.",
            ),
        ],
    },
    Rule {
        fact: "PolicyState",
        operator: "IsEquals",
        kind: "String",
        operand: "pass",
        texts: [
            (
                "The settings of your organisation are not in effect.",
                "State: {ActualValue}. `steward status` on this device shows what is wrong.",
            ),
            (
                "Die Einstellungen Ihrer Organisation sind nicht in Kraft.",
                "Zustand: {ActualValue}. `steward status` auf diesem Gerät zeigt, was nicht stimmt.",
            ),
            (
                "Les paramètres de votre organisation ne sont pas appliqués.",
                "État : {ActualValue}. `steward status` sur cet appareil montre ce qui ne va pas.",
            ),
            (
                "La configuración de su organización no está en vigor.",
                "Estado: {ActualValue}. `steward status` en este dispositivo muestra qué falla.",
            ),
        ],
    },
    Rule {
        fact: "AgentState",
        operator: "IsEquals",
        kind: "String",
        operand: "pass",
        texts: [
            (
                "Steward does not run on this device.",
                "State: {ActualValue}. `steward status` on this device shows what to do.",
            ),
            (
                "Steward läuft nicht auf diesem Gerät.",
                "Zustand: {ActualValue}. `steward status` auf diesem Gerät zeigt, was zu tun ist.",
            ),
            (
                "Steward ne fonctionne pas sur cet appareil.",
                "État : {ActualValue}. `steward status` sur cet appareil montre que faire.",
            ),
            (
                "Steward no se ejecuta en este dispositivo.",
                "Estado: {ActualValue}. `steward status` en este dispositivo muestra qué hacer.",
            ),
        ],
    },
    // Not `pass`: where nobody has signed in yet it is unknown, and who may sign in may depend on the compliance of the device.
    Rule {
        fact: "Health",
        operator: "NotEquals",
        kind: "String",
        operand: "fail",
        texts: [
            (
                "The managed app is not in order.",
                "State: {ActualValue}. `steward doctor` on this device shows the cause and the fix.",
            ),
            (
                "Die verwaltete App ist nicht in Ordnung.",
                "Zustand: {ActualValue}. `steward doctor` auf diesem Gerät zeigt die Ursache und die Lösung.",
            ),
            (
                "L'application gérée n'est pas en ordre.",
                "État : {ActualValue}. `steward doctor` sur cet appareil montre la cause et la solution.",
            ),
            (
                "La aplicación administrada no está en orden.",
                "Estado: {ActualValue}. `steward doctor` en este dispositivo muestra la causa y la solución.",
            ),
        ],
    },
];

/// The rules for what the discovery scripts print. `version` is the oldest of the agent that complies.
#[must_use]
pub fn rules(version: &str) -> Vec<u8> {
    let rule = |rule: &Rule| {
        let texts = LANGUAGES.iter().zip(rule.texts);
        json!({
            "SettingName": rule.fact,
            "Operator": rule.operator,
            "DataType": rule.kind,
            "Operand": if rule.operand.is_empty() { version } else { rule.operand },
            "MoreInfoUrl": "https://steward.dev",
            "RemediationStrings": texts.map(|(language, (title, description))| {
                json!({ "Language": language, "Title": title, "Description": description })
            }).collect::<Vec<_>>(),
        })
    };
    pretty(&json!({ "Rules": RULES.iter().map(rule).collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Intune accepts (Microsoft, "Custom compliance JSON").
    #[test]
    fn rules_are_about_facts_and_as_intune_wants_them() {
        let bytes = rules("1.2.3");
        let rules: Value = serde_json::from_slice(&bytes).unwrap();
        let rules = rules["Rules"].as_array().unwrap();
        assert!(rules.len() <= 100 && bytes.len() <= 100 * 1024);
        let operators = ["IsEquals", "NotEquals", "GreaterThan", "GreaterEquals", "LessThan", "LessEquals"];
        for rule in rules {
            let fact = FACTS.iter().find(|fact| rule["SettingName"] == fact.name).expect("a known fact");
            assert!(operators.iter().any(|operator| rule["Operator"] == **operator), "{rule}");
            let kinds: &[&str] = match fact.absent {
                Absent::Text(_) => &["String", "Version", "DateTime"],
                Absent::Number(_) => &["Int64", "Double"],
                Absent::Boolean(_) => &["Boolean"],
            };
            assert!(kinds.iter().any(|kind| rule["DataType"] == **kind), "{rule}");
            let languages = rule["RemediationStrings"].as_array().unwrap();
            assert_eq!(languages.len(), LANGUAGES.len());
            assert_eq!(languages[0]["Language"], "en_US");
            assert!(
                languages.iter().all(|text| text["Description"].as_str().unwrap().contains("{ActualValue}"))
            );
        }
        assert_eq!(rules[0]["Operand"], "1.2.3");
    }

    #[test]
    fn facts_are_in_order_and_none_is_there_twice() {
        assert!(FACTS.iter().zip(&FACTS[1..]).all(|(one, next)| one.name < next.name));
    }
}
