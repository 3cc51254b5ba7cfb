#!/bin/sh
# Extension attribute of Jamf Pro: `ProblemCodes` of Steward. Data type: String. It prints a result on every device.
steward='/Library/Application Support/Steward/bin/steward'
printed=$("$steward" report --format jamf --key ProblemCodes 2> /dev/null)
case $printed in
'<result>'*'</result>') printf '%s\n' "$printed" ;;
*) printf '%s\n' '<result>unknown</result>' ;;
esac
