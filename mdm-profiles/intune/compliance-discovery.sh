#!/bin/sh
# Discovery script of a custom compliance policy in Intune: prints one line of JSON, and ends with 0. It runs as the user.
printed=$(PATH=$PATH:/usr/bin:/usr/local/bin steward report --format intune 2> /dev/null)
case $printed in
{*}) printf '%s\n' "$printed" ;;
*) printf '%s\n' '{"AgentState":"unknown","AgentVersion":"0.0.0","AppState":"unknown","AppVersion":"0.0.0","DiskEncryptionState":"unknown","FirewallState":"unknown","Health":"unknown","ObservedAt":"1970-01-01T00:00:00Z","PendingRestartState":"unknown","PolicyHash":"","PolicyState":"unknown","PostureState":"unknown","ProblemCodes":"unknown","ProblemCount":-1,"ReportState":"unknown","ScreenLockState":"unknown","SecureBootState":"unknown","SignInState":"unknown","SignedIn":false,"UpdateState":"unknown","VaultState":"unknown"}' ;;
esac
exit 0
