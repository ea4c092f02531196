#!/bin/sh
# Installs rabbitmq-server if it is not on the machine. Only the package: the service that it brings would listen on
# every address, and the embedded broker is a private node of its own.
set -eu
here=$(dirname "$0")
. "$here/common.sh"

present() {
    command -v rabbitmq-server >/dev/null 2>&1 || [ -x "${RABBITMQ_HOME:-/usr/lib/rabbitmq}/bin/rabbitmq-server" ]
}

present && exit 0
may_install || fail "no broker: run 'sudo apt-get install rabbitmq-server', or set AMQP_URL=amqp://user:password@host/ to use one you have"

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'as_root rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
fi
apt_install rabbitmq-server && present ||
    fail "rabbitmq-server could not be installed: install it yourself, or set AMQP_URL=amqp://user:password@host/"
