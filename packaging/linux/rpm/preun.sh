# Before a removal ($1 = 0) or an upgrade ($1 = 1), which stops nothing. The state in /var/lib/steward stays.
if [ "$1" -eq 0 ]; then
    systemctl --no-reload --global disable steward-broker.socket > /dev/null 2>&1 || :
    systemctl --no-reload disable steward-agent.service > /dev/null 2>&1 || :
    if [ -d /run/systemd/system ]; then
        systemctl stop steward-agent.service steward-update.service > /dev/null 2>&1 || :
    fi
fi
