#!/bin/sh
# venv.sh STAMP EXTRA: makes .venv and installs the package with its EXTRA ('' or '[test]'), then touches STAMP.
# A .venv that an interrupted run left half made is made anew.
set -eu
here=$(dirname "$0")
. "$here/common.sh"
stamp=$1
extra=$2

find_python() {
    for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$name" && return 0
    done
    return 1
}

make_venv() {
    python=$(find_python) || fail "Python 3.11 or newer is needed (set PYTHON=/path/to/python3.11)"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        package=$("$python" -c 'import sys; print(f"python3.{sys.version_info.minor}-venv")')
        may_install || fail "$python cannot make virtual environments: run 'sudo apt-get install $package'"
        apt_install "$package" || apt_install python3-venv || fail "$package could not be installed"
    fi
    rm -rf .venv
    "$python" -m venv .venv
}

[ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || make_venv
printf 'installing the Python packages into .venv …\n' >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".$extra"
touch "$stamp"
