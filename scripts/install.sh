#!/bin/sh
# Installs wegent-executor for this user into ${WEGENT_EXECUTOR_HOME:-~/.wegent-executor}/bin.
#
#   sh install.sh --from wegent-executor              and wegent-executor.sha256 beside it
#   sh install.sh --from https://…/wegent-executor    and …/wegent-executor.sha256
#   sh install.sh --from … --sha256 <64 hex digits>   no file beside it is needed
#
# What --from names is the program, or a .tar.gz of the folder that `build_local.py --onedir`
# makes. Nothing is installed that does not have its checksum or does not run here. A config.env
# that is there stays as it is; otherwise one is made, with everything in it commented out.
# --no-path leaves the shell's start-up file alone. Exit status: 0, 1 failed, 2 wrong arguments.
set -eu
umask 077

NAME=wegent-executor

say() { printf '%s\n' "$*"; }

fail() {
  printf 'install.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

# All that runs is called in the last line: a script that arrived only in part does nothing.
main() {
  from='' sha256='' path=yes
  while [ $# -gt 0 ]; do
    case $1 in
      --from) from=${2:-} ;;
      --sha256) sha256=${2:-} ;;
      --no-path) path=no && shift && continue ;;
      -h | --help) usage && exit 0 ;;
      *) fail "unknown argument: $1 (see --help)" 2 ;;
    esac
    [ -n "${2:-}" ] || fail "$1 needs a value (see --help)" 2
    shift 2
  done
  [ -n "$from" ] || fail "--from <file or address> is missing (see --help)" 2

  [ -n "${HOME:-}" ] || fail "HOME is not set" 2
  home=${WEGENT_EXECUTOR_HOME:-$HOME/.wegent-executor}
  case $home in
    /*) ;;
    *) fail "WEGENT_EXECUTOR_HOME has to be an absolute path" 2 ;;
  esac
  bin=$home/bin
  target=$bin/$NAME

  [ ! -d "$target" ] || fail "$target is a folder: move it away, then try again"
  refuse_while_running
  mkdir -p "$bin"
  # On the target's own file system, so that a rename puts it into its place. After a kill, the
  # next `update` removes what has these names.
  new=$bin/.$NAME.new-$$
  unpacked=$home/versions/.$NAME.new-$$
  trap 'rm -rf "$new" "$new".* "$unpacked"' EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM

  get "$from" "$new"
  verify
  folder='' program=$new
  if gzip -t "$new" 2>/dev/null; then
    unpack
  else
    chmod 700 "$new"
  fi
  version=$(version_of "$program")
  refuse_while_running # which it may be since: a download takes its time
  if [ -n "$folder" ]; then
    link_folder
  fi
  mv -f "$new" "$target"
  say "Installed $version as $target"

  make_config
  if [ "$path" = yes ]; then
    add_to_path
  fi
  if [ -n "${WEGENT_EXECUTOR_HOME:-}" ]; then
    say "It finds this home as long as WEGENT_EXECUTOR_HOME is set to $home"
  fi
  say "Next: fill in $home/config.env, then: $NAME doctor"
}

usage() {
  cat <<END
usage: install.sh --from FILE_OR_ADDRESS [--sha256 HEX] [--no-path]

  --from     the program, or a .tar.gz of its folder; a file or an http(s) address
  --sha256   its checksum; otherwise it is read from FILE_OR_ADDRESS.sha256
  --no-path  leave the shell's start-up file as it is

WEGENT_EXECUTOR_HOME names another folder than ~/.wegent-executor.
END
}

# A running program reads parts of its own file when it needs them: it must not be exchanged.
refuse_while_running() {
  if [ -x "$target" ] && WEGENT_EXECUTOR_HOME=$home "$target" status >/dev/null 2>&1; then
    fail "an executor is running in $home: stop it first, or type: $NAME update --from …"
  fi
}

# get <file or address> <target>
get() {
  case $1 in
    *://*@*) fail "an address with a login shows it to everybody here: download the file first" 2 ;;
    https://*) download "$1" "$2" =https ;;
    http://*)
      case $1 in
        http://localhost[:/]* | http://127.0.0.1[:/]*) ;;
        # Whoever can change the program on its way can change the checksum beside it as well.
        *) [ -n "$sha256" ] || fail "http:// needs --sha256: use https://, or give the checksum" 2 ;;
      esac
      download "$1" "$2" =http,https
      ;;
    *://*) fail "only files and http(s) addresses can be installed" 2 ;;
    *)
      [ ! -d "$1" ] || fail "$1 is a folder: give the .tar.gz that was made of it"
      [ -f "$1" ] || fail "there is no file $1"
      cp -- "$1" "$2"
      ;;
  esac
}

# download <address> <target> <protocols>
download() {
  shown=${1%%\?*}
  if command -v curl >/dev/null; then
    progress=-sS
    [ ! -t 2 ] || progress=--progress-bar
    curl "$progress" --fail --location --proto "$3" --connect-timeout 30 --speed-limit 1 \
      --speed-time 60 --output "$2" -- "$1" || fail "$shown could not be downloaded"
  elif wget --version >/dev/null 2>&1; then # not that of BusyBox, which trusts any certificate
    LC_ALL=C wget -o "$2.log" -t 3 -T 60 -O "$2" -- "$1" ||
      fail "$shown could not be downloaded: $(grep . "$2.log" | tail -n 1)"
    # It cannot be told to stay with https, but tells when it does not.
    if [ "$3" = =https ] && grep -qi '^Location: http://' "$2.log"; then
      fail "$shown leads to an address that is not https://"
    fi
  else
    fail "neither curl nor GNU wget is installed: download the file, then give --from its path"
  fi
}

verify() {
  wanted=$sha256
  if [ -z "$wanted" ]; then
    case $from in
      # What follows a question mark belongs to the address, not to the name.
      *://*\?*) beside=${from%%\?*}.sha256\?${from#*\?} ;;
      *) beside=$from.sha256 ;;
    esac
    (get "$beside" "$new.sha256") ||
      fail "there is no checksum at ${beside%%\?*}: give it with --sha256"
    read -r wanted _ <"$new.sha256" || [ -n "$wanted" ] || fail "the checksum file is empty"
  fi
  wanted=$(printf '%s' "$wanted" | tr 'A-F' 'a-f' | tr -d '\r') # Windows ends its lines with it
  case $wanted in
    *[!0-9a-f]*) fail "what should be a SHA-256 checksum is none" ;;
  esac
  [ ${#wanted} -eq 64 ] || fail "what should be a SHA-256 checksum is none"
  found=$(checksum_of "$new")
  [ "$found" = "$wanted" ] ||
    fail "the checksum does not match, nothing was installed: expected $wanted, found $found"
}

checksum_of() {
  if command -v sha256sum >/dev/null; then
    sha256sum <"$1" | cut -d ' ' -f 1
  elif command -v shasum >/dev/null; then
    shasum -a 256 <"$1" | cut -d ' ' -f 1
  elif command -v openssl >/dev/null; then
    openssl dgst -sha256 -r <"$1" | cut -d ' ' -f 1
  else
    fail "no program that computes SHA-256 is installed (sha256sum, shasum or openssl)"
  fi
}

unpack() {
  mkdir -p "$unpacked"
  # On a full disk tar complains of every single file.
  said=$(tar -xozf "$new" -C "$unpacked" 2>&1) ||
    fail "the archive cannot be unpacked: $(printf '%s\n' "$said" | sed 1q)"
  for program in "$unpacked"/*/"$NAME"; do
    [ -f "$program" ] || fail "the archive does not hold a folder with $NAME in it"
    folder=${program%/*}
  done
}

# The folder goes to versions/<start of its checksum>, and $new becomes a link into it: one rename
# exchanges it, and a version that runs keeps its files. `update` does the same.
link_folder() {
  id=$(printf '%.12s' "$wanted")
  rm -rf "$new"
  # One that is there may be damaged, and is replaced.
  if [ -d "$home/versions/$id" ]; then
    mv "$home/versions/$id" "$unpacked/.replaced"
  fi
  mv "$folder" "$home/versions/$id"
  ln -s "../versions/$id/$NAME" "$new"
}

version_of() {
  answer=$("$1" --version 2>&1) || fail "it does not run on this machine: $answer"
  case $answer in
    "$NAME "*) printf '%s' "$answer" ;;
    *) fail "it is not $NAME" ;;
  esac
}

make_config() {
  config=$home/config.env
  if [ -e "$config" ] || [ -L "$config" ]; then
    say "Left $config as it is"
    return
  fi
  set -C # never over a file that is there
  cat >"$config" <<'END'
# Settings of wegent-executor: KEY=value lines; variables of the environment win over them.
# This file holds secrets: only its owner may read it (chmod 600).

#WEGENT_BACKEND_URL=https://backend.example.com
#WEGENT_AUTH_TOKEN=your-auth-token

# Without a key, your own `claude` login is used.
#ANTHROPIC_API_KEY=your-api-key

# In a network with a proxy, or with a certificate authority of its own.
#HTTPS_PROXY=http://proxy.example.com:3128
#SSL_CERT_FILE=/etc/ssl/certs/company.pem

#LOCAL_MAX_CONCURRENT_TASKS=4
#LOG_LEVEL=INFO
END
  set +C
  say "Made $config"
}

# One line in the start-up file of the user's shell, once.
# shellcheck disable=SC2016  # the variables are for the shell that reads the line
add_to_path() {
  case :${PATH:-}: in
    *:"$bin":*) return ;;
  esac
  case $bin in
    "$HOME/.wegent-executor/bin") folder='"$HOME/.wegent-executor/bin"' ;;
    *) folder=\'$(printf '%s' "$bin" | sed "s/'/'\\\\''/g")\' ;;
  esac
  line="export PATH=$folder:"'"$PATH"'
  case ${SHELL:-} in
    */zsh) file=${ZDOTDIR:-$HOME}/.zshrc ;;
    */fish)
      file=${XDG_CONFIG_HOME:-$HOME/.config}/fish/conf.d/$NAME.fish
      line="fish_add_path $folder"
      ;;
    */bash)
      file=$HOME/.bashrc
      # Terminals of macOS start login shells, which read not .bashrc, but the first of these.
      if [ "$(uname -s)" = Darwin ]; then
        file=$HOME/.bash_profile
        for known in "$file" "$HOME/.bash_login" "$HOME/.profile"; do
          [ ! -f "$known" ] || { file=$known && break; }
        done
      fi
      ;;
    *) file=$HOME/.profile ;;
  esac
  if [ -f "$file" ] && grep -qxF -- "$line" "$file"; then
    return
  fi
  if mkdir -p "${file%/*}" && { end_last_line "$file" && printf '%s\n' "$line" >>"$file"; } 2>/dev/null
  then
    say "Added to $file: $line"
    say "It holds for new shells; for this one, type the same."
  else
    say "$file cannot be written. To find $NAME by its name, type: $line"
  fi
}

end_last_line() {
  if [ -s "$1" ] && [ -n "$(tail -c 1 "$1")" ]; then
    printf '\n' >>"$1"
  fi
}

main "$@"
