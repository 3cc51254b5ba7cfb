# After an installation ($1 = 1) or an upgrade ($1 = 2). An upgrade starts nothing that did not run.
systemd-sysusers steward.conf || :
systemd-tmpfiles --create steward.conf || :
# Whatever became of versions that the agent installed itself: what was just installed runs now.
rm -f /var/lib/steward/versions.json || :
for_users() {
    systemctl --no-legend list-units 'user@*.service' 2> /dev/null | grep -o 'user@[0-9]*' | while read -r unit; do
        systemctl --quiet --user --machine "${unit#user@}@" "$@" > /dev/null 2>&1 || :
    done
}
if [ "$1" -eq 1 ]; then
    systemctl --no-reload preset steward-agent.service > /dev/null 2>&1 || :
    systemctl --no-reload --global preset steward-broker.socket > /dev/null 2>&1 || :
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload > /dev/null 2>&1 || :
    for_users daemon-reload
    if [ "$1" -eq 1 ]; then
        # Only where the presets of this device enable it.
        if systemctl --quiet is-enabled steward-agent.service; then
            systemctl start steward-agent.service || :
        fi
        if systemctl --quiet --global is-enabled steward-broker.socket; then
            for_users start steward-broker.socket
        fi
    else
        systemctl try-restart steward-agent.service > /dev/null 2>&1 || :
    fi
fi
