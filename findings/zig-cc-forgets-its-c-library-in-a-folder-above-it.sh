#!/usr/bin/env bash
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

# ziglang 0.17.1: the first static program for musl has zig compile the C library (half a minute), which its cache
# keeps. Run from a folder that holds zig itself, as a project with a virtual environment in it does, the same
# command compiles it again: zig names its own files by the working folder then. Seen on 2026-11-30:
#   C libraries after a build elsewhere: 1, after another there: 1
#   after the same command in the folder above zig: 2
#
# Makes a temporary folder and venv, installs the pinned package, and exits with 1 if it is otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/project/venv"
"$folder/project/venv/bin/pip" install -q ziglang==0.17.1
mkdir "$folder/elsewhere"
export ZIG_GLOBAL_CACHE_DIR="$folder/zig" ZIG_LOCAL_CACHE_DIR="$folder/zig"

build() { # in folder $1 a program that returns $2
  echo "int main(void) { return $2; }" > "$folder/main.c"
  (cd "$1" && "$folder/project/venv/bin/python" -m ziglang cc -target x86_64-linux-musl -static -Os \
    "$folder/main.c" -o "$folder/main")
  find "$folder/zig" -name libc.a | wc -l
}

first=$(build "$folder/elsewhere" 1)
second=$(build "$folder/elsewhere" 2)
echo "C libraries after a build elsewhere: $first, after another there: $second"
above=$(build "$folder/project" 3)
echo "after the same command in the folder above zig: $above"
[ "$first $second $above" = "1 1 2" ]
