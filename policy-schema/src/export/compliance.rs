//! What Intune's custom compliance and its apps for Windows need beside the policy: discovery scripts, which print one line of JSON,
//! the rules for it, and the script of a requirement rule (Microsoft, "Custom compliance discovery scripts", "Custom compliance JSON").

use serde_json::json;

use super::Artefact;
use super::jamf::pretty;
use crate::read::registry_pol::KEY;

/// What a device reports that has no agent which answers: every key, nothing healthy. The agent prints the same keys in `steward report
/// --format intune`.
const ABSENT: &str = concat!(
    r#"{"AgentState":"unknown","AgentVersion":"0.0.0","AppState":"unknown","AppVersion":"0.0.0","Health":"unknown","#,
    r#""ObservedAt":"1970-01-01T00:00:00Z","PolicyHash":"","PolicyState":"unknown","ProblemCodes":"","ProblemCount":0,"#,
    r#""ReportState":"unknown","SignInState":"unknown","SignedIn":false,"UpdateState":"unknown"}"#,
);
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
    format!(
        "# Discovery script of a custom compliance policy in Intune: prints one line of JSON, and ends with 0.\n\
         # In Intune: \"Run this script using the logged on credentials\": No. It works in 32-bit and in 64-bit PowerShell.\n\
         $absent = '{ABSENT}'\n\
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
    format!(
        "#!/bin/sh\n\
         # Discovery script of a custom compliance policy in Intune: prints one line of JSON, and ends with 0. It runs as the user.\n\
         printed=$(PATH=$PATH:/usr/bin:/usr/local/bin steward report --format intune 2> /dev/null)\n\
         case $printed in\n\
         {{*}}) printf '%s\\n' \"$printed\" ;;\n\
         *) printf '%s\\n' '{ABSENT}' ;;\n\
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

fn rules(version: &str) -> Vec<u8> {
    let rule = |setting: &str, operator: &str, kind: &str, operand: &str, title: &str, description: &str| {
        json!({
            "SettingName": setting,
            "Operator": operator,
            "DataType": kind,
            "Operand": operand,
            "MoreInfoUrl": "https://steward.dev",
            "RemediationStrings": [{ "Language": "en_US", "Title": title, "Description": description }],
        })
    };
    pretty(&json!({
        "Rules": [
            rule(
                "AgentVersion",
                "GreaterEquals",
                "Version",
                version,
                "Steward is missing or out of date.",
                "This device has version {ActualValue} of Steward. Your IT department installs a newer one.",
            ),
            rule(
                "PolicyState",
                "IsEquals",
                "String",
                "pass",
                "The settings of your organisation are not in effect.",
                "State: {ActualValue}. `steward status` on this device shows what is wrong.",
            ),
            rule(
                "AgentState",
                "IsEquals",
                "String",
                "pass",
                "Steward does not run on this device.",
                "State: {ActualValue}. `steward status` on this device shows what to do.",
            ),
            // Not `pass`: where nobody has signed in yet it is unknown, and who may sign in may depend on the compliance of the device.
            rule(
                "Health",
                "NotEquals",
                "String",
                "fail",
                "The managed app is not in order.",
                "State: {ActualValue}. `steward doctor` on this device shows the cause and the fix.",
            ),
        ],
    }))
}
