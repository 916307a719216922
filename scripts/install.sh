#!/bin/sh
# Installs a release of flow-uring for one user: the program, its man page and its completions. Needs no root.
# sh install.sh --help says how.
#
# What it gets is held against SHA256SUMS of the release before any of it runs or is put in place.
set -eu

# Where the project's releases are; scripts/release --url writes it in here.
RELEASES=${FLOW_URING_RELEASES:-}

say() { printf '%s\n' "$*"; }
fail() {
  printf 'install.sh: %s\n' "$*" >&2
  exit 1
}

main() {
  version=
  prefix=
  from=$RELEASES
  while [ $# -gt 0 ]; do
    case $1 in
      --version | --prefix | --from)
        [ -n "${2:-}" ] || fail "$1 needs a value"
        case $1 in
          --version)
            version=${2#v}
            case $version in *[!0-9A-Za-z.+-]*) fail "$2 is no version" ;; esac
            ;;
          --prefix) prefix=$2 ;;
          --from) from=$2 ;;
        esac
        shift 2
        ;;
      -h | --help)
        usage
        return
        ;;
      *) fail "unknown argument $1 (--help lists all)" ;;
    esac
  done

  from=${from%/}
  prefix=${prefix:-${HOME:?install.sh: HOME is not set, so name a folder by --prefix}/.local}
  [ "$(uname -s)" = Linux ] || fail "flow-uring runs on Linux only; elsewhere take the container (docs/install.md)"
  machine=$(uname -m)
  [ -n "$from" ] || fail "say where the releases are: --from FOLDER-OR-URL, or FLOW_URING_RELEASES"
  for tool in tar gzip sha256sum sort; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
  done

  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM

  get SHA256SUMS
  archive=$(newest "$version" "$machine")
  [ -n "$archive" ] || fail "the release has nothing for $machine${version:+ of version $version}: build it with cargo install --path ."
  get "$archive"
  (cd "$work" && sum_of "$archive" | sha256sum -c - >/dev/null 2>&1) ||
    fail "$archive is not what SHA256SUMS of the release says: nothing was installed"
  tar -xzf "$work/$archive" -C "$work"
  release=$work/${archive%.tar.gz}
  program=$prefix/bin/flow-uring
  [ ! -d "$program" ] || fail "$program is a folder: nothing was installed"

  named=$("$release/flow-uring" --version) ||
    fail "the program does not run on this machine, or not from $work (if that is mounted noexec, set TMPDIR): nothing was installed"

  # The program last; one that runs is replaced, not written into.
  new=$prefix/bin/.flow-uring.new
  trap 'rm -rf "$work" "$new"' EXIT
  place "$release/flow-uring.1" "$prefix/share/man/man1/flow-uring.1"
  place "$release/completions/flow-uring.bash" "$prefix/share/bash-completion/completions/flow-uring"
  place "$release/completions/_flow-uring" "$prefix/share/zsh/site-functions/_flow-uring"
  place "$release/completions/flow-uring.fish" "$prefix/share/fish/vendor_completions.d/flow-uring.fish"
  place "$release/flow-uring" "$new"
  chmod 755 "$new"
  mv -f "$new" "$program"

  say "$named is installed: $program"
  case :$PATH: in
    *":$prefix/bin:"*) command=flow-uring ;;
    *)
      command=$program
      say "$prefix/bin is not in PATH yet."
      ;;
  esac
  say "Try it without an account:   $command demo"
  say "Begin with your credentials: $command init"
}

# The archive of SHA256SUMS for this machine ($2) and version ($1), or of the newest version where that is empty.
newest() {
  while read -r _ name; do
    case $name in
      flow-uring-"$1-$2"-linux.tar.gz) [ -z "$1" ] || printf '%s\n' "$name" ;;
      */*) ;;
      flow-uring-[0-9]*-"$2"-linux.tar.gz) [ -n "$1" ] || printf '%s\n' "$name" ;;
    esac
  done <"$work/SHA256SUMS" | sort -V | tail -n 1
}

# The line of SHA256SUMS about a file.
sum_of() {
  while read -r sum name; do
    if [ "$name" = "$1" ]; then printf '%s  %s\n' "$sum" "$name"; fi
  done <"$work/SHA256SUMS"
}

# Gets a file of the release into the work folder.
get() {
  if [ -d "$from" ]; then
    cp "$from/$1" "$work/$1" 2>/dev/null || fail "$from has no $1"
    return
  fi
  case $from in
    # Releases of a forge; others have all files in one place.
    */releases)
      if [ -n "$version" ]; then url=$from/download/v$version/$1; else url=$from/latest/download/$1; fi
      ;;
    http://* | https://*) url=$from/$1 ;;
    *) fail "$from is neither a folder nor a URL" ;;
  esac
  if command -v curl >/dev/null; then
    curl --fail --silent --show-error --location --proto-redir =https --retry 3 --output "$work/$1" "$url" || fail "$url cannot be had"
  elif command -v wget >/dev/null; then
    wget -q -O "$work/$1" "$url" || fail "$url cannot be had"
  else
    fail "curl or wget is missing"
  fi
}

place() {
  { mkdir -p "${2%/*}" && cp "$1" "$2"; } || fail "$2 cannot be written, so the program was left as it was"
}

usage() {
  cat <<'USAGE'
Installs a release of flow-uring for one user: the program, its man page and its completions. Needs no root.

  sh install.sh                            the newest release, into ~/.local
  sh install.sh --version 0.1.0            that one
  sh install.sh --prefix /opt/flow-uring   into another folder
  sh install.sh --from FOLDER-OR-URL       from files that are here already, or from another place
USAGE
}

# A script that was cut off on its way does nothing.
main "$@"
