# Discovery script of a custom compliance policy in Intune: prints one line of JSON, and ends with 0.
# In Intune: "Run this script using the logged on credentials": No. It works in 32-bit and in 64-bit PowerShell.
$absent = '{"AgentState":"unknown","AgentVersion":"0.0.0","AppState":"unknown","AppVersion":"0.0.0","DiskEncryptionState":"unknown","FirewallState":"unknown","Health":"unknown","ObservedAt":"1970-01-01T00:00:00Z","PendingRestartState":"unknown","PolicyHash":"","PolicyState":"unknown","PostureState":"unknown","ProblemCodes":"unknown","ProblemCount":-1,"ReportState":"unknown","ScreenLockState":"unknown","SecureBootState":"unknown","SignInState":"unknown","SignedIn":false,"UpdateState":"unknown","VaultState":"unknown"}'
$folder = $env:ProgramW6432
if (-not $folder) { $folder = $env:ProgramFiles }
# Where the package was told to go; 32-bit PowerShell sees another part of the registry.
$view = [Microsoft.Win32.RegistryView]::Registry64
$machine = [Microsoft.Win32.RegistryKey]::OpenBaseKey([Microsoft.Win32.RegistryHive]::LocalMachine, $view)
$key = $machine.OpenSubKey('SOFTWARE\Steward')
$chosen = if ($key) { $key.GetValue('InstallFolder') }
$steward = if ($chosen) { Join-Path $chosen 'steward.exe' } else { Join-Path $folder 'Steward\steward.exe' }
$printed = $null
if (Test-Path -LiteralPath $steward) {
    try { $printed = & $steward report --format intune 2>$null } catch { $printed = $null }
}
if ($LASTEXITCODE -eq 0 -and "$printed".StartsWith('{')) { "$printed" } else { $absent }
exit 0
