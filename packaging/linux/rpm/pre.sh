# Before an installation ($1 = 1) or an upgrade ($1 = 2), which a downgrade calls itself too: `dnf downgrade`, `rpm --oldpackage`.
if [ "$1" -gt 1 ]; then
    for installed in $(rpm --query --queryformat '%{VERSION} ' steward 2> /dev/null); do
        newest=$(printf '%s\n' "$installed" '@VERSION@' | sort --version-sort | tail --lines=1)
        if [ "$newest" != '@VERSION@' ]; then
            echo "steward: $installed is installed, and @VERSION@ is older. Nothing was changed." >&2
            echo "  hint: to go back nevertheless, remove steward first (dnf remove steward); its state is kept" >&2
            exit 1
        fi
    done
fi
