//! Scripts that put a policy in its place: for a shell on Linux, for PowerShell on Windows, for Ansible.
//!
//! Each can be run again at any time. The files are put in place in one step; the registry has no such thing, so there
//! the agent waits until changes have settled. Where a policy holds a secret, only root may read the file.

use super::registry::reg_text;
use super::toml::bare;
use crate::raw::RawPolicy;
use crate::read::registry_pol::KEY;

/// The file that the scripts write.
const FILE: &str = "/etc/steward/policy.d/50-steward.toml";
/// No line of a policy in TOML begins like this.
const END: &str = "END-OF-STEWARD-POLICY";

/// For `sh`, as root. Intune runs it as a custom script on Linux.
#[must_use]
pub fn shell(policy: &RawPolicy) -> String {
    if policy.is_empty() {
        return format!(
            "#!/bin/sh\n\
             # Withdraws the policy of Steward: removes {FILE}. Run it as root, as often as you like.\n\
             set -eu\n\
             rm -f \"${{1:-}}{FILE}\"\n\
             echo \"${{1:-}}{FILE} is removed.\"\n"
        );
    }
    let umask = if holds_secret(policy) { "077" } else { "022" };
    format!(
        "#!/bin/sh\n\
         # Puts the policy of Steward into {FILE}. Run it as root, as often as you like.\n\
         # Another root folder can be given for a try: sh install.sh /tmp/root\n\
         set -eu\n\
         umask {umask}\n\
         file=\"${{1:-}}{FILE}\"\n\
         (umask 022; mkdir -p \"$(dirname \"$file\")\")\n\
         # A name that does not end in .toml is no policy until it is renamed.\n\
         new=\"$file.new.$$\"\n\
         trap 'rm -f \"$new\"' EXIT\n\
         cat > \"$new\" <<'{END}'\n{}{END}\n\
         if command -v steward > /dev/null; then\n  \
           checked=\"$(dirname \"$new\")/.check-$$.toml\"\n  \
           cp \"$new\" \"$checked\"\n  \
           steward policy check \"$checked\" || {{ rm -f \"$checked\"; exit 1; }}\n  \
           rm -f \"$checked\"\n\
         fi\n\
         sync \"$new\" 2> /dev/null || sync\n\
         mv \"$new\" \"$file\"\n\
         echo \"$file is in place.\"\n",
        bare(policy)
    )
}

/// For PowerShell, as SYSTEM or an administrator. Intune runs it as a platform script or a remediation.
#[must_use]
pub fn powershell(policy: &RawPolicy) -> String {
    let text = reg_text(policy, KEY);
    let body = text.replace("\r\n", "\n");
    let script = format!(
        "# Puts the policy of Steward into HKLM\\{KEY}, in place of everything there. Run it as an administrator, as often\n\
         # as you like, on devices where no Group Policy writes there.\n\
         # In Intune: \"Run this script using the logged on credentials\": No; \"Run script in 64 bit PowerShell\": Yes.\n\
         $ErrorActionPreference = 'Stop'\n\
         $registry = @'\n{body}'@\n\
         $file = Join-Path ([IO.Path]::GetTempPath()) ('steward-' + [Guid]::NewGuid() + '.reg')\n\
         try {{\n    \
             # UTF-16 with a byte order mark; reg.exe misreads anything else.\n    \
             [IO.File]::WriteAllText($file, ($registry -replace \"`r?`n\", \"`r`n\"), [Text.Encoding]::Unicode)\n    \
             # Through cmd, as reg.exe writes its success to the error stream, which stops some hosts of PowerShell.\n    \
             & \"$env:SystemRoot\\System32\\cmd.exe\" /d /c \"reg.exe import `\"$file`\" 2>&1\"\n    \
             if ($LASTEXITCODE -ne 0) {{ throw \"reg.exe ended with $LASTEXITCODE\" }}\n\
         }} finally {{\n    \
             Remove-Item -LiteralPath $file -Force -ErrorAction SilentlyContinue\n\
         }}\n"
    );
    script.replace('\n', "\r\n")
}

/// For Ansible: a play that installs the policy on Linux.
#[must_use]
pub fn playbook(policy: &RawPolicy) -> String {
    if policy.is_empty() {
        return format!(
            "# Withdraws the policy of Steward on Linux. The agent follows at once; nothing needs to be restarted.\n\
             - name: Steward policy\n  \
               hosts: all\n  \
               become: true\n  \
               tasks:\n    \
                 - name: The policy is withdrawn\n      \
                   ansible.builtin.file:\n        \
                     path: {FILE}\n        \
                     state: absent\n"
        );
    }
    let content: String = bare(policy)
        .lines()
        .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("          {line}\n") })
        .collect();
    let (mode, no_log) = if holds_secret(policy) { ("0600", "      no_log: true\n") } else { ("0644", "") };
    format!(
        "# Installs the policy of Steward on Linux. The agent follows at once; nothing needs to be restarted.\n\
         - name: Steward policy\n  \
           hosts: all\n  \
           become: true\n  \
           tasks:\n    \
             - name: The folder of the policy\n      \
               ansible.builtin.file:\n        \
                 path: /etc/steward/policy.d\n        \
                 state: directory\n        \
                 owner: root\n        \
                 group: root\n        \
                 mode: \"0755\"\n\n    \
             - name: The policy, checked before it is put in place\n      \
               ansible.builtin.copy:\n        \
                 dest: {FILE}\n        \
                 owner: root\n        \
                 group: root\n        \
                 mode: \"{mode}\"\n        \
                 # Before the agent is installed there is nothing to check with.\n        \
                 validate: sh -c 'PATH=$PATH:/usr/local/bin; ! command -v steward > /dev/null || steward policy check %s'\n        \
                 # Not a template: a value may hold braces.\n        \
                 content: !unsafe |2\n{content}{no_log}"
    )
}

/// Whether a policy holds something that not everybody may read.
fn holds_secret(policy: &RawPolicy) -> bool {
    let secret = |key: &String| {
        crate::settings::find(crate::SETTINGS, key)
            .is_some_and(|(setting, _)| matches!(setting.kind, crate::value::Kind::Secret { .. }))
    };
    policy.enforced.keys().chain(policy.recommended.keys()).any(secret)
}
