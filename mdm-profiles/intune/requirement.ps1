# Requirement rule of an app for Windows in Intune: Steward is installed only where its policy already is. In Intune: "Run script
# as 32-bit process on 64-bit clients": No; "Run this script using the logged on credentials": No; output data type: String;
# operator: Equals; value: ready.
$build = [Environment]::OSVersion.Version.Build
if ($build -lt 17763) { "Windows build $build is older than 17763" }
elseif (-not (Test-Path -LiteralPath 'HKLM:\SOFTWARE\Policies\Steward')) { 'there is no policy of Steward yet' }
else { 'ready' }
exit 0
