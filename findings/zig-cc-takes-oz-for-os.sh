#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# ziglang 0.17.1: `zig cc -Oz` gives, without a word, the very bytes of `-Os`; clang's own -Oz, which
# `-Xclang -Oz` reaches, is smaller. And `zig cc -c` of several files leaves the object of the first
# alone, where gcc and clang leave one for each. Seen on 2026-11-30:
#   -Oz is -Os: yes; bytes of code with -Xclang -Oz are fewer: yes
#   objects of three files: a.o
#
# Makes a temporary folder and venv, installs the pinned package, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ziglang==0.17.1
mkdir "$folder/work"
cd "$folder/work"
export ZIG_GLOBAL_CACHE_DIR="$folder/zig" ZIG_LOCAL_CACHE_DIR="$folder/zig"

zig() {
  "$folder/venv/bin/python" -m ziglang cc -target aarch64-linux-gnu.2.17 "$@"
}

for name in a b c; do
  {
    echo "int look_${name}(const char *);"
    for i in 1 2 3 4 5 6 7 8; do
      echo "int ${name}_$i(int x, const char *s) { int n = 0;"
      echo "  for (int i = 0; i < x; i++) { n += look_${name}(s + i) / (i + $i); if (n > 99) return look_${name}(s); }"
      echo "  return n * $i + look_${name}(s); }"
    done
  } > "$name.c"
done
for flags in -Os -Oz "-Os -Xclang -Oz"; do
  # shellcheck disable=SC2086  # the words of one variant
  zig $flags -c a.c -o "a${flags// /}.o"
done
same=no
cmp -s a-Os.o a-Oz.o && same=yes
fewer=no
[ "$(stat -c %s a-Os-Xclang-Oz.o)" -lt "$(stat -c %s a-Os.o)" ] && fewer=yes
echo "-Oz is -Os: $same; bytes of code with -Xclang -Oz are fewer: $fewer"
mkdir objects
(cd objects && zig -Os -c ../a.c ../b.c ../c.c)
left=$(ls objects)
echo "objects of three files: $left"
[ "$same $fewer $left" = "yes yes a.o" ]
