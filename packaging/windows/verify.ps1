# Checks on a real Windows what Wine cannot show. Run it as an administrator, on a test device with Steward and a policy, while a user is
# signed in to Windows:
#
#   powershell -ExecutionPolicy Bypass -File verify.ps1 -Steward 'C:\Program Files\Steward\steward.exe'
#
# It changes nothing lasting: it starts an agent below a folder of its own, and removes that and its part of the registry at the
# end. Where the package is installed, it restarts the service and ends the broker of this session, which comes back.
param([string]$Steward = 'C:\Program Files\Steward\steward.exe')
$ErrorActionPreference = 'Stop'
$failed = 0
$root = Join-Path $env:ProgramData "StewardVerify-$PID"
$label = -join ($root.ToCharArray() | ForEach-Object { if ([char]::IsLetterOrDigit($_)) { $_ } else { '_' } })
$key = "HKLM:\SOFTWARE\Steward Roots\$label"

function Check([string]$name, [scriptblock]$test) {
    try { $result = & $test } catch { $result = $_.Exception.Message }
    if ($result -eq $true) { "ok    $name" } else { "FAIL  $name`n      $result"; $script:failed++ }
}
function Wait-For([scriptblock]$test) {
    foreach ($attempt in 1..100) { if (& $test) { return $true }; Start-Sleep -Milliseconds 100 }
    return $false
}
function Set-Policy([hashtable]$values) {
    $policy = "$key\SOFTWARE\Policies\Steward"
    New-Item -Path $policy -Force | Out-Null
    foreach ($name in $values.Keys) { Set-ItemProperty -Path $policy -Name $name -Value $values[$name] }
}
function Status { & $Steward --root $root --json status | ConvertFrom-Json }

New-Item -ItemType Directory -Path $root | Out-Null
Set-Policy @{ SocialSignIn = 'blocked' }
$agent = Start-Process -FilePath $Steward -ArgumentList '--root', "`"$root`"", 'agent' -PassThru -WindowStyle Hidden
try {
    Check 'the agent responds' { Wait-For { (Status).agent_running } }
    Check 'folders give access to SYSTEM and administrators, and to no person' {
        $state = Get-ChildItem -Path $root -Recurse -Directory -Filter Steward | Select-Object -First 1
        $named = (Get-Acl $state.FullName).Access | ForEach-Object { $_.IdentityReference.Translate([Security.Principal.SecurityIdentifier]).Value }
        $people = $named | Where-Object { $_ -like 'S-1-5-21-*' -or $_ -like 'S-1-12-1-*' }
        if ($people) { "it names $people" } else { $true }
    }
    Check 'private state is closed to users' {
        $private = Get-ChildItem -Path $root -Recurse -Directory -Filter private | Select-Object -First 1
        $users = (Get-Acl $private.FullName).Access | Where-Object { $_.IdentityReference.Translate([Security.Principal.SecurityIdentifier]).Value -eq 'S-1-5-32-545' }
        if ($users) { 'users have access' } else { $true }
    }
    Check 'a value is set for the app, and set again when somebody deletes it' {
        $quick = "$key\SOFTWARE\Policies\Amazon\Quick"
        $isSet = { (Get-ItemProperty -Path $quick -ErrorAction SilentlyContinue).DisableSocialLogin -eq 1 }
        if (-not (Wait-For $isSet)) { return 'it is not set' }
        Remove-ItemProperty -Path $quick -Name DisableSocialLogin
        Wait-For $isSet
    }
    Check 'a change after the key was deleted and made again is noticed' {
        foreach ($round in 1..10) {
            Remove-Item -Path "$key\SOFTWARE\Policies\Steward" -Recurse
            Set-Policy @{ SocialSignIn = 'blocked'; OrganizationName = "round $round" }
            if (-not (Wait-For { (Status).status.policy.organization -eq "round $round" })) { return "round $round" }
            Set-Policy @{ OrganizationName = "changed $round" }
            if (-not (Wait-For { (Status).status.policy.organization -eq "changed $round" })) { return "change $round" }
        }
        $true
    }
    Check 'a file that another program holds does not keep policy from being applied' {
        $file = Get-ChildItem -Path $root -Recurse -Filter sign-in.json | Select-Object -First 1
        $held = [IO.File]::Open($file.FullName, 'Open', 'Read', 'Read')
        try {
            Set-Policy @{ AppSelfUpdate = 'none' }
            Wait-For { (Get-ItemProperty -Path "$key\SOFTWARE\Policies\Amazon\Quick").DisableAutoUpdates -eq 'patch' }
        } finally { $held.Close() }
    }
    Check 'the pipe belongs to administrators, and no user can make an instance of it' {
        $pipe = [IO.Directory]::GetFiles('\\.\pipe\') | Where-Object { $_ -like "*steward-$label-agent" }
        if (-not $pipe) { return 'there is no such pipe' }
        $client = [IO.Pipes.NamedPipeClientStream]::new('.', (Split-Path $pipe -Leaf), [IO.Pipes.PipeDirection]::InOut)
        try { $client.Connect(2000); $access = $client.GetAccessControl() } finally { $client.Dispose() }
        $trusted = 'S-1-5-18', 'S-1-5-32-544'
        $owner = $access.GetOwner([Security.Principal.SecurityIdentifier]).Value
        if ($trusted -notcontains $owner) { return "it belongs to $owner" }
        $bad = $access.GetAccessRules($true, $false, [Security.Principal.SecurityIdentifier]) | Where-Object {
            $_.AccessControlType -eq 'Allow' -and $trusted -notcontains $_.IdentityReference.Value -and
            $_.PipeAccessRights.HasFlag([IO.Pipes.PipeAccessRights]::CreateNewInstance)
        }
        if ($bad) { "$($bad.IdentityReference) can make one" } else { $true }
    }
    Check 'the owner of a connection to the redirect port is known' {
        $listener = [Net.Sockets.TcpListener]::new([Net.IPAddress]::Loopback, 0); $listener.Start()
        $client = [Net.Sockets.TcpClient]::new('127.0.0.1', $listener.LocalEndpoint.Port)
        $row = Get-NetTCPConnection -LocalPort $client.Client.LocalEndPoint.Port -State Established
        $client.Close(); $listener.Stop()
        $row.OwningProcess -contains $PID
    }
    Check 'reserved ranges of ports are printed in a form that Steward reads' {
        $lines = netsh int ipv4 show excludedportrange protocol=tcp | Where-Object { $_ -match '^\s*\d+\s+\d+\s*\*?\s*$' }
        if ($lines -or $LASTEXITCODE -eq 0) { $true } else { 'netsh failed' }
    }
    Check 'the event log takes entries of the agent' {
        Set-Policy @{ UpdateMode = 'automatik' }
        Wait-For { Get-WinEvent -FilterHashtable @{ LogName = 'Application'; ProviderName = 'Steward' } -MaxEvents 1 -ErrorAction SilentlyContinue }
    }
    Check 'doctor names the proxy that Windows has' {
        $policy = Join-Path $root 'policy.toml'
        Set-Content -Path $policy -Value "App = `"lab-notes`"`nIssuer = `"https://login.microsoftonline.com/common/v2.0`"`nClientId = `"c`""
        $found = (& $Steward --root $root --json doctor --policy $policy | ConvertFrom-Json).findings | Where-Object check -eq 'proxy'
        if ($found.summary) { "      $($found.summary)" | Out-Host; $true } else { 'there is no such finding' }
    }
} finally {
    Stop-Process -Id $agent.Id -Force
    $agent.WaitForExit()
    & $Steward --root $root cleanup | Out-Null
    Remove-Item -Path $key -Recurse -ErrorAction SilentlyContinue
    Remove-Item -Path $root -Recurse -Force -ErrorAction SilentlyContinue
}
# The installed package, as it is: these checks read, and end one broker.
$folder = Split-Path $Steward
if (Get-Service -Name Steward -ErrorAction SilentlyContinue) {
    Check 'the service runs as LocalSystem, from the folder of the program' {
        $service = Get-CimInstance Win32_Service -Filter "Name='Steward'"
        if ($service.State -ne 'Running') { return "it is $($service.State)" }
        if ($service.StartName -ne 'LocalSystem') { return "it runs as $($service.StartName)" }
        if ($service.PathName -notlike "*$Steward*service") { return $service.PathName }
        $true
    }
    Check 'the service starts delayed, and again after a failure' {
        $start = sc.exe qc Steward | Out-String
        $failure = sc.exe qfailure Steward | Out-String
        $flag = sc.exe qfailureflag Steward | Out-String
        if ($start -notmatch 'DELAYED') { return $start }
        if (([regex]::Matches($failure, 'RESTART')).Count -lt 3) { return $failure }
        if ($flag -notmatch 'TRUE') { return $flag }
        $true
    }
    Check 'users cannot replace the programs' {
        $writes = 'Write|Modify|FullControl|Delete|ChangePermissions|TakeOwnership'
        $trusted = 'S-1-5-18', 'S-1-5-32-544', 'S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464', 'S-1-3-0'
        $bad = Get-Item $folder, "$folder\*.exe" | ForEach-Object { (Get-Acl $_.FullName).Access } | Where-Object {
            $_.AccessControlType -eq 'Allow' -and "$($_.FileSystemRights)" -match $writes -and
            $trusted -notcontains $_.IdentityReference.Translate([Security.Principal.SecurityIdentifier]).Value
        }
        if ($bad) { "$($bad.IdentityReference) can write" } else { $true }
    }
    Check 'a broker runs in this session without a window, and comes back' {
        $session = (Get-Process -Id $PID).SessionId
        $brokers = { Get-CimInstance Win32_Process -Filter "Name='steward.exe' AND SessionId=$session" | Where-Object CommandLine -like '*broker*' }
        $first = & $brokers | Select-Object -First 1
        if (-not $first) { return 'there is none; log on after the installation' }
        if ((Get-Process -Id $first.ProcessId).MainWindowHandle -ne 0) { return 'it has a window' }
        Stop-Process -Id $first.ProcessId -Force
        Wait-For { $now = & $brokers | Select-Object -First 1; $now -and $now.ProcessId -ne $first.ProcessId }
    }
    Check 'no broker runs in session 0' {
        $found = Get-CimInstance Win32_Process -Filter "Name='steward.exe' AND SessionId=0" | Where-Object CommandLine -like '*broker*'
        if ($found) { "process $($found.ProcessId)" } else { $true }
    }
    Check 'the service stops within its time, and starts again' {
        $took = Measure-Command { Stop-Service Steward; Start-Service Steward }
        if ($took.TotalSeconds -gt 60) { "$took" } else { (Get-Service Steward).Status -eq 'Running' }
    }
    Check 'Explorer shows the version of the program' {
        $version = (Get-Item $Steward).VersionInfo.FileVersion
        if ($version -eq (Get-ItemProperty 'HKLM:\SOFTWARE\Steward').Version) { $true } else { "it is $version" }
    }
    Check 'the discovery script of the compliance policy prints one line, in both PowerShells' {
        $out = Join-Path ([IO.Path]::GetTempPath()) "steward-verify-$PID"
        try {
            & $Steward export --format intune --output $out | Out-Null
            foreach ($shell in 'System32', 'SysWOW64') {
                $printed = @(& "$env:SystemRoot\$shell\WindowsPowerShell\v1.0\powershell.exe" -NoProfile -ExecutionPolicy Bypass -File "$out\intune\compliance-discovery.ps1")
                if ($LASTEXITCODE -ne 0 -or $printed.Count -ne 1) { return "$shell prints $($printed.Count) lines" }
                if (($printed[0] | ConvertFrom-Json).AgentVersion -eq '0.0.0') { return "$shell does not find the program" }
            }
            $printed = & "$out\intune\requirement.ps1"
            if ($printed -in 'ready', 'there is no policy of Steward yet') { $true } else { $printed }
        } finally { Remove-Item -Path $out -Recurse -Force -ErrorAction SilentlyContinue }
    }
    Check 'msiexec /fa repairs a program that somebody deleted' {
        $package = (Get-ChildItem 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall' | Get-ItemProperty | Where-Object DisplayName -eq 'Steward').PSChildName
        $file = Join-Path $folder 'steward.ps1'
        Remove-Item $file
        $repair = Start-Process msiexec.exe -ArgumentList '/fa', $package, '/qn' -Wait -PassThru
        if ($repair.ExitCode -notin 0, 3010) { return "msiexec ends with $($repair.ExitCode)" }
        if (-not (Test-Path $file)) { return 'the file is still missing' }
        (Get-Service Steward).Status -eq 'Running'
    }
    Check 'the event log shows the text of an event of Steward' {
        $event = Get-WinEvent -FilterHashtable @{ LogName = 'Application'; ProviderName = 'Steward' } -MaxEvents 1 -ErrorAction SilentlyContinue
        if (-not $event) { return 'there is no event yet' }
        if ($event.Message -match 'cannot be found') { $event.Message } else { $true }
    }
} else {
    '-     the package is not installed, so the service was not checked'
}
if ($failed) { "$failed checks failed"; exit 1 } else { 'All checks passed' }
