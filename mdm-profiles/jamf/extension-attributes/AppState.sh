#!/bin/sh
# Extension attribute of Jamf Pro: `AppState` of Steward. Data type: String. It prints a result on every device.
steward='/Library/Application Support/Steward/bin/steward'
printed=$("$steward" report --format jamf --key AppState 2> /dev/null)
case $printed in
'<result>'*'</result>') printf '%s\n' "$printed" ;;
*) printf '%s\n' '<result>unknown</result>' ;;
esac
