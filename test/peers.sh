#!/bin/sh
# Installs the real programs that the tests talk to, by their Debian package names:
# test/peers.sh, or test/peers.sh heavy for those of the heavy tests, too.
# Needs root only when something is missing.
set -eu
missing=
need() { # program package
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need openssl openssl
need curl curl
need python3 python3
need ldapsearch ldap-utils
need swaks swaks
need mbsync isync
need gpgsm gpgsm
need gpg-agent gpg-agent
need softhsm2-util softhsm2
need systemd-analyze systemd # reads the units
need gcc gcc # cmmpd keyd loads the library
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
[ -x /usr/sbin/slapd ] || missing="$missing slapd"
[ -x /usr/sbin/rsyslogd ] || missing="$missing rsyslog"
ls /usr/lib/*/rsyslog/lmnsd_ossl.so >/dev/null 2>&1 || missing="$missing rsyslog-openssl"
perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl" # swaks speaks TLS with it
if [ "${1:-}" = heavy ]; then
    need postfix postfix
    need neomutt neomutt
    need offlineimap offlineimap3
    need thunderbird thunderbird
    need cmsutil libnss3-tools
    need script bsdutils
    need javac default-jdk-headless
    [ -e /usr/share/java/bcmail.jar ] || missing="$missing libbcmail-java"
    fc-list :lang=zh-tw 2>/dev/null | grep -q . || missing="$missing fontconfig fonts-droid-fallback" # for the screenshots
    need strace strace         # makes flushes fail
    need mkfs.ext4 e2fsprogs   # file systems to fill, and to cut the power of
    need mkfs.xfs xfsprogs
fi
[ -z "$missing" ] && exit 0

if [ "$(id -u)" != 0 ]; then
    echo "The tests need these packages:$missing" >&2
    echo "Install them (sudo apt-get install$missing), or run this as root." >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# The tests start what they need; installing a package must not start its service.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
echo "slapd slapd/no_configuration boolean true" | debconf-set-selections
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
