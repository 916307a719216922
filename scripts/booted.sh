#!/usr/bin/env bash
# For scripts/units and scripts/packages, which source it: a Debian in a temporary folder with systemd, that lives a life of
# its own under systemd-nspawn, without a network. Whoever sources it has `fail`, and a folder for logs in `work`.
# shellcheck disable=SC2154

readonly DEBIAN=bookworm
readonly PATIENCE_S=120

# Makes one in the folder $1, with these packages besides what all have.
make_debian() {
  local packages=ca-certificates,curl,dbus,procps,systemd,systemd-sysv package
  for package in "${@:2}"; do packages+=,$package; done
  debootstrap --variant=minbase --include="$packages" "$DEBIAN" "$1" >"$work/debootstrap.log" 2>&1 ||
    { tail "$work/debootstrap.log"; fail "debootstrap failed"; }
  echo "127.0.0.1 localhost" >"$1/etc/hosts"
}

# Makes the demo of the program $2 (a path within) the upstream of the Debian in $1, and what comes on stdin its life.
give_life() {
  cat >"$1/etc/systemd/system/upstream.service" <<UNIT
[Service]
ExecStart=$2 --port 8898 demo
UNIT
  cat >"$1/etc/systemd/system/life.service" <<'UNIT'
[Unit]
Wants=upstream.service network-online.target
After=upstream.service multi-user.target

[Service]
Type=oneshot
ExecStart=/usr/local/bin/life
ExecStopPost=/bin/systemctl --no-block poweroff
UNIT
  mkdir -p "$1/etc/systemd/system/default.target.wants"
  ln -s ../life.service "$1/etc/systemd/system/default.target.wants/"
  {
    cat <<'LIFE'
#!/bin/bash
set -euo pipefail
exec >/result 2>&1
trap 'status=$?; [ "$status" -eq 0 ] || journalctl --no-pager --lines 60 --unit "flow-uring*"' EXIT

expect() {
  [ "$2" = "$3" ] || { echo "$1 is $2, not $3"; exit 1; }
  echo "$1: $2"
}

wait_until() {
  for _ in $(seq 100); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  echo "waited in vain for: $*"
  exit 1
}

LIFE
    cat
    echo 'echo "all is well"'
  } >"$1/usr/local/bin/life"
  chmod 755 "$1/usr/local/bin/life"
}

# Boots the one in $1, and shows what its life has said.
live() {
  timeout "$PATIENCE_S" systemd-nspawn --directory "$1" --boot --register=no --keep-unit --private-network \
    --machine="flow-uring-$$" </dev/null >"$work/boot.log" 2>&1 || { tail -n 30 "$work/boot.log"; fail "it did not boot"; }
  [ -e "$1/result" ] || { tail -n 30 "$work/boot.log"; fail "nothing was done"; }
  cat "$1/result"
  tail -n 1 "$1/result" | grep -qx "all is well" || fail "it does not live as it should"
}
