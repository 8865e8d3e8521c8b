# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The shell scripts that ``deploy`` runs on a board: POSIX sh and no tool that BusyBox lacks.

$1 is edgeopt's folder there. What a script tells are lines that begin with a word of its own, so
that a login shell which greets does not disturb. Files are made so that all may read them and only
their owner write them.
"""

from __future__ import annotations

STALE_MINUTES = 60  # of a part file, from when on it is a dead session's

# Who uses the folder: in-use/WHAT-PID-START-BOOT. A process id comes again, with its start time
# (field 22 of /proc/PID/stat) and the boot it does not, so a dead process's entry is never taken
# for a living one's, whatever the clock says. cat is a program of its own: under QEMU a process
# that reads its own stat is told another start time.
IN_USE = """
boot=$(cat /proc/sys/kernel/random/boot_id 2> /dev/null)
identity() {
  stat=$(cat "/proc/$1/stat" 2> /dev/null) || return 1
  set -- "$1" ${stat##*) }
  echo "$1-${21}-$boot"
}
others() {
  for entry in in-use/"$1"-*; do
    rest=${entry#in-use/"$1"-}
    [ "$rest" != "$mine" ] && [ -e "$entry" ] || continue
    [ "$rest" != "$(identity "${rest%%-*}")" ] || return 0
    rm -f "$entry"
  done
  return 1
}
begin() {
  mine=$(identity $$)
  entered=in-use/$1-$mine
  children=
  trap 'rm -f "$entered"; [ -z "$children" ] || kill $children 2> /dev/null' EXIT
  trap 'exit 1' HUP INT TERM PIPE
  touch "$entered" 2> /dev/null
}
"""

# $1 the folder. Tells "edgeopt ready" once nobody cleans there, and stays until stdin ends or
# its reader is gone, which sshd notices by what is written.
# Each side enters itself first and then looks for the other, so at least one sees the other. What
# dead sessions left goes if no other one lives.
HOLD = (
    IN_USE
    + """
umask 022
told=$(mkdir -p "$1/store" "$1/bundles" "$1/in-use" 2>&1) || { echo "edgeopt refused $told"; exit; }
cd "$1" || exit 1
noexec=
[ -w store ] || { echo "edgeopt refused $1 is read-only"; exit; }
try=in-use/try-$$
printf '#!/bin/sh\\n' > "$try" && chmod 700 "$try" && "$try" 2> /dev/null
[ $? -ne 126 ] || noexec=yes
rm -f "$try"
[ -z "$noexec" ] || { echo "edgeopt noexec"; exit; }
begin deploy
exec 4<&0
{ while read -r beat; do :; done; kill $$; } <&4 > /dev/null 2>&1 &
reader=$!
children=$reader
waited=0
while others clean; do
  waited=$((waited + 1))
  [ $waited -lt 60 ] || { echo "edgeopt busy"; exit; }
  sleep 1
done
others deploy || {
  find store bundles -name '*.part-*' -prune -exec rm -rf {} + 2> /dev/null
  rm -rf bundles/.new-* bundles/.gone-* in-use/try-* .point-* operators-*
}
echo "edgeopt ready"
while echo; do
  sleep 10 > /dev/null 2>&1 &
  children="$reader $!"
  wait $!
done
"""
)

# $1 the folder, $2 the bundle; stdin: "hash name" lines. Tells what is free, each file of the store
# with its size, whether the bundle is there, and each name in it that is no link to its file. No
# program is started per line.
MISSING = f"""
umask 022
mkdir -p "$1/store" "$1/bundles" && cd "$1/store" || exit 1
find . -name '*.part-*' -mmin +{STALE_MINUTES} -prune -exec rm -rf {{}} + 2> /dev/null
echo "free $(df -P -k . | awk 'END {{ print $4 }}')"
ls -ln | awk '/^-/ {{ print "have", $5, $NF }}'
[ ! -d "../bundles/$2" ] || echo "whole $2"
while read -r hash name; do
  [ "../bundles/$2/$name" -ef "$hash" ] || echo "name $name"
done
"""

# $1 a new folder in the store; stdin: a tar of files named by their hash. Each appears in the store
# once all have arrived and their hashes were checked.
RECEIVE_MANY = """
umask 022
trap 'cd / && rm -rf "$1"' EXIT
trap 'exit 1' HUP INT TERM PIPE
mkdir "$1" && cd "$1" && tar -x -f - || exit 70
for f in *; do echo "$f  $f"; done | LC_ALL=C sha256sum -c - > .sums 2>&1 ||
  { grep -v ': OK$' .sums >&2; exit 71; }
touch -- *
{ sync * 2> /dev/null || sync; } && mv -f * ..
"""

# Links files of the store into the working directory; $1 the folder, stdin: "hash name" lines. Each
# name leads to its old file or to the new one, never to none. For a disk without hard links there
# are symbolic ones.
LINK = """
link() {
  while read -r hash name; do
    [ -f "$1/store/$hash" ] || { echo "$name did not arrive" >&2; return 1; }
    new=./.part-$$
    case "$name" in */*) mkdir -p "./${name%/*}" && new="./${name%/*}/.part-$$" || return 1;; esac
    ln "$1/store/$hash" "$new" 2> /dev/null || ln -s "$1/store/$hash" "$new" || return 1
    # It is the very file if somebody else has just linked it: mv refuses that.
    [ "$new" -ef "./$name" ] || mv -f "$new" "./$name" ||
      [ "$new" -ef "./$name" ] || return 1
    rm -f "$new"
  done
}
"""

# $1 the folder, $2 a new bundle's name for now, $3 its name; it is there whole or not at all.
# Somebody else may have made the same one. The BusyBox of before 2021 has no mv -T.
PLACE = """
umask 022
cd "$1" || exit 1
trap 'cd "$1" && rm -rf "bundles/$2"' EXIT
trap 'exit 1' HUP INT TERM PIPE
place() {
  mv -T "bundles/$2" "bundles/$3" 2> /dev/null && return
  [ -d "bundles/$3" ] || mv "bundles/$2" "bundles/$3"
  rm -rf "bundles/$3/$2"
  [ -d "bundles/$3" ]
}
"""

# stdin: a tar of hard links into the store, and of the list of them. One program makes them all.
BUILD = PLACE + 'tar -x -f - && place "$@"'

# stdin: "hash name" lines. For a disk or a tar that cannot do those.
BUILD_EACH = (
    PLACE
    + LINK
    + """
rm -rf "bundles/$2"
mkdir "bundles/$2" && cd "bundles/$2" && cat > .files && link "$1" < .files && cd "$1" && place "$@"
"""
)

# $1 the folder, $2 the bundle; stdin: "hash name" lines of names that lead elsewhere.
RELINK = f'{LINK}\ncd "$1/bundles/$2" && link "$1"'

# $1 the folder, $2 a hash, $3 the same file again, in the store. Takes the place of the damaged
# one in all bundles and then in the store, so that what is cut is seen and done again.
HEAL = """
cd "$1" || exit 1
find bundles -type f | while IFS= read -r name; do
  [ "$name" -ef "store/$2" ] || continue
  part=${name%/*}/.part-$$
  ln "store/$3" "$part" || exit 1
  mv -f "$part" "$name" || [ "$part" -ef "$name" ] || exit 1
  rm -f "$part"
done && mv -f "store/$3" "store/$2"
"""

# $1 the folder, $2 the bundle; stdin: "hash  name" lines. Tells "name: OK" for each that is right.
HASHES = 'cd "$1/bundles/$2" && LC_ALL=C sha256sum -c - 2> /dev/null; exit 0'

# $1 the folder, $2 the name. Tells which bundle is the current one, and its files.
CURRENT = """
cd "$1" && [ -f "current-$2/.files" ] || exit 0
current=$(readlink "current-$2")
echo "current ${current#bundles/}"
while read -r hash name; do
  [ "current-$2/$name" -ef "store/$hash" ] && echo "held $hash $name" || echo broken
done < "current-$2/.files"
"""

# $1 the folder, $2 the name, $3 the bundle. mv -T replaces a link to a directory in one step; the
# BusyBox of before 2021 has no -T.
ACTIVATE = """
cd "$1" || exit 1
point() {
  ln -sfn "$1" .point-$$ && mv -f -T .point-$$ "$2" 2> /dev/null && return
  rm -f .point-$$; ln -sfn "$1" "$2"
}
[ -f "bundles/$3/.files" ] || { echo "bundles/$3 is not there" >&2; exit 1; }
[ -L "current-$2" ] || [ ! -e "current-$2" ] || { echo "current-$2 is not a link" >&2; exit 1; }
old=$(readlink "current-$2")
[ "$old" = "bundles/$3" ] && exit 0
sync
[ -n "$old" ] && [ -d "$old" ] || old=
[ -z "$old" ] || point "$old" "previous-$2" || exit 1
point "bundles/$3" "current-$2" || exit 1
[ -f "current-$2/.files" ] && exit 0
[ -z "$old" ] || point "$old" "current-$2"
echo "bundles/$3 was removed meanwhile" >&2
exit 1
"""

# $1 the folder, then digests of bundles, or none for all. Those that no link names go, with the
# files that no other bundle has; of all, also files that never came into one. Tells what went, or
# that the folder is in use.
REMOVE = (
    IN_USE
    + f"""
cd "$1" 2> /dev/null && [ -d bundles ] || exit 0
shift
umask 022
mkdir -p in-use 2> /dev/null
begin clean
if others deploy || others clean; then echo busy; exit; fi
gone=
[ $# -gt 0 ] || {{ set -- ""; gone=$(find store -type f -mmin +{STALE_MINUTES}); }}
linked() {{
  for link in current-* previous-*; do [ "$link" -ef "$1" ] && return; done
  return 1
}}
for digest; do
  for bundle in bundles/"$digest"*; do
    [ -d "$bundle" ] && ! linked "$bundle" || continue
    gone="$gone $(find "$bundle" ! -type d | while IFS= read -r name; do
      for file in store/*; do [ "$name" -ef "$file" ] && echo "$file"; done
    done)"
    mv "$bundle" bundles/.gone-$$ && rm -rf bundles/.gone-$$ || exit 1
    echo "bundle ${{bundle#bundles/}}"
  done
done
names=$(find bundles ! -type d)
for file in $gone; do
  [ -f "$file" ] || continue
  echo "$names" | while IFS= read -r name; do [ "$name" -ef "$file" ] && exit 3; done
  [ $? -ne 3 ] || continue
  echo "freed $(du -k "$file")" && rm -f "$file" || exit 1
done
"""
)
