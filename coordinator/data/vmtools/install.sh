#!/bin/sh
# Sets up the QEMU guest agent in a guest of the Debian or of the RHEL family, so that the cloud can shut it down in order, set its
# passwords and SSH keys, and run commands in it; and beside it what tells the cloud its load and memory. Run as root; may be repeated.
#
# Packages come from this disc where it has some for the guest (packages/*.deb, packages/*.rpm), else from the guest's own sources.
set -eu

HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PORT=/dev/virtio-ports/org.qemu.guest_agent.0
PACKAGE=qemu-guest-agent

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

has() {
  command -v "$1" > /dev/null 2>&1
}

# The packages on this disc with that ending, by their paths; perhaps none.
carried() {
  find "$HERE/packages" -name "*.$1" 2> /dev/null | sort
}

install_deb() {
  if [ -n "$(carried deb)" ]; then
    # shellcheck disable=SC2046 # names of packages have no spaces
    dpkg --install $(carried deb) || fail "the packages on this disc are not for this guest"
    return
  fi
  DEBIAN_FRONTEND=noninteractive
  export DEBIAN_FRONTEND
  apt-get install --yes "$PACKAGE" || { apt-get update && apt-get install --yes "$PACKAGE"; }
}

install_rpm() {
  if [ -n "$(carried rpm)" ]; then
    # shellcheck disable=SC2046 # names of packages have no spaces
    rpm --upgrade --replacepkgs $(carried rpm) || fail "the packages on this disc are not for this guest"
  elif has dnf; then
    dnf --assumeyes install "$PACKAGE"
  else
    yum --assumeyes install "$PACKAGE"
  fi
}

# RHEL keeps the agent from what the cloud needs most: running commands, and writing passwords and keys.
allow_commands() {
  if [ -f /etc/sysconfig/qemu-ga ]; then
    sed -i -E 's/^(BLACKLIST_RPC|BLOCK_RPCS|FILTER_RPC_ARGS)=/#&/' /etc/sysconfig/qemu-ga
  fi
  if has setsebool && selinuxenabled 2> /dev/null; then
    for boolean in virt_qemu_ga_run_unconfined virt_qemu_ga_manage_ssh virt_qemu_ga_read_nonsecurity_files; do
      if getsebool "$boolean" > /dev/null 2>&1; then
        setsebool -P "$boolean" on
      fi
    done
  fi
}

# Whoever has no systemd has no figures; all else works without.
install_monitor() {
  has systemctl || return 0
  mkdir -p /usr/libexec /etc/systemd/system
  install_file nodewright-monitor /usr/libexec/nodewright-monitor 755
  install_file nodewright-monitor.service /etc/systemd/system/nodewright-monitor.service 644
  # What comes from a disc has the label of the disc.
  if has restorecon; then
    restorecon /usr/libexec/nodewright-monitor /etc/systemd/system/nodewright-monitor.service || true
  fi
  systemctl daemon-reload
  systemctl enable nodewright-monitor > /dev/null 2>&1
  systemctl restart nodewright-monitor
}

# Whole or not at all, also where the old one runs.
install_file() {
  cp "$HERE/$1" "$2.new"
  chmod "$3" "$2.new"
  mv -f "$2.new" "$2"
}

start() {
  if has systemctl; then
    # Debian's unit is started by the device alone, and has nothing to enable.
    systemctl enable "$PACKAGE" > /dev/null 2>&1 || true
    systemctl restart "$PACKAGE"
  else
    service "$PACKAGE" restart
  fi
}

[ "$(id -u)" = 0 ] || fail "run as root"
[ -e "$PORT" ] || fail "this guest has no channel to its host ($PORT): is it an instance of the cloud, with virtio_console loaded?"
if has apt-get && has dpkg; then
  install_deb
elif has rpm && { has dnf || has yum; }; then
  install_rpm
  allow_commands
else
  fail "neither of the Debian nor of the RHEL family: install $PACKAGE by hand"
fi
start
install_monitor
echo "the guest agent runs"
