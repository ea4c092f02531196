#!/bin/sh
# What the tests need beside Python packages: a broker, a browser, git, and keys to sign with.
set -eu
here=$(dirname "$0")
. "$here/common.sh"

"$here/install-broker.sh"
"$here/install-broker4.sh"

need() { # need PACKAGE COMMAND...: one of the commands is there, or the package is installed
    package=$1
    shift
    for name in "$@"; do
        command -v "$name" >/dev/null 2>&1 && return 0
    done
    may_install || fail "the tests need $package: run 'sudo apt-get install $package'"
    apt_install "$package" || fail "$package could not be installed, and the tests need it"
}

need chromium chromium chromium-browser google-chrome google-chrome-stable
need git git
need openssh-client ssh-keygen
