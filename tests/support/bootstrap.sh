#!/bin/sh
# Makes .venv: the pinned development dependencies, and this package as an editable install.
# Needs Python 3.11 or newer and nothing else; where Debian's python3-venv is missing, pip comes from a Debian
# package that is unpacked, not installed. Done again only when what it depends on has changed.
set -eu
cd "$(dirname "$0")/../.."
venv=.venv

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "$@"
    exit 1
}

scratch=
child=
tidy() {
    [ -z "$child" ] || kill "$child" 2>/dev/null || true
    [ -z "$scratch" ] || rm -rf "$scratch"
}
trap tidy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# run WHAT COMMAND...: a line for what it does, one more every 15 seconds, and its output only when it fails.
run() {
    what=$1
    shift
    say "$what"
    "$@" >"$scratch/log" 2>&1 &
    child=$!
    seconds=0
    while kill -0 "$child" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        if [ $((seconds % 15)) -eq 0 ]; then
            say "  $seconds s: $(tail -n 1 "$scratch/log" | cut -c 1-100)"
        fi
    done
    finished=$child
    child=
    wait "$finished" || {
        tail -n 20 "$scratch/log" >&2
        return 1
    }
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed, and python3 is $(python3 --version 2>/dev/null || echo missing)." \
        "Install one, or name it: PYTHON=/path/to/python3 make"
}

# Prints the path of a pip wheel.
find_pip() {
    for wheel in /usr/share/python-wheels/pip-*.whl; do
        if [ -e "$wheel" ]; then
            printf '%s\n' "$wheel"
            return
        fi
    done
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        fail "$python has no ensurepip, and without apt-get there is no Debian package to take pip from." \
            "Install pip and venv for this Python, or name another one: PYTHON=/path/to/python3 make"
    fi
    mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/download"
    # Folders of our own: no root needed. Root's apt would drop to a user that may not enter them.
    own="-q -o Dir::Cache=$scratch/cache"
    [ "$(id -u)" -ne 0 ] || own="$own -o APT::Sandbox::User=root"
    lists="-o Dir::State::lists=$scratch/lists"
    # The options are words without blanks.
    # shellcheck disable=SC2086
    (
        cd "$scratch/download"
        say "Getting pip from the Debian package python3-pip-whl (unpacked, not installed)"
        apt-get $own download python3-pip-whl >"$scratch/apt" 2>&1 || {
            run "  fetching package lists first, into a folder of our own" apt-get $own $lists update ||
                say "  not all of them could be fetched; going on"
            apt-get $own $lists download python3-pip-whl >"$scratch/apt" 2>&1 || {
                tail -n 20 "$scratch/apt" >&2
                fail "Without pip there is no way on: install python3-venv, or let apt-get reach its sources."
            }
        }
        dpkg-deb -x python3-pip-whl_*.deb unpacked
    )
    for wheel in "$scratch"/download/unpacked/usr/share/python-wheels/pip-*.whl; do
        printf '%s\n' "$wheel"
    done
}

command -v make >/dev/null || say "make is missing; everything else here needs it: apt-get install make"
python=$(find_python)
state="$(cat requirements-dev.lock pyproject.toml "$0" | cksum) $("$python" --version)"
if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/complete" 2>/dev/null)" = "$state" ]; then
    exit 0
fi
scratch=$(mktemp -d)
rm -f "$venv/complete"
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    if "$python" -c 'import ensurepip; ensurepip.version()' 2>/dev/null; then
        run "Making $venv with $("$python" --version)" "$python" -m venv --clear "$venv"
    else
        run "Making $venv with $("$python" --version), which has no pip" \
            "$python" -m venv --clear --without-pip "$venv"
        wheel=$(find_pip)
        run "Installing pip from $(basename "$wheel")" "$venv/bin/python" "$wheel/pip" install --no-index "$wheel"
    fi
fi
pip="$venv/bin/python -m pip --disable-pip-version-check --no-input --no-color install --progress-bar off"
count=$(grep -c '==' requirements-dev.lock)
# shellcheck disable=SC2086
run "Installing the $count pinned packages of requirements-dev.lock" $pip --require-hashes -r requirements-dev.lock
# shellcheck disable=SC2086
run "Installing this package" $pip --no-deps --no-build-isolation -e .
printf '%s\n' "$state" >"$venv/complete"
say "$venv is complete"
