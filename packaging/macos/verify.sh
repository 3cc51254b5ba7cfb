#!/bin/sh
# Checks on a real Mac what nothing else can. Run it as an administrator on a test device with Steward installed, while a user is
# logged in:
#
#   sudo sh verify.sh [PACKAGE]
#
# It ends the service and the broker once, to see them start again, and changes nothing lasting. It prints ok or FAIL for each item.
set -u
home="/Library/Application Support/Steward"
steward="$home/bin/steward"
failed=0

# A name, and a command: ok if it succeeds, else what it prints.
check() {
    name=$1
    shift
    if printed=$("$@" 2>&1); then
        echo "ok    $name"
    else
        echo "FAIL  $name"
        echo "$printed" | sed 's/^/      /'
        failed=$((failed + 1))
    fi
}
# Runs a command again for up to 20 seconds, until it succeeds.
within() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 20 ] || return 1
        sleep 1
    done
}
skip() {
    echo "SKIP  $1"
}

if [ "$(id -u)" -ne 0 ]; then
    echo "Run this as an administrator: sudo sh $0" >&2
    exit 2
fi
user=$(stat -f %Su /dev/console)
uid=$(id -u "$user")
as_user() {
    launchctl asuser "$uid" sudo -u "$user" "$@"
}

# -- the package and the program
if [ $# -ge 1 ]; then
    check 'the package is signed by a Developer ID' pkgutil --check-signature "$1"
    check 'Gatekeeper accepts the package, which is notarised' spctl --assess --type install --verbose=2 "$1"
    check 'the ticket of notarisation is stapled to the package' xcrun stapler validate "$1"
fi
one_receipt() {
    receipts=$(pkgutil --pkgs | grep -c '^dev\.steward')
    [ "$receipts" -eq 1 ] || { echo "there are $receipts"; return 1; }
}
check 'there is one receipt' one_receipt
check 'the program is signed' codesign --verify --strict --verbose=2 "$steward"
hardened() {
    codesign --display --verbose=2 "$steward" 2>&1 | grep -q 'flags=.*runtime'
}
check 'the program has the hardened runtime' hardened
only_root() {
    found=$(find "$home/bin" /Library/LaunchDaemons/dev.steward.*.plist /Library/LaunchAgents/dev.steward.*.plist \
        \( ! -user root -o -perm -020 -o -perm -002 \) -print)
    [ -z "$found" ] || { echo "$found"; return 1; }
}
check 'only root can change what runs as root' only_root
private() {
    [ "$(stat -f %Sp "$home/private")" = drwx------ ]
}
check 'private state is closed to users' private
finds_command() {
    /usr/libexec/path_helper -s | grep -q "$home/bin"
}
check 'the command is in the path of new shells' finds_command

# -- the service
process() {
    launchctl print "$1" 2>/dev/null | sed -n 's/^[[:space:]]*pid = //p' | head -n 1
}
runs() {
    [ -n "$(process "$1")" ]
}
responds() {
    "$steward" status --json | grep -q '"agent_running": *true'
}
check 'the service runs' runs system/dev.steward.agent
check 'the service responds' within responds
# A job, and the process that it had.
has_other_process() {
    now=$(process "$1")
    [ -n "$now" ] && [ "$now" != "$2" ]
}
starts_again() {
    before=$(process "$1")
    kill -9 "$before" && within has_other_process "$1" "$before"
}
check 'the service starts again after a crash' starts_again system/dev.steward.agent
check 'it responds again' within responds
check 'users can ask the service' as_user "$steward" status --json
check 'the service writes its log' test -s /Library/Logs/Steward/agent.log
check 'the doctor can run' sh -c "\"$steward\" doctor --json | grep -q '{'"
if [ -f "/Library/Managed Preferences/dev.steward.agent.plist" ]; then
    reads_policy() {
        "$steward" policy show --json | grep -q 'Managed Preferences'
    }
    check 'policy of the management system is read' reads_policy
else
    skip 'no profile with policy is installed (Library/Managed Preferences/dev.steward.agent.plist)'
fi

# -- the session of the user
if [ "$user" = root ]; then
    skip 'nobody is logged in'
else
    check 'the broker runs in the session of the user' runs "gui/$uid/dev.steward.broker"
    folder="$(dscl . -read "/Users/$user" NFSHomeDirectory | sed 's/^NFSHomeDirectory: //')/Library/Application Support/Steward"
    closed() {
        [ "$(stat -f %Su:%Sp "$folder/broker.sock")" = "$user:srw-------" ]
    }
    check 'the socket of the broker is for the user only' closed
    check 'the broker responds' as_user "$steward" whoami --json
    check 'the broker starts again after a crash' starts_again "gui/$uid/dev.steward.broker"
fi
if profiles show -type configuration 2>/dev/null | grep -q 'dev\.steward\.'; then
    doctor_sees_profile() {
        found=$("$steward" doctor | grep background-items)
        echo "$found"
        echo "$found" | grep -q '^ok '
    }
    check 'the doctor sees the profile that manages the background items' doctor_sees_profile
else
    skip 'no profile of Steward is installed, so users can turn it off under Login Items'
fi

echo
if [ $failed -ne 0 ]; then
    echo "$failed failed."
    exit 1
fi
echo "All is well."
