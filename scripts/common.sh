# Sourced by the other scripts: saying no in one line, and installing system packages where we may.

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Runs a command as root: directly, or through sudo where it asks for no password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; }
}

# apt_install PACKAGE...: quiet while it works, the whole story if it does not.
apt_install() {
    log=$(mktemp)
    printf 'installing %s …\n' "$*" >&2
    if ! { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}
