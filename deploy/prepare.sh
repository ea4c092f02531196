#!/bin/sh
# prepare.sh: run once as root by docker-compose.yml, before the reconciler, which is not root.
# Gives it its state volume and, where nobody else's, the mounted folder of queues.yaml; puts the sample into an empty one.
set -eu
mounted=/mnt/config
owner="$RECONCILER_UID:$RECONCILER_GID"

as_reconciler() {
    setpriv --reuid "$RECONCILER_UID" --regid "$RECONCILER_GID" --clear-groups -- "$@"
}

chown -R "$owner" /var/lib/reconciler

# Root's: the clone is root's, or Docker has just made the folder. Root can go on editing in it.
if [ "$(stat -c %u "$mounted")" -eq 0 ]; then
    chown -R "$owner" "$mounted"
fi

if ! as_reconciler test -w "$mounted"; then
    echo "the reconciler runs as user $RECONCILER_UID and may not write to the configuration folder, which belongs to" \
        "user $(stat -c %u "$mounted"): put RECONCILER_UID=$(stat -c %u "$mounted") and" \
        "RECONCILER_GID=$(stat -c %g "$mounted") into .env" >&2
    exit 1
fi

if [ ! -e "$mounted/queues.yaml" ] && [ ! -e "$mounted/workers" ]; then
    as_reconciler cp -R /config/queues.yaml /config/workers /config/schema "$mounted/"
    echo "the sample queues.yaml and workers/ are in the configuration folder now: edit them there"
fi
