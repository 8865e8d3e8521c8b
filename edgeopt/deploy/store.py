# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The files of edgeopt on a board: a store by content, bundles made of links into it.

~/.edgeopt/store/<sha256>               each file once, whatever bundle it is in
~/.edgeopt/bundles/<digest>-<files>/... a bundle's own layout, links into the store
~/.edgeopt/current-<name>               link to the bundle that an app opens
~/.edgeopt/previous-<name>              link to the one before, to go back to
~/.edgeopt/in-use/                      the processes that deploy, measure or clean there now

A bundle's folder is named by all that is in it (the engine's libraries, too), appears whole, and is
never changed; only a file that the disk damaged is replaced, in one step, by the same file again.
Cut at any point, a deploy leaves the old version or the new one.

Everybody there may read the files, only their owner write them: an app may run as another user. Who
wants them private runs ``chmod 700 ~/.edgeopt``; no mode of a folder that exists is changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
import secrets
import tarfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeopt import cache, progress
from edgeopt.architectures import ELF_MACHINES, elf_machine
from edgeopt.boards import scripts
from edgeopt.boards.facts import BoardFacts
from edgeopt.boards.heartbeat import BEAT_S, heartbeat
from edgeopt.boards.transport import Completed, Transport, copy_failed, copy_timeout_s, failed, kib
from edgeopt.errors import BoardError, BusyError, InputError

_TIMEOUT_S = 60
_IN_USE_S = 7 * 24 * 3600.0  # of one session; its process on the board ends with the connection
_SPARE_BYTES = 8 << 20  # left free for logs and the file system's own blocks
_SMALL_BYTES = 1 << 20  # up to this, files go together in one stream
_TRIES = 3  # of a bundle whose files somebody removes under our hands
_NAME_CHARS = 200  # of the 255 that a file's name may have


@dataclass(frozen=True, kw_only=True, slots=True)
class _Upload:
    local: Path
    sha256: str
    size_bytes: int
    mode: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tree:
    """A bundle as it is on the board: ``hashes`` by name, ``uploads`` by hash.

    ``folder`` begins with the bundle's own digest and ends with one of all its files.
    """

    digest: str
    hashes: Mapping[str, str]
    uploads: Mapping[str, _Upload]

    @property
    def listing(self) -> str:
        """A line for each file, as ``sha256sum`` writes them."""
        return _lines(self.hashes)

    @property
    def folder(self) -> str:
        return f"{self.digest}-{hashlib.sha256(self.listing.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Missing:
    """What a tree lacks on the board. ``damaged`` files are in the store with another size; in a
    bundle that is there (``whole``), ``names`` lead to no file or to another."""

    absent: tuple[_Upload, ...]
    damaged: tuple[_Upload, ...]
    whole: bool
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """What went: bundles by the names of their folders, and the disk space that it took."""

    bundles: tuple[str, ...]
    freed_bytes: int


def link_word(name: str) -> str:
    """Return what stands for the bundle name ``name`` in ``current-...``; no two names share one.

    Letters of ASCII, digits, ".", "_" and "-" stay; a name with others, or a very long one, becomes
    what of it can stay, "~", and the start of its SHA-256.
    """
    if re.fullmatch(rf"[A-Za-z0-9._-]{{1,{_NAME_CHARS}}}", name):
        return name
    shown = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:64].strip("-")
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{shown}~{digest[:16]}"


class Store:
    """edgeopt's folder on one board, which is told each ``beat_s`` that the host lives.

    ``upload_ns`` is how long files were sent, so far.
    """

    def __init__(self, transport: Transport, facts: BoardFacts, *, beat_s: float = BEAT_S) -> None:
        self.transport, self.facts, self._beat_s = transport, facts, beat_s
        self.folder = posixpath.join(facts.home, ".edgeopt")
        self.upload_ns = 0

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep others from cleaning the folder while the block runs; several may do so at once.

        Waits for one who cleans, up to a minute. Raises BoardError if the folder cannot be written
        or its disk lets no programs run, and BusyError if somebody cleans it for longer.
        """
        argv = ["sh", "-c", scripts.HOLD, "sh", self.folder]
        with (
            heartbeat(self._beat_s) as stdin,
            contextlib.closing(
                self.transport.lines(argv, stdin=stdin, timeout_s=_IN_USE_S)
            ) as lines,
        ):
            told = next((line[8:] for line in lines if line.startswith("edgeopt ")), "")
            if told.startswith("refused"):
                raise BoardError(
                    f"{self.folder} cannot be written: {told.removeprefix('refused ')}",
                    where=self.transport.name,
                )
            if told == "noexec":
                raise BoardError(
                    f"no program can be run from {self.folder}: its disk is mounted noexec",
                    where=self.transport.name,
                    hint="Mount it with exec, or make ~/.edgeopt a link to a folder elsewhere.",
                )
            if told != "ready":
                raise self._busy("is being cleaned")
            if self._only_one_program():
                progress.note(
                    f"{self.transport.name} runs one program at a time (MaxSessions 1 of its "
                    "sshd), so nobody who cleans it meanwhile is kept off"
                )
                lines.close()
            yield

    def _only_one_program(self) -> bool:
        """Return whether no second program can be started while one runs."""
        try:
            self.transport.run(["true"], timeout_s=_TIMEOUT_S)
        except BoardError:
            return True  # or the link is gone, which whatever comes next tells
        return False

    def push(self, files: Mapping[str, Path], digest: str) -> str:
        """Put ``files`` (name in the bundle -> local file) on this board as a bundle ``digest``.

        Returns the bundle's folder there, which holds these files and no others. What the store has
        already is not sent again, unless its size shows that it is damaged. An executable local
        file is executable there. Raises BoardError, before anything is sent, if a file is built
        for another architecture or the disk is too small.
        """
        tree = self._tree(files, digest)
        self._provide(tree)
        return f"{self.folder}/bundles/{tree.folder}"

    def repair(self, files: Mapping[str, Path], digest: str) -> tuple[str, ...]:
        """Hash on the board what ``push`` put there, send again what was changed, return its names.

        Other bundles that share a changed file have the new one as well.
        """
        tree = self._tree(files, digest)
        changed = self._changed(tree)
        self._heal([tree.uploads[sha256] for sha256 in {tree.hashes[name] for name in changed}])
        if changed:
            self._provide(tree)
        return changed

    def activate(
        self, name: str, files: Mapping[str, Path], digest: str, *, hashed: Collection[str] = ()
    ) -> str:
        """Make the bundle of ``files`` the current one of ``name``, in one step; return the link.

        Call it once these files passed the golden check on this board. Each is hashed there before
        the switch, but for those of the SHA-256s ``hashed``, whose bytes the runtime hashed when it
        opened them there just now. If the bundle before is of the same ``digest`` and differs in no
        file, what it has besides (other engines) stays. The bundle before is kept.
        """
        word = link_word(name)
        tree = self._tree(files, digest)
        for wanted in (self._with_current(tree, word), tree):
            self._provide(wanted)
            changed = self._changed(wanted, hashed)
            ours = {wanted.hashes[n] for n in changed} & wanted.uploads.keys()
            self._heal([wanted.uploads[sha256] for sha256 in ours])
            if changed:
                self._provide(wanted)
                changed = self._changed(wanted, hashed)
            if not changed:
                self._shell(scripts.ACTIVATE, word, wanted.folder)
                return f"{self.folder}/current-{word}"
        raise BoardError(
            f"{changed[0]} is damaged there each time that it was written",
            where=self.transport.name,
            hint="Is the disk (the SD card) failing?",
        )

    def remove(self, digests: Sequence[str] = ()) -> Removed:
        """Remove these bundles, without ``digests`` all, and the files that no other bundle has.

        Bundles that a current or previous link names stay. Raises BusyError, with nothing removed,
        while somebody deploys or measures there.
        """
        for digest in digests:
            _check_word(digest, "bundle digest")
        told = [line.split() for line in self._shell(scripts.REMOVE, *digests).splitlines()]
        if ["busy"] in told:
            raise self._busy("is in use: somebody deploys, measures or cleans there")
        values = [(words[0], words[1]) for words in told if len(words) > 1]
        return Removed(
            bundles=tuple(what for kind, what in values if kind == "bundle"),
            freed_bytes=sum((kib(what) or 0) << 10 for kind, what in values if kind == "freed"),
        )

    def _busy(self, what: str) -> BusyError:
        return BusyError(
            f"{self.folder} {what}",
            where=self.transport.name,
            hint="Run the same command again once that is done.",
        )

    def _tree(self, files: Mapping[str, Path], digest: str) -> _Tree:
        _check_word(digest, "bundle digest")
        uploads = {name: self._upload(name, path) for name, path in files.items()}
        return _Tree(
            digest=digest,
            hashes={name: uploads[name].sha256 for name in sorted(uploads)},
            uploads={upload.sha256: upload for upload in uploads.values()},
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

    def _provide(self, tree: _Tree) -> None:
        """Send what is missing of ``tree``, and make its folder or mend it."""
        for left in reversed(range(_TRIES)):
            missing = self._missing(tree)
            total_bytes = sum(upload.size_bytes for upload in missing.absent)
            if missing.absent:
                with progress.step(f"Uploading {total_bytes / 1e6:.1f} MB") as step:
                    self._send(missing.absent, lambda sent: step.update(sent, total_bytes))  # noqa: B023
            self._heal(missing.damaged)
            names = {name: tree.hashes[name] for name in missing.names}
            if missing.whole and not names:
                return
            if missing.whole:
                done = self._run(scripts.RELINK, tree.folder, stdin=_lines(names).encode())
            else:
                done = self._build(tree)
            if done.exit_status == 0:
                return
            if not left or b"did not arrive" not in done.stderr:
                raise failed(self.transport.name, ["sh"], done.exit_status, done.stderr)

    def _build(self, tree: _Tree) -> Completed:
        new = f".new-{secrets.token_hex(4)}"
        archive = b""
        for name, sha256 in tree.hashes.items():
            entry = tarfile.TarInfo(f"bundles/{new}/{name}")
            entry.type, entry.linkname = tarfile.LNKTYPE, f"store/{sha256}"
            archive += entry.tobuf(tarfile.GNU_FORMAT)
        archive += _tar_file(f"bundles/{new}/.files", tree.listing.encode(), 0o644) + bytes(1024)
        done = self._run(scripts.BUILD, new, tree.folder, stdin=archive)
        if done.exit_status == 0:
            return done
        return self._run(scripts.BUILD_EACH, new, tree.folder, stdin=tree.listing.encode())

    def _heal(self, uploads: Iterable[_Upload]) -> None:
        """Send files again that are damaged in the store, for it and for all bundles."""
        for upload in uploads:
            progress.note(f"{upload.local.name} is damaged on {self.transport.name}: sent again")
            again = f"{upload.sha256}.part-{secrets.token_hex(4)}"
            self.transport.put(upload.local, f"{self.folder}/store/{again}", mode=upload.mode)
            self._shell(scripts.HEAL, upload.sha256, again)

    def _changed(self, tree: _Tree, hashed: Collection[str] = ()) -> tuple[str, ...]:
        """Return the names whose files have another hash on the board, or none.

        Those that are to have one of ``hashed`` are not read.
        """
        wanted = {name: sha256 for name, sha256 in tree.hashes.items() if sha256 not in hashed}
        uploads = [tree.uploads[sha256] for sha256 in {*wanted.values()} & tree.uploads.keys()]
        size_bytes = sum(upload.size_bytes for upload in uploads)
        done = self._run(
            scripts.HASHES,
            tree.folder,
            stdin=_lines(wanted).encode(),
            timeout_s=_TIMEOUT_S + copy_timeout_s(size_bytes),
        )
        right = set(done.stdout.decode(errors="replace").splitlines())
        return tuple(name for name in wanted if f"{name}: OK" not in right)

    def _with_current(self, tree: _Tree, word: str) -> _Tree:
        """Return ``tree`` with what the current bundle has besides, see ``activate``."""
        told = [line.split(" ", 2) for line in self._shell(scripts.CURRENT, word).splitlines()]
        held = {words[2]: words[1] for words in told if words[0] == "held" and len(words) == 3}
        current = next((words[1] for words in told if words[0] == "current" and words[1:]), "")
        if (
            not current.startswith(f"{tree.digest}-")
            or ["broken"] in told
            or any(tree.hashes.get(name, sha256) != sha256 for name, sha256 in held.items())
        ):
            return tree
        hashes = held | dict(tree.hashes)
        return _Tree(
            digest=tree.digest,
            hashes={name: hashes[name] for name in sorted(hashes)},
            uploads=tree.uploads,
        )

    def _send(self, uploads: Sequence[_Upload], tell: Callable[[int], None]) -> None:
        begin_ns = time.monotonic_ns()
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
        self.upload_ns += time.monotonic_ns() - begin_ns

    def _send_together(self, uploads: Sequence[_Upload], tell: Callable[[int], None]) -> None:
        """Send files in one stream; one program start each would cost more than their bytes."""

        def stream() -> Iterator[bytes]:
            sent_bytes = 0
            for upload in uploads:
                yield _tar_file(upload.sha256, upload.local.read_bytes(), upload.mode)
                sent_bytes += upload.size_bytes
                tell(sent_bytes)
            yield bytes(1024)  # the end of a tar

        total_bytes = sum(u.size_bytes for u in uploads)
        folder = f"{self.folder}/store/many.part-{secrets.token_hex(4)}"
        done = self.transport.run(
            ["sh", "-c", scripts.RECEIVE_MANY, "sh", folder],
            stdin=stream(),
            timeout_s=copy_timeout_s(total_bytes),
        )
        if done.exit_status:
            what = f"{len(uploads)} files"
            raise copy_failed(self.transport, what, folder, total_bytes, done.stderr)

    def _missing(self, tree: _Tree) -> _Missing:
        told = [
            line.split(" ", 1)
            for line in self._shell(scripts.MISSING, tree.folder, stdin=tree.listing).splitlines()
        ]
        values = {kind: [w[1] for w in told if len(w) == 2 and w[0] == kind] for kind, *_ in told}
        sizes = [text.split(" ", 1) for text in values.get("have", ()) if " " in text]
        have = {sha256: size for size, sha256 in sizes}
        wanted = tree.uploads.values()
        absent = tuple(u for u in wanted if u.sha256 not in have)
        damaged = tuple(u for u in wanted if have.get(u.sha256) not in (None, str(u.size_bytes)))
        needed_bytes = sum(upload.size_bytes for upload in (*absent, *damaged))
        free_kib = kib(values.get("free", [""])[0])
        free_bytes = self.facts.disk_free_bytes if free_kib is None else free_kib * 1024
        if needed_bytes and needed_bytes + _SPARE_BYTES > free_bytes:
            raise BoardError(
                f"{needed_bytes / 1e6:.1f} MB are to be uploaded, {free_bytes / 1e6:.1f} MB are "
                f"free on the disk of {self.folder}",
                where=self.transport.name,
                hint=f"Free some space there: edgeopt board clean {self.transport.name} removes "
                "the bundles that no app opens.",
            )
        return _Missing(
            absent=absent,
            damaged=damaged,
            whole="whole" in values,
            names=tuple(name for name in values.get("name", ()) if name in tree.hashes),
        )

    def _shell(self, script: str, *arguments: str, stdin: str = "") -> str:
        done = self._run(script, *arguments, stdin=stdin.encode())
        if done.exit_status:
            raise failed(self.transport.name, ["sh"], done.exit_status, done.stderr)
        return done.stdout.decode(errors="replace")

    def _run(
        self, script: str, *arguments: str, stdin: bytes = b"", timeout_s: float = _TIMEOUT_S
    ) -> Completed:
        argv = ["sh", "-c", script, "sh", self.folder, *arguments]
        return self.transport.run(argv, stdin=stdin, timeout_s=timeout_s)


def _lines(hashes: Mapping[str, str]) -> str:
    return "".join(f"{sha256}  {name}\n" for name, sha256 in hashes.items())


def _tar_file(name: str, data: bytes, mode: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    return entry.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def _elf_arch(head: bytes) -> str | None:
    """Return the architecture of an ELF file by its first 20 bytes, None for another file."""
    machine = elf_machine(head)
    return None if machine is None else ELF_MACHINES.get(machine, f"ELF machine {machine}")


def _check_word(text: str, what: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise InputError(f"{text!r} cannot be a {what}: letters, digits, '.', '_', '-' only")
