//! What Windows Installer does with the package: the tables of its database (Microsoft, "Windows Installer Database Tables").

use msi::Value;

use super::msi_writer::{File, Row, Table, identifier};

/// Components of 64 bits. Their keys are files, or values of the registry.
const BY_FILE: i32 = 256;
const BY_REGISTRY: i32 = 256 + 4;
/// A component whose condition is looked at again when the product is installed again.
const TRANSITIVE: i32 = 64;
/// `HKEY_LOCAL_MACHINE`.
const MACHINE: i32 = 2;
/// Raw values of the 64-bit registry.
const RAW_64: i32 = 2 + 16;
/// Where the installer keeps what an upgrade has to remember, and what detection rules read.
const KEY: &str = r"SOFTWARE\Steward";
const RUN: &str = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Run";
const EVENTS: &str = r"SYSTEM\CurrentControlSet\Services\EventLog\Application\Steward";
/// Where Windows says which it is. The properties of Windows Installer stop at Windows 8.1.
const WINDOWS: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion";
/// A library of Windows whose messages are the texts of their events.
const MESSAGES: &str = r"%SystemRoot%\Microsoft.NET\Framework64\v4.0.30319\EventLogMessages.dll";
/// Windows 10 of October 2018 (1809), and Server 2019.
const OLDEST_BUILD: u32 = 17763;
/// SYSTEM and administrators have full access to the programs, users run them: wherever an administrator puts them.
const ACCESS: &str = "O:BAG:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;0x1200a9;;;BU)";

/// A text, or nothing if it is empty.
fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { Value::Str(text.to_owned()) }
}

fn texts(texts: &[&str]) -> Row {
    texts.iter().copied().map(text).collect()
}

/// The tables of a package of a version with these files.
pub(super) fn tables(version: &str, files: &[File]) -> anyhow::Result<Vec<Table>> {
    let mut tables = vec![
        properties(version),
        Table {
            name: "Directory",
            columns: "Directory:s72* Directory_Parent:S72 DefaultDir:l255",
            rows: vec![
                texts(&["TARGETDIR", "", "SourceDir"]),
                texts(&["ProgramFiles64Folder", "TARGETDIR", "."]),
                texts(&["INSTALLFOLDER", "ProgramFiles64Folder", "Steward"]),
                texts(&["CommonAppDataFolder", "TARGETDIR", "."]),
                texts(&["STATEFOLDER", "CommonAppDataFolder", "Steward"]),
            ],
        },
    ];
    tables.extend(components(files)?);
    tables.push(forgotten());
    tables.push(registry(version));
    tables.extend(service());
    tables.extend(protection());
    tables.push(environment());
    tables.extend(upgrade(version));
    tables.extend(remembered());
    tables.extend(sequences());
    Ok(tables)
}

fn properties(version: &str) -> Table {
    let product = identifier(&format!("product {version}"));
    let upgrade = identifier("upgrade");
    Table {
        name: "Property",
        columns: "Property:s72* Value:l0",
        rows: vec![
            texts(&["ProductCode", &product]),
            texts(&["UpgradeCode", &upgrade]),
            texts(&["ProductName", "Steward"]),
            texts(&["ProductVersion", version]),
            texts(&["ProductLanguage", "1033"]),
            texts(&["Manufacturer", "The Steward developers"]),
            texts(&["ALLUSERS", "1"]),
            texts(&["ARPNOMODIFY", "1"]),
            // Programs that run in the sessions of users go on until they log off; no session is disturbed, no device restarted.
            texts(&["MSIRESTARTMANAGERCONTROL", "Disable"]),
            texts(&["REBOOT", "ReallySuppress"]),
            // Files are replaced whatever is there: one that somebody changed must not stay, or vanish with the old version.
            texts(&["REINSTALLMODE", "amus"]),
            texts(&["SecureCustomProperties", "BROKERATLOGON;INSTALLFOLDER;NEWERFOUND;OLDERFOUND"]),
        ],
    }
}

/// Whatever became of versions that the agent installed itself: what is being installed runs then (1: with an installation).
fn forgotten() -> Table {
    Table {
        name: "RemoveFile",
        columns: "FileKey:s72* Component_:s72 FileName:L255 DirProperty:s72 InstallMode:i2",
        rows: vec![vec![
            text("Versions"),
            text("Program"),
            text("VERSIO~1.JSO|versions.json"),
            text("STATEFOLDER"),
            Value::Int(1),
        ]],
    }
}

fn components(files: &[File]) -> anyhow::Result<[Table; 5]> {
    let component = |name: &str, attributes: i32, condition: &str, key: &str| -> Row {
        vec![
            text(name),
            text(&identifier(&format!("component {name}"))),
            text("INSTALLFOLDER"),
            Value::Int(attributes),
            text(condition),
            text(key),
        ]
    };
    let names = ["Program", "Session", "Completions", "Licences", "Settings", "Events", "Logon"];
    let file_rows = files.iter().enumerate().map(|(index, file)| {
        let long = if file.short_name == file.name {
            file.name.to_owned()
        } else {
            format!("{}|{}", file.short_name, file.name)
        };
        Ok(vec![
            text(file.key),
            text(file.component),
            text(&long),
            Value::Int(i32::try_from(fs_err::metadata(&file.source)?.len())?),
            text(file.version.as_deref().unwrap_or_default()),
            text(if file.version.is_some() { "1033" } else { "" }),
            // Vital: an installation without it fails.
            Value::Int(512),
            Value::Int(i32::try_from(index)? + 1),
        ])
    });
    Ok([
        Table {
            name: "Component",
            columns: "Component:s72* ComponentId:S38 Directory_:s72 Attributes:i2 Condition:S255 KeyPath:S72",
            rows: vec![
                component("Program", BY_FILE, "", "steward.exe"),
                component("Session", BY_FILE, "", "session.exe"),
                component("Completions", BY_FILE, "", "steward.ps1"),
                component("Licences", BY_FILE, "", "licences.txt"),
                component("Settings", BY_REGISTRY, "", "Version"),
                component("Events", BY_REGISTRY, "", "EventMessages"),
                component("Logon", BY_REGISTRY + TRANSITIVE, "BROKERATLOGON <> \"0\"", "Logon"),
            ],
        },
        Table {
            name: "Feature",
            columns: "Feature:s38* Feature_Parent:S38 Title:L64 Description:L255 Display:I2 Level:i2 Directory_:S72 Attributes:i2",
            rows: vec![vec![
                text("Main"),
                Value::Null,
                text("Steward"),
                Value::Null,
                Value::Int(1),
                Value::Int(1),
                text("INSTALLFOLDER"),
                Value::Int(0),
            ]],
        },
        Table {
            name: "FeatureComponents",
            columns: "Feature_:s38* Component_:s72*",
            rows: names.iter().map(|name| texts(&["Main", name])).collect(),
        },
        Table {
            name: "File",
            columns: "File:s72* Component_:s72 FileName:l255 FileSize:i4 Version:S72 Language:S20 Attributes:I2 Sequence:i2",
            rows: file_rows.collect::<anyhow::Result<_>>()?,
        },
        Table {
            name: "Media",
            columns: "DiskId:i2* LastSequence:i2 DiskPrompt:L64 Cabinet:S255 VolumeLabel:S32 Source:S72",
            rows: vec![vec![
                Value::Int(1),
                Value::Int(i32::try_from(files.len())?),
                Value::Null,
                text("#steward.cab"),
                Value::Null,
                Value::Null,
            ]],
        },
    ])
}

fn registry(version: &str) -> Table {
    let value = |id: &str, key: &str, name: &str, value: &str, component: &str| -> Row {
        vec![text(id), Value::Int(MACHINE), text(key), text(name), text(value), text(component)]
    };
    Table {
        name: "Registry",
        columns: "Registry:s72* Root:i2 Key:l255 Name:L255 Value:L0 Component_:s72",
        rows: vec![
            value("Version", KEY, "Version", version, "Settings"),
            value("Folder", KEY, "InstallFolder", "[INSTALLFOLDER]", "Settings"),
            value("BrokerAtLogon", KEY, "BrokerAtLogon", "[BROKERATLOGON]", "Settings"),
            // An expandable text, and numbers.
            value("EventMessages", EVENTS, "EventMessageFile", &format!("#%{MESSAGES}"), "Events"),
            value("EventTypes", EVENTS, "TypesSupported", "#7", "Events"),
            value("Logon", RUN, "Steward", "\"[#session.exe]\"", "Logon"),
        ],
    }
}

fn service() -> [Table; 4] {
    [
        Table {
            name: "ServiceInstall",
            columns: "ServiceInstall:s72* Name:s255 DisplayName:L255 ServiceType:i4 StartType:i4 ErrorControl:i4 LoadOrderGroup:S255 Dependencies:S255 StartName:S255 Password:S255 Arguments:S255 Component_:s72 Description:L255",
            rows: vec![vec![
                text("Steward"),
                text("Steward"),
                text("Steward agent"),
                // A process of its own, started with the device; a failure is logged, and an installation without it fails.
                Value::Int(0x10),
                Value::Int(2),
                Value::Int(0x8001),
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                text("service"),
                text("Program"),
                text(
                    "Applies policy to the managed desktop app, keeps the app up to date and reports the health of this device.",
                ),
            ]],
        },
        Table {
            name: "ServiceControl",
            columns: "ServiceControl:s72* Name:l255 Event:i2 Arguments:S255 Wait:I2 Component_:s72",
            // Start after an installation; stop before one and before a removal; delete at a removal.
            rows: vec![vec![
                text("Steward"),
                text("Steward"),
                Value::Int(0x1 | 0x2 | 0x20 | 0x80),
                Value::Null,
                Value::Int(1),
                text("Program"),
            ]],
        },
        Table {
            name: "MsiServiceConfig",
            columns: "MsiServiceConfig:s72* Name:s255 Event:i2 ConfigType:i4 Argument:S0 Component_:s72",
            // At installation and reinstallation: delayed start; failure actions also for an exit with an error; time to stop
            // before the device shuts down, in milliseconds.
            rows: [("Delayed", 3, "1"), ("FailureFlag", 4, "1"), ("Preshutdown", 7, "30000")]
                .iter()
                .map(|(id, kind, argument)| {
                    vec![
                        text(id),
                        text("Steward"),
                        Value::Int(1 | 4),
                        Value::Int(*kind),
                        text(argument),
                        text("Program"),
                    ]
                })
                .collect(),
        },
        Table {
            name: "MsiServiceConfigFailureActions",
            columns: "MsiServiceConfigFailureActions:s72* Name:s255 Event:i2 ResetPeriod:I4 RebootMessage:L255 Command:L255 Actions:S0 DelayActions:S0 Component_:s72",
            // Restart after 5, 30 and 120 seconds; a day without a failure begins again.
            rows: vec![vec![
                text("Recovery"),
                text("Steward"),
                Value::Int(1 | 4),
                Value::Int(86_400),
                Value::Null,
                Value::Null,
                text("1[~]1[~]1"),
                text("5000[~]30000[~]120000"),
                text("Program"),
            ]],
        },
    ]
}

/// Users must not replace what runs as SYSTEM.
fn protection() -> [Table; 2] {
    [
        Table {
            name: "CreateFolder",
            columns: "Directory_:s72* Component_:s72*",
            rows: vec![texts(&["INSTALLFOLDER", "Program"])],
        },
        Table {
            name: "MsiLockPermissionsEx",
            columns: "MsiLockPermissionsEx:s72* LockObject:s72 Table:s32 SDDLText:s0 Condition:S255",
            rows: vec![texts(&["Programs", "INSTALLFOLDER", "CreateFolder", ACCESS, ""])],
        },
    ]
}

/// `steward` is a command in every new console.
fn environment() -> Table {
    Table {
        name: "Environment",
        columns: "Environment:s72* Name:l255 Value:L255 Component_:s72",
        // Set at installation, removed with the component (`-`), of the device (`*`): the folder after what is there.
        rows: vec![texts(&["Path", "=-*PATH", "[~];[INSTALLFOLDER]", "Program"])],
    }
}

fn upgrade(version: &str) -> [Table; 2] {
    let code = identifier("upgrade");
    let related = |minimum: &str, maximum: &str, attributes: i32, property: &str| -> Row {
        vec![
            text(&code),
            text(minimum),
            text(maximum),
            Value::Null,
            Value::Int(attributes),
            Value::Null,
            text(property),
        ]
    };
    [
        Table {
            name: "Upgrade",
            columns: "UpgradeCode:s38* VersionMin:S20* VersionMax:S20* Language:S255* Attributes:i4* Remove:S255 ActionProperty:s72",
            // What is older is removed in the same transaction; what is newer is only detected.
            rows: vec![
                related("0.0.0", version, 1 | 256, "OLDERFOUND"),
                related(version, "", 2, "NEWERFOUND"),
            ],
        },
        Table {
            name: "LaunchCondition",
            columns: "Condition:s255* Description:l255",
            rows: vec![
                texts(&[
                    "Installed OR NOT NEWERFOUND",
                    "A newer version of Steward is installed. Nothing was changed. To go back nevertheless, uninstall it first; its state is kept.",
                ]),
                texts(&[
                    "Installed OR Privileged",
                    "Install Steward as an administrator, or by a management system that runs as SYSTEM.",
                ]),
                texts(&["Installed OR VersionNT64", "Steward needs a Windows of 64 bits."]),
                texts(&[
                    &format!("Installed OR WINDOWSBUILD >= {OLDEST_BUILD}"),
                    "Steward needs Windows 10 version 1809, Windows Server 2019, or a later version.",
                ]),
            ],
        },
    ]
}

/// What is looked up in the registry. What an administrator chose at the first installation holds at the next, unless that says something else.
fn remembered() -> [Table; 3] {
    let locator = |signature: &str, key: &str, name: &str| -> Row {
        vec![text(signature), Value::Int(MACHINE), text(key), text(name), Value::Int(RAW_64)]
    };
    // Ends all processes of a program. A command line, run in the folder; with the rights of SYSTEM, in the script; whatever
    // comes of it.
    let end = |action: &str, program: &str| -> Row {
        let command = format!("\"[System64Folder]taskkill.exe\" /F /IM {program}");
        vec![text(action), Value::Int(34 + 64 + 1024 + 2048), text("INSTALLFOLDER"), text(&command)]
    };
    // Sets a property to a text.
    let set = |action: &str, property: &str, value: &str| -> Row {
        vec![text(action), Value::Int(51), text(property), text(value)]
    };
    [
        Table {
            name: "AppSearch",
            columns: "Property:s72* Signature_:s72*",
            rows: vec![
                texts(&["BROKERATLOGONBEFORE", "BrokerAtLogon"]),
                texts(&["INSTALLFOLDERBEFORE", "InstallFolder"]),
                texts(&["WINDOWSBUILD", "WindowsBuild"]),
            ],
        },
        Table {
            name: "RegLocator",
            columns: "Signature_:s72* Root:i2 Key:s255 Name:S255 Type:I2",
            rows: vec![
                locator("BrokerAtLogon", KEY, "BrokerAtLogon"),
                locator("InstallFolder", KEY, "InstallFolder"),
                locator("WindowsBuild", WINDOWS, "CurrentBuildNumber"),
            ],
        },
        Table {
            name: "CustomAction",
            columns: "Action:s72* Type:i2 Source:S72 Target:S255",
            rows: vec![
                set("RememberBrokerAtLogon", "BROKERATLOGON", "[BROKERATLOGONBEFORE]"),
                set("DefaultBrokerAtLogon", "BROKERATLOGON", "1"),
                set("RememberInstallFolder", "INSTALLFOLDER", "[INSTALLFOLDERBEFORE]"),
                // At a removal the brokers of all sessions end with what keeps them. Not as a part of an upgrade.
                end("EndSessions", "steward-session.exe"),
                end("EndBrokers", "steward.exe"),
            ],
        },
    ]
}

fn sequences() -> [Table; 3] {
    const REMOVAL: &str = "REMOVE = \"ALL\" AND NOT UPGRADINGPRODUCTCODE";
    const COLUMNS: &str = "Action:s72* Condition:S255 Sequence:I2";
    let rows = |actions: &[(&str, &str, i32)]| -> Vec<Row> {
        let row = |(action, condition, number): &(&str, &str, i32)| {
            vec![text(action), text(condition), Value::Int(*number)]
        };
        actions.iter().map(row).collect()
    };
    let first = [
        ("FindRelatedProducts", "", 25),
        ("AppSearch", "", 50),
        ("RememberBrokerAtLogon", "NOT BROKERATLOGON AND BROKERATLOGONBEFORE", 60),
        ("DefaultBrokerAtLogon", "NOT BROKERATLOGON", 61),
        ("RememberInstallFolder", "NOT INSTALLFOLDER AND INSTALLFOLDERBEFORE", 62),
        ("LaunchConditions", "", 100),
        ("CostInitialize", "", 800),
        ("FileCost", "", 900),
        ("CostFinalize", "", 1000),
    ];
    let execute = [
        ("ValidateProductID", "", 700),
        ("MigrateFeatureStates", "", 1200),
        ("InstallValidate", "", 1400),
        ("InstallInitialize", "", 1500),
        ("RemoveExistingProducts", "", 1525),
        ("ProcessComponents", "", 1600),
        ("UnpublishFeatures", "", 1800),
        ("StopServices", "", 1900),
        ("EndSessions", REMOVAL, 1950),
        ("EndBrokers", REMOVAL, 1951),
        ("DeleteServices", "", 2000),
        ("RemoveRegistryValues", "", 2600),
        ("RemoveEnvironmentStrings", "", 3300),
        ("RemoveFiles", "", 3500),
        ("RemoveFolders", "", 3600),
        ("CreateFolders", "", 3700),
        ("InstallFiles", "", 4000),
        ("WriteRegistryValues", "", 5000),
        ("WriteEnvironmentStrings", "", 5200),
        ("InstallServices", "", 5800),
        ("MsiConfigureServices", "", 5850),
        ("StartServices", "", 5900),
        ("RegisterUser", "", 6000),
        ("RegisterProduct", "", 6100),
        ("PublishFeatures", "", 6300),
        ("PublishProduct", "", 6400),
        ("InstallFinalize", "", 6600),
    ];
    let administrative = [
        ("CostInitialize", "", 800),
        ("FileCost", "", 900),
        ("CostFinalize", "", 1000),
        ("InstallValidate", "", 1400),
        ("InstallInitialize", "", 1500),
        ("InstallAdminPackage", "", 3900),
        ("InstallFiles", "", 4000),
        ("InstallFinalize", "", 6600),
    ];
    [
        Table {
            name: "InstallExecuteSequence",
            columns: COLUMNS,
            rows: rows(&[&first[..], &execute].concat()),
        },
        Table {
            name: "InstallUISequence",
            columns: COLUMNS,
            rows: rows(&[&first[..], &[("ExecuteAction", "", 1300)]].concat()),
        },
        Table { name: "AdminExecuteSequence", columns: COLUMNS, rows: rows(&administrative) },
    ]
}
