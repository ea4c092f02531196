#!/bin/sh
# RabbitMQ 4 for the tests, beside the one that the machine has: Debian 13's, in a folder of its own outside this
# repository. Optional: where it cannot be had the tests on it say so, and the others run.
#
# `enter FOLDER COMMAND...` in that folder runs a command in there, which finds FOLDER under its own name.
set -eu
here=$(dirname "$0")
. "$here/common.sh"
home=${XDG_CACHE_HOME:-$HOME/.cache}/queue-reconciler/rabbitmq-4

without() {
    printf 'the tests on RabbitMQ 4 and on a cluster of it will be skipped: %s\n' "$1" >&2
    exit 0
}

[ -x "$home/enter" ] && exit 0
[ "$(uname -m)" = x86_64 ] || [ "$(uname -m)" = aarch64 ] || without "there is no package for $(uname -m)"
command -v mmdebstrap >/dev/null 2>&1 || { may_install && apt_install mmdebstrap debian-archive-keyring; } ||
    without "they need mmdebstrap (run 'sudo apt-get install mmdebstrap')"
may_install || without "making the folder for it needs root"

mkdir -p "$(dirname "$home")"
new=$(mktemp -d "$home.XXXXXX")
trap 'as_root rm -rf "$new"' EXIT INT TERM
printf 'installing RabbitMQ 4 into %s …\n' "$home" >&2
as_root mmdebstrap --quiet --variant=minbase --include=rabbitmq-server \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' trixie "$new/root" >"$new/log" 2>&1 ||
    { tail -3 "$new/log" >&2; without "Debian's packages could not be fetched"; }
as_root chown -R "$(id -u):$(id -g)" "$new/root"

cat >"$new/enter" <<'ENTER'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
[ "$(id -u)" -eq 0 ] && map='' || map='--map-root-user'
exec unshare --mount $map sh -c '
    root=$1 folder=$2
    shift 2
    mount -t tmpfs tmpfs "$root/tmp" && mount --rbind /proc "$root/proc" && mount --rbind /dev "$root/dev" &&
        mkdir -p "$root$folder" && mount --bind "$folder" "$root$folder" || exit
    exec chroot "$root" "$@"' enter "$root" "$@"
ENTER
chmod 755 "$new" "$new/enter"
mv -T "$new" "$home"
trap - EXIT INT TERM
