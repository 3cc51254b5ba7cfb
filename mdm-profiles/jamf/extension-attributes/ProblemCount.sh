#!/bin/sh
# Extension attribute of Jamf Pro: `ProblemCount` of Steward. Data type: Integer. It prints a result on every device.
steward='/Library/Application Support/Steward/bin/steward'
printed=$("$steward" report --format jamf --key ProblemCount 2> /dev/null)
case $printed in
'<result>'*'</result>') printf '%s\n' "$printed" ;;
*) printf '%s\n' '<result>-1</result>' ;;
esac
