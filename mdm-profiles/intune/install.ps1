# Puts the policy of Steward into HKLM\SOFTWARE\Policies\Steward, in place of everything there. Run it as an administrator, as often
# as you like, on devices where no Group Policy writes there.
# In Intune: "Run this script using the logged on credentials": No; "Run script in 64 bit PowerShell": Yes.
$ErrorActionPreference = 'Stop'
$registry = @'
Windows Registry Editor Version 5.00

[-HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Steward]

[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Steward]
"App"="amazon-quick"
"AppSelfUpdate"="none"
"ClientId"="3c1f2d9e-7a54-4a0c-8f54-5f8f9f1d2b77"
"IdentityProvider"="entra"
"Issuer"="https://login.microsoftonline.com/6f1c9a52-0f0e-4b0a-9b1c-0d7c2f1f3a10/v2.0"
"OrganizationName"="Example Corp"
"ReportIntervalMinutes"=dword:0000003c
"ReportPosture"=dword:00000001
"ReportUrl"="https://steward.example.com/v1/reports"
"SocialSignIn"="blocked"
"SupportContact"="it-help@example.com"
"UpdateDeferDays"=dword:00000003
"UpdateMode"="automatic"

[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Steward\AllowedEmailDomains]
"1"="example.com"

[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Steward\Scopes]
"1"="openid"
"2"="email"
"3"="profile"
"4"="offline_access"

[HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Steward\Recommended]
"LogLevel"="info"
'@
$file = Join-Path ([IO.Path]::GetTempPath()) ('steward-' + [Guid]::NewGuid() + '.reg')
try {
    # UTF-16 with a byte order mark; reg.exe misreads anything else.
    [IO.File]::WriteAllText($file, ($registry -replace "`r?`n", "`r`n"), [Text.Encoding]::Unicode)
    # Through cmd, as reg.exe writes its success to the error stream, which stops some hosts of PowerShell.
    & "$env:SystemRoot\System32\cmd.exe" /d /c "reg.exe import `"$file`" 2>&1"
    if ($LASTEXITCODE -ne 0) { throw "reg.exe ended with $LASTEXITCODE" }
} finally {
    Remove-Item -LiteralPath $file -Force -ErrorAction SilentlyContinue
}
