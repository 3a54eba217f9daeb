#!/usr/bin/env bash
# Checks what the project needs of the machine: Python 3.11 or newer with venv, and git.
#
# With --install, for the tests, also what Claude Code's sandbox and PyInstaller need on Linux, and
# for root on Debian a Docker engine and the shells that commands are completed in; what is missing is installed where that needs no
# question (Debian, as root).
# Otherwise the command to type is printed and the exit status is 1. Prints the path of the Python
# to use on standard output, everything else on standard error.
set -euo pipefail

install=no
[ "${1:-}" = "--install" ] && install=yes

say() { printf '%s\n' "$*" >&2; }

# The only list of what has to be there besides Python: command and Debian package.
needed_commands="git:git"
if [ "$install" = yes ] && [ "$(uname -s)" = Linux ]; then
  needed_commands="$needed_commands bwrap:bubblewrap socat:socat objcopy:binutils"
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    needed_commands="$needed_commands dockerd:docker.io docker:docker-cli iptables:iptables"
    needed_commands="$needed_commands ip:iproute2 debootstrap:debootstrap zsh:zsh fish:fish"
  fi
fi

# The first Python that is new enough and can do what the arguments, if any, import.
find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c "import sys; sys.version_info < (3, 11) and sys.exit(1); $*" 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

missing=()
if python=$(find_python "import venv, ensurepip"); then
  :
elif python=$(find_python); then
  missing+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
else
  found=$(python3 --version 2>/dev/null) || found="no python3"
  say "Python 3.11 or newer is needed; this machine has ${found}."
  missing+=(python3 python3-venv)
fi
for entry in $needed_commands; do
  command -v "${entry%%:*}" >/dev/null || missing+=("${entry##*:}")
done

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    say "Missing: ${missing[*]} (Debian's names). Install them with this system's package manager,"
    say "for example on macOS: brew install python git"
    exit 1
  fi
  if [ "$install" = no ] || [ "$(id -u)" -ne 0 ]; then
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo "
    say "Missing: ${missing[*]}. Type:"
    say "  ${sudo}apt-get update && ${sudo}apt-get install --yes ${missing[*]}"
    exit 1
  fi
  say "Installing ${missing[*]}"
  apt-get update --quiet >&2
  # Before Debian 13 the command line was a part of docker.io.
  apt-cache show docker-cli >/dev/null 2>&1 || missing=("${missing[@]/#docker-cli/docker.io}")
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends \
    "${missing[@]}" >&2
  python=$(find_python "import venv, ensurepip") || { say "This system's python3 is older than 3.11."; exit 1; }
fi

printf '%s\n' "$python"
