"""What is run inside of guests, as POSIX shell: with nothing but busybox, too, and as often as needed."""

from typing import Final

_PATH: Final = "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nset -eu\n"

# Prints root and the user that images name for their owner: cloud-init's default user, else the first person.
FIND_USERS: Final = (
    _PATH
    + r"""
default=$(cat /etc/cloud/cloud.cfg /etc/cloud/cloud.cfg.d/*.cfg 2> /dev/null |
  awk '/^[ \t]*default_user:/ { seen = 1; next } seen && /^[ \t]*name:/ { print $2; seen = 0 }' |
  tr -d "\"'" | tail -n 1)
[ -n "$default" ] && grep -q "^$default:" /etc/passwd ||
  default=$(awk -F: '$3 >= 1000 && $3 < 60000 && $7 !~ /(nologin|false)$/ { print $1; exit }' /etc/passwd)
echo root
[ -z "$default" ] || echo "$default"
"""
)

# Arguments: "add" or "remove", then users; standard input: keys, one a line. A key goes whatever its comment is.
CHANGE_KEYS: Final = (
    _PATH
    + r"""
action=$1
shift
umask 077
keys=$(mktemp)
trap 'rm -f "$keys"' EXIT
cat > "$keys"
for user in "$@"; do
  entry=$(grep "^$user:" /etc/passwd || getent passwd "$user") || continue
  owner=$(echo "$entry" | cut -d: -f3,4)
  home=$(echo "$entry" | cut -d: -f6)
  [ -d "$home" ] || continue
  directory=$(cd -P "$home" && pwd -P)/.ssh
  [ "$action" = add ] || [ -e "$directory/authorized_keys" ] || continue
  # Whoever owns the home can swap what is in it at any moment, and must not make root read or write elsewhere: names
  # are relied on only inside a directory of root's own.
  (
    refuse() {
      echo "$directory: $1" >&2
      exit 1
    }
    is_new=no
    [ -e "$directory" ] || { mkdir "$directory" && is_new=yes; }
    cd -P "$directory"
    [ "$(pwd -P)" = "$directory" ] || refuse "a link is not followed"
    [ $is_new = no ] || chown "$owner" .
    private=$(mktemp -d .nodewright-XXXXXX)
    cd -P "$private"
    mine=$(ls -dln . | awk '{ print $3 }')
    [ "$(pwd -P)" = "$directory/$private" ] && [ "$mine" = "$(id -u)" ] || refuse "changed meanwhile"
    trap 'rm -f old new; cd ..; rmdir "$private"' EXIT
    if ln ../authorized_keys old 2> /dev/null; then
      [ -f old ] && [ ! -L old ] || refuse "authorized_keys: a link is not followed"
      ls -ln old | awk -v owner="${owner%%:*}" '{ exit !($3 == owner || substr($1, 8, 1) == "r") }' ||
        refuse "authorized_keys: a file of somebody else"
    else
      [ ! -e ../authorized_keys ] && [ ! -L ../authorized_keys ] || refuse "authorized_keys cannot be read"
      : > old
    fi
    awk -v action="$action" '
      NR == FNR { if (NF) { key[$2] = $0; order[++count] = $2 }; next }
      /^[ \t]*#/ { print; next }
      { for (i = 1; i <= NF; i++) if ($i in key) { seen[$i] = 1; if (action == "remove") next }; print }
      END { if (action == "add") for (i = 1; i <= count; i++) if (!(order[i] in seen)) print key[order[i]] }
    ' "$keys" old > new
    chown "$owner" new
    # Never into a directory that has come in its place; an old busybox knows no -T.
    mv -fT new ../authorized_keys 2> /dev/null || { [ ! -d ../authorized_keys ] && mv -f new ../authorized_keys; }
  )
  ! command -v restorecon > /dev/null || restorecon -F "$directory" "$directory/authorized_keys" || true
done
"""
)

# Argument: "yes", "no", or "" for what the guest does by itself. 3: there is no OpenSSH server to be told.
SET_PASSWORD_AUTH: Final = (
    _PATH
    + r"""
wanted=$1
umask 022
directory=/etc/ssh/sshd_config.d
# Before cloud-init's own: of several values the first one counts.
file=$directory/00-nodewright.conf
reload() {
  for unit in ssh sshd; do
    ! systemctl reload "$unit" > /dev/null 2>&1 || return 0
  done
  for pid in $(cat /run/sshd.pid /var/run/sshd.pid 2> /dev/null); do
    ! kill -HUP "$pid" 2> /dev/null || return 0
  done
  ! pidof sshd > /dev/null 2>&1 || echo "sshd could not be told: it goes by its old configuration" >&2
}
if [ -z "$wanted" ]; then
  [ -e "$file" ] || exit 0
  rm -f "$file"
  reload
  exit 0
fi
command -v sshd > /dev/null || { echo "the guest has no OpenSSH server" >&2; exit 3; }
mkdir -p "$directory"
old=$(mktemp)
trap 'rm -f "$old"' EXIT
had=no
[ ! -e "$file" ] || { had=yes; cat "$file" > "$old"; }
restore() {
  if [ $had = yes ]; then cat "$old" > "$file"; else rm -f "$file"; fi
}
{
  echo "# Kept by Nodewright: it goes with the instance's last SSH key binding."
  echo "PasswordAuthentication $wanted"
  # Passwords may be asked for in this way, too.
  [ "$wanted" = yes ] || echo "ChallengeResponseAuthentication no"
} > "$file.new"
mv -f "$file.new" "$file"
mkdir -p /run/sshd
if ! sshd -t >&2; then
  restore
  exit 1
fi
effective=$(sshd -T 2> /dev/null | awk 'tolower($1) == "passwordauthentication" { print tolower($2); exit }')
if [ "$effective" != "$wanted" ]; then
  restore
  echo "sshd goes by another setting: PasswordAuthentication is ${effective:-unknown} all the same" >&2
  exit 4
fi
reload
"""
)

# Argument: the host name.
SET_HOST_NAME: Final = (
    _PATH
    + r"""
name=$1
if ! hostnamectl set-hostname "$name" > /dev/null 2>&1; then
  echo "$name" > /etc/hostname
  hostname "$name"
fi
if grep -q '^127\.0\.1\.1[[:space:]]' /etc/hosts 2> /dev/null; then
  new=$(mktemp)
  sed "s/^127\.0\.1\.1[[:space:]].*/127.0.1.1 $name/" /etc/hosts > "$new"
  cat "$new" > /etc/hosts
  rm -f "$new"
fi
[ "$(uname -n)" = "$name" ] || { echo "the host name is still $(uname -n)" >&2; exit 1; }
"""
)
