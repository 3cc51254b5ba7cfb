#!/bin/sh
# Extension attribute of Jamf Pro: `ObservedAt` of Steward. Data type: Date. It prints a result on every device.
steward='/Library/Application Support/Steward/bin/steward'
printed=$("$steward" report --format jamf --key ObservedAt 2> /dev/null)
case $printed in
'<result>'*'</result>') printf '%s\n' "$printed" ;;
*) printf '%s\n' '<result>1970-01-01 00:00:00</result>' ;;
esac
