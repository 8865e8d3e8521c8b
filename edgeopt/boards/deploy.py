"""The files of edgeopt on a board: a store by content, bundles made of links into it.

~/.edgeopt/store/<sha256>          each file once, whatever bundle it is in
~/.edgeopt/bundles/<digest>/...    a bundle's own layout, links into the store
~/.edgeopt/current-<name>          link to the bundle that an app opens
~/.edgeopt/previous-<name>         link to the one before, to go back to
"""

from __future__ import annotations

import posixpath
import re
import secrets
import struct
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.boards.facts import BoardFacts
from edgeopt.boards.transport import Completed, Transport, copy_failed, copy_timeout_s, failed
from edgeopt.errors import BoardError, InputError

_TIMEOUT_S = 60
_SPARE_BYTES = 8 << 20  # left free for logs and the file system's own blocks
_STALE_MINUTES = 60
_SMALL_BYTES = 1 << 20  # up to this, files go together in one stream

# e_machine of <elf.h>
_ELF_ARCH = {40: "armv7", 62: "x86_64", 183: "aarch64"}

# $1 the folder, $2 the bundle; stdin: "hash name" lines. Prints the free KiB, then a line for each
# hash that the store lacks and for each name that the bundle lacks. No program is started per line.
_MISSING = f"""
mkdir -p "$1/store" "$1/bundles/$2" && cd "$1/store" || exit 1
find . -name '*.part-*' -mmin +{_STALE_MINUTES} -prune -exec rm -rf {{}} + 2> /dev/null
df -P -k . | awk 'END {{ print $4 }}'
while read -r hash name; do
  [ -f "$hash" ] || echo "file $hash"
  [ "../bundles/$2/$name" -ef "$hash" ] || echo "name $name"
done
"""

# $1 a new folder in the store; stdin: a tar of files named by their hash. Each appears in the store
# once all have arrived and their hashes were checked.
_RECEIVE_MANY = """
trap 'cd / && rm -rf "$1"' EXIT
trap 'exit 1' HUP INT TERM PIPE
mkdir "$1" && cd "$1" && tar -x -f - || exit 70
for f in *; do echo "$f  $f"; done | sha256sum -c - > .sums 2>&1 ||
  { grep -v ': OK$' .sums >&2; exit 71; }
{ sync * 2> /dev/null || sync; } && mv -f * ..
"""

# $1 the folder; stdin: a tar of hard links into the store. One program makes them all.
_LINK = 'cd "$1" && tar -x -f -'

# $1 the folder, $2 the bundle; stdin: "hash name" lines. For a disk or a tar that cannot do those.
_LINK_EACH = """
cd "$1/bundles/$2" || exit 1
while read -r hash name; do
  [ -f "$1/store/$hash" ] || { echo "$name did not arrive" >&2; exit 1; }
  case "$name" in */*) mkdir -p "${name%/*}" || exit 1;; esac
  ln -f "$1/store/$hash" "$name" 2> /dev/null || ln -sfn "$1/store/$hash" "$name" || exit 1
done
"""

# $1 the folder, $2 the name, $3 the bundle. mv -T replaces a link to a directory in one step; the
# BusyBox of before 2021 has no -T.
_POINT = """
cd "$1" || exit 1
point() {
  ln -s "$1" "$2.new-$$" && mv -f -T "$2.new-$$" "$2" 2> /dev/null && return
  rm -f "$2.new-$$"; ln -sfn "$1" "$2"
}
"""
_ACTIVATE = (
    _POINT
    + """
[ -d "bundles/$3" ] || { echo "bundles/$3 is not there" >&2; exit 1; }
old=$(readlink "current-$2")
[ "$old" = "bundles/$3" ] && exit 0
[ -z "$old" ] || point "$old" "previous-$2" || exit 1
point "bundles/$3" "current-$2"
"""
)

# $1 the folder, then bundles, or none for all. Those that no link names go, with the files that no
# other bundle has; of all, also files that never came into one. Prints a line for each that went.
_REMOVE = f"""
cd "$1" 2> /dev/null && [ -d bundles ] || exit 0
shift
gone=
[ $# -gt 0 ] || {{ set -- $(ls bundles); gone=$(find store -type f -mmin +{_STALE_MINUTES}); }}
linked=" "
for link in current-* previous-*; do [ -L "$link" ] && linked="$linked$(readlink "$link") "; done
for bundle; do
  case "$linked" in *" bundles/$bundle "*) continue;; esac
  [ -d "bundles/$bundle" ] || continue
  gone="$gone $(find "bundles/$bundle" ! -type d | while read -r name; do
    for file in store/*; do [ "$name" -ef "$file" ] && echo "$file"; done
  done)"
  rm -rf "bundles/$bundle" && echo "bundle $bundle" || exit 1
done
names=$(find bundles ! -type d)
for file in $gone; do
  [ -f "$file" ] || continue
  echo "$names" | while read -r name; do [ "$name" -ef "$file" ] && exit 3; done
  [ $? -ne 3 ] || continue
  du -k "$file" && rm -f "$file" || exit 1
done
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Upload:
    local: Path
    sha256: str
    size_bytes: int
    mode: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """What went: bundles by digest, and the disk space that it took."""

    bundles: tuple[str, ...]
    freed_bytes: int


class Store:
    """edgeopt's folder on one board."""

    def __init__(self, transport: Transport, facts: BoardFacts) -> None:
        self.transport, self.facts = transport, facts
        self.folder = posixpath.join(facts.home, ".edgeopt")

    def push(self, files: Mapping[str, Path], digest: str) -> str:
        """Put ``files`` (name in the bundle -> local file) into bundle ``digest`` of this board.

        Returns the bundle's folder there. What the store has already is not sent again; files
        that the bundle has on the board already stay. An executable local file is executable
        there. Raises BoardError, before anything is sent, where a file is built for another
        architecture or the disk is too small.
        """
        _check_word(digest, "bundle digest")
        uploads = {name: self._upload(name, path) for name, path in files.items()}
        missing, names = self._missing(uploads, digest)
        total_bytes = sum(upload.size_bytes for upload in missing)
        if missing:
            with progress.step(f"Uploading {total_bytes / 1e6:.1f} MB") as step:
                self._send(missing, lambda sent_bytes: step.update(sent_bytes, total_bytes))
        if names:
            self._link({name: uploads[name].sha256 for name in names}, digest)
        return f"{self.folder}/bundles/{digest}"

    def activate(self, name: str, digest: str) -> None:
        """Make ``digest`` the current bundle of ``name``, in one step; the one before is kept.

        Call it once the bundle's golden check passed on this board.
        """
        _check_word(name, "bundle name")
        _check_word(digest, "bundle digest")
        self._shell(_ACTIVATE, name, digest)

    def remove(self, digests: Sequence[str] = ()) -> Removed:
        """Remove these bundles, without ``digests`` all, and the files that no other bundle has.

        Bundles that a current or previous link names stay.
        """
        for digest in digests:
            _check_word(digest, "bundle digest")
        told = [line.split() for line in self._shell(_REMOVE, *digests).splitlines()]
        return Removed(
            bundles=tuple(name for kind, name in told if kind == "bundle"),
            freed_bytes=sum(int(kind) << 10 for kind, _ in told if kind != "bundle"),
        )

    def _upload(self, name: str, path: Path) -> _Upload:
        parts = name.split("/")
        if "\n" in name or name != name.strip() or any(p in ("", ".", "..") for p in parts):
            raise InputError(f"{name!r} cannot be a file's name in a bundle")
        try:
            with path.open("rb") as file:
                head = file.read(20)
            status, sha256 = path.stat(), cache.file_sha256(path)
        except OSError as exc:
            raise InputError(f"cannot be read ({exc.strerror})", where=str(path)) from exc
        arch = _elf_arch(head)
        if arch not in (None, self.facts.arch):
            raise BoardError(
                f"{name} is built for {arch}, this board is {self.facts.arch}",
                where=self.transport.name,
                hint="Compile for a target of this board's architecture.",
            )
        mode = 0o755 if status.st_mode & 0o100 else 0o644
        return _Upload(local=path, sha256=sha256, size_bytes=status.st_size, mode=mode)

    def _send(self, uploads: Sequence[_Upload], tell: Callable[[int], None]) -> None:
        small = [u for u in uploads if u.size_bytes <= _SMALL_BYTES]
        sent_bytes = 0
        if small:
            self._send_together(small, tell)
            sent_bytes = sum(u.size_bytes for u in small)
        for upload in uploads:
            if upload.size_bytes > _SMALL_BYTES:
                self.transport.put(
                    upload.local,
                    f"{self.folder}/store/{upload.sha256}",
                    mode=upload.mode,
                    progress=lambda sent, before=sent_bytes: tell(before + sent),  # type: ignore[misc]
                )
                sent_bytes += upload.size_bytes

    def _send_together(self, uploads: Sequence[_Upload], tell: Callable[[int], None]) -> None:
        """Send files in one stream; one program start each would cost more than their bytes."""

        def stream() -> Iterator[bytes]:
            sent_bytes = 0
            for upload in uploads:
                entry = tarfile.TarInfo(upload.sha256)
                entry.size, entry.mode = upload.size_bytes, upload.mode
                data = upload.local.read_bytes()
                yield entry.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)
                sent_bytes += upload.size_bytes
                tell(sent_bytes)
            yield bytes(1024)  # the end of a tar

        total_bytes = sum(u.size_bytes for u in uploads)
        folder = f"{self.folder}/store/many.part-{secrets.token_hex(4)}"
        done = self.transport.run(
            ["sh", "-c", _RECEIVE_MANY, "sh", folder],
            stdin=stream(),
            timeout_s=copy_timeout_s(total_bytes),
        )
        if done.exit_status:
            what = f"{len(uploads)} files"
            raise copy_failed(self.transport, what, folder, total_bytes, done.stderr)

    def _link(self, hashes: Mapping[str, str], digest: str) -> None:
        archive = b""
        for name, sha256 in hashes.items():
            entry = tarfile.TarInfo(f"bundles/{digest}/{name}")
            entry.type, entry.linkname = tarfile.LNKTYPE, f"store/{sha256}"
            archive += entry.tobuf(tarfile.GNU_FORMAT)
        if self._run(_LINK, stdin=archive + bytes(1024)).exit_status:
            lines = "".join(f"{sha256} {name}\n" for name, sha256 in hashes.items())
            self._shell(_LINK_EACH, digest, stdin=lines)

    def _missing(
        self, uploads: Mapping[str, _Upload], digest: str
    ) -> tuple[list[_Upload], list[str]]:
        """Return the files that the store lacks and the names that the bundle lacks."""
        lines = "".join(f"{upload.sha256} {name}\n" for name, upload in uploads.items())
        free, *told = self._shell(_MISSING, digest, stdin=lines).splitlines()
        by_hash = {upload.sha256: upload for upload in uploads.values()}
        hashes = dict.fromkeys(x.removeprefix("file ") for x in told if x.startswith("file "))
        missing = [by_hash[sha256] for sha256 in hashes]
        needed_bytes = sum(upload.size_bytes for upload in missing)
        free_bytes = int(free) * 1024 if free.isdigit() else self.facts.disk_free_bytes
        if missing and needed_bytes + _SPARE_BYTES > free_bytes:
            raise BoardError(
                f"{needed_bytes / 1e6:.1f} MB are to be uploaded, {free_bytes / 1e6:.1f} MB are "
                f"free on the disk of {self.folder}",
                where=self.transport.name,
                hint=f"Free some space there: edgeopt board clean {self.transport.name} removes "
                "the bundles that no app opens.",
            )
        return missing, [x.removeprefix("name ") for x in told if x.startswith("name ")]

    def _shell(self, script: str, *arguments: str, stdin: str = "") -> str:
        done = self._run(script, *arguments, stdin=stdin.encode())
        if done.exit_status:
            raise failed(self.transport.name, ["sh"], done.exit_status, done.stderr)
        return done.stdout.decode(errors="replace")

    def _run(self, script: str, *arguments: str, stdin: bytes = b"") -> Completed:
        argv = ["sh", "-c", script, "sh", self.folder, *arguments]
        return self.transport.run(argv, stdin=stdin, timeout_s=_TIMEOUT_S)


def _elf_arch(head: bytes) -> str | None:
    """Return the architecture of an ELF file by its first 20 bytes, None for another file."""
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return None
    (machine,) = struct.unpack("<H", head[18:20])
    return _ELF_ARCH.get(machine, f"ELF machine {machine}")


def _check_word(text: str, what: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise InputError(f"{text!r} cannot be a {what}: letters, digits, '.', '_', '-' only")
