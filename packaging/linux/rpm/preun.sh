# Before a removal ($1 = 0) or an upgrade ($1 = 1), which stops nothing. The state in /var/lib/steward stays.
if [ "$1" -eq 0 ]; then
    systemctl --no-reload --global disable steward-broker.socket > /dev/null 2>&1 || :
    systemctl --no-reload disable steward-agent.service > /dev/null 2>&1 || :
    if [ -d /run/systemd/system ]; then
        systemctl stop steward-agent.service steward-update.service > /dev/null 2>&1 || :
        systemctl --no-legend list-units 'user@*.service' 2> /dev/null | grep -o 'user@[0-9]*' | while read -r unit; do
            systemctl --quiet --user --machine "${unit#user@}@" stop steward-broker.socket steward-broker.service > /dev/null 2>&1 || :
        done
    fi
fi
