#!/bin/sh
# Make .venv in the current folder from requirements.lock, with cratedig itself and a browser.
#
#   sh infra/setup.sh            all of it
#   sh infra/setup.sh python     only print which Python it would take
#   sh infra/setup.sh uv         only make .venv with uv in it
#
# Needs Python 3.11 or newer and the machine's package registries; uses apt where it may, for what
# Debian and Ubuntu leave out of python3. May be run again after being cut off at any point.
set -eu

UV=uv==0.13.9

say() { printf 'setup: %s\n' "$*" >&2; }

stop() {
    say "$*"
    exit 1
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    # Each is tried, not only looked up: pyenv leaves programs that do nothing but complain.
    for each in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if new_enough "$each"; then
            command -v "$each"
            return
        fi
    done
    stop "no Python 3.11 or newer was found: install one (Debian, Ubuntu: apt-get install python3)," \
        "or name one, as in: PYTHON=/path/to/python make setup"
}

# Run a command as root, or fail where that would ask for a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    say "installing $* with apt"
    as_root apt-get -q -o DPkg::Lock::Timeout=120 update >&2 &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -q -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends "$@" >&2
}

make_environment() {
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        # Debian and Ubuntu keep these two in a package of their own, one for each Python.
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        apt_install "$package" ||
            stop "$python lacks the modules venv and ensurepip: as root, run" \
                "\`apt-get install $package\`, then this again"
    fi
    say "creating .venv with $python"
    # --clear: what is there is broken or half made, or it would have been used.
    "$python" -m venv --clear .venv
}

require_uv() {
    if ! .venv/bin/uv --version 2>/dev/null | grep -q "^uv ${UV#uv==}"; then
        .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >&2
        say "installing $UV"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "$UV"
    fi
}

# The lock less torch's CUDA libraries, which the builds of another backend do without.
lock_without_cuda() {
    awk '/^[a-z0-9]/ { skip = /^(nvidia-|cuda-|triton==)/ } !skip' requirements.lock
}

if [ "${1:-}" = python ]; then
    find_python
    exit
fi

if ! { new_enough .venv/bin/python && .venv/bin/python -c 'import venv'; }; then
    make_environment
fi
require_uv
if [ "${1:-}" = uv ]; then
    exit
fi

if [ -n "${UV_TORCH_BACKEND:-}" ]; then
    # Other builds of torch than the registry's are not in the lock, so their hashes are not known.
    say "installing the locked versions, torch for $UV_TORCH_BACKEND, hashes unchecked"
    lock_without_cuda >.venv/requirements.txt
    .venv/bin/uv pip sync --python .venv/bin/python --compile-bytecode --no-verify-hashes \
        .venv/requirements.txt
else
    say "installing requirements.lock"
    .venv/bin/uv pip sync --python .venv/bin/python --compile-bytecode --require-hashes \
        requirements.lock
fi
require_uv # in an environment that uv made, the sync has removed it
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
.venv/bin/python -m infra.chromium
say "done: .venv/bin/cratedig"
