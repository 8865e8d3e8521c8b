# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Run an edgeopt bundle from Python: one file, the standard library, numpy if you use it.

    import edgeopt_rt

    session = edgeopt_rt.open("minilm.edgeopt")
    print(session.run(text="where is the station?").label)

Copy it beside ``libedgeopt_rt.so`` of your device (``edgeopt runtime build``). It keeps to what
Python 3.6 reads. The C library does the work; its header says what every option means.
"""

import array
import collections
import ctypes
import importlib.util
import json
import os
import sys

__all__ = [
    "Artifact",
    "Box",
    "Bundle",
    "Cascade",
    "Comparison",
    "Failure",
    "Generated",
    "Generator",
    "Item",
    "Result",
    "Session",
    "open",
]

ABI_VERSION = 1
LIBRARY = "libedgeopt_rt.so"

INPUT, BUNDLE, ENGINE, MEMORY, FILE, UNSUPPORTED, CANCELLED = 1, 2, 3, 4, 5, 6, 7
"""Codes of a Failure."""

_REPLACED_TRIES = 16

_DTYPES = {1: ("float32", "f", 4), 2: ("int32", "i", 4), 3: ("int64", "q", 8)}

# Where the engines' official wheels keep their C libraries, for a machine that has them installed.
_WHEELS = (
    ("onnxruntime", "capi"),
    ("ai_edge_litert", ""),
    ("openvino", "libs"),
    ("tvm", "lib"),
    ("tvm_ffi", "lib"),
)


class Failure(Exception):
    """What the library could not do. ``code`` is one of INPUT, BUNDLE, ENGINE, ..."""

    def __init__(self, code, where, message):
        """Keep the code, the place and the reason."""
        super().__init__(f"{where}: {message}" if where else message)
        self.code = code
        self.where = where
        self.message = message


Artifact = collections.namedtuple("Artifact", "engine engine_version precision bytes graph")

Comparison = collections.namedtuple("Comparison", "logits scores")
Comparison.__doc__ = """An image with each of some texts: the model's logits, and its scores."""

Generated = collections.namedtuple("Generated", "text tokens end")
Generated.__doc__ = """What a prompt was gone on with: text, tokens (that which ended it among
them), and why it ended: one of ENDS."""

ENDS = ("none", "token", "stop", "length", "context", "cancelled")
"""Why an answer ended: a token that ends a text, one of the stops, max_tokens, a full context, or
a call of cancel."""

EARLY_STOPPING = (None, False, True, "never")
"""When a search with beams ends: as the bundle says, or as generate() of transformers has it."""

_NO_PENALTY = 2.0**-126  # FLT_MIN: a length to this power is 1
_NONE = 2**32 - 1

Box = collections.namedtuple("Box", "x_min y_min x_max y_max")
Box.__doc__ = """A place in an image, in pixels from its upper left corner."""

Item = collections.namedtuple("Item", "label score begin end text box")
Item.__new__.__defaults__ = (None,)  # box
Item.__doc__ = """One finding: a label with its score; for token classification and question
answering also the characters begin..end of the text (or of the context) and what stands there;
for object detection the Box in the image. For semantic segmentation the score is the label's
share of the pixels of the network's own grid."""


class Result(collections.namedtuple("Result", "items vector tokens truncated")):
    """What the model made of one text or image. ``items`` is best first (of a detector as many as
    it looks for: take those with a score that is high enough); ``vector`` is an
    embedding (a numpy array if the program has imported numpy, else array.array), None for
    other tasks."""

    __slots__ = ()

    @property
    def label(self):
        """The best item's label, None if there is none."""
        return self.items[0].label if self.items else None

    @property
    def score(self):
        """The best item's score, None if there is none."""
        return self.items[0].score if self.items else None


class _Failure(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_int32),
        ("where", ctypes.c_char * 256),
        ("message", ctypes.c_char * 1024),
    ]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_uint32),
        ("dims", ctypes.c_int64 * 8),
        ("count", ctypes.c_uint64),
        ("data", ctypes.c_void_p),
    ]


class _Artifact(ctypes.Structure):
    _fields_ = [
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_char_p),
        ("precision", ctypes.c_char_p),
        ("bytes", ctypes.c_uint64),
    ]


class _Option(ctypes.Structure):
    _fields_ = [("key", ctypes.c_char_p), ("value", ctypes.c_char_p)]


class _Options(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", ctypes.c_uint32),
        ("threads", ctypes.c_int32),
        ("engine", ctypes.c_char_p),
        ("precision", ctypes.c_char_p),
        ("libraries", ctypes.c_char_p),
        ("options", ctypes.POINTER(_Option)),
        ("option_count", ctypes.c_uint32),
        ("batch", ctypes.c_uint32),
        ("seq_lens", ctypes.POINTER(ctypes.c_int32)),
        ("seq_len_count", ctypes.c_uint32),
        ("max_text_bytes", ctypes.c_uint32),
        ("max_image_side", ctypes.c_uint32),
        ("cpus", ctypes.c_char_p),
        ("graph", ctypes.c_char_p),
    ]


class _Text(ctypes.Structure):
    _fields_ = [
        ("text", ctypes.c_char_p),
        ("bytes", ctypes.c_size_t),
        ("pair", ctypes.c_char_p),
        ("pair_bytes", ctypes.c_size_t),
    ]


class _Image(ctypes.Structure):
    _fields_ = [
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("rgb", ctypes.c_void_p),
    ]


class _Item(ctypes.Structure):
    _fields_ = [
        ("label", ctypes.c_uint32),
        ("score", ctypes.c_float),
        ("begin", ctypes.c_uint32),
        ("end", ctypes.c_uint32),
    ]


class _Box(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in Box._fields]


class _Result(ctypes.Structure):
    _fields_ = [
        ("items", ctypes.POINTER(_Item)),
        ("item_count", ctypes.c_uint32),
        ("vector", ctypes.POINTER(ctypes.c_float)),
        ("vector_count", ctypes.c_uint32),
        ("tokens", ctypes.c_uint32),
        ("truncated", ctypes.c_uint32),
    ]


class _GeneratorOptions(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", ctypes.c_uint32),
        ("context", ctypes.c_uint32),
        ("max_cache_bytes", ctypes.c_uint64),
        ("session", ctypes.POINTER(_Options)),
        ("beams", ctypes.c_uint64),
    ]


class _Sound(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", ctypes.c_uint32),
        ("rate", ctypes.c_uint32),
        ("samples", ctypes.c_void_p),
        ("count", ctypes.c_uint32),
        ("format", ctypes.c_int32),
        ("start", ctypes.POINTER(ctypes.c_int32)),
        ("start_count", ctypes.c_uint32),
    ]


class _Sampling(ctypes.Structure):
    _fields_ = [
        ("struct_bytes", ctypes.c_uint32),
        ("max_tokens", ctypes.c_uint32),
        ("repetition_penalty", ctypes.c_float),
        ("temperature", ctypes.c_float),
        ("top_k", ctypes.c_uint32),
        ("top_p", ctypes.c_float),
        ("min_p", ctypes.c_float),
        ("stop_count", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("stops", ctypes.POINTER(ctypes.c_char_p)),
        ("length_penalty", ctypes.c_double),
        ("num_beams", ctypes.c_uint32),
        ("early_stopping", ctypes.c_uint32),
        ("no_repeat_ngram_size", ctypes.c_uint32),
        ("min_tokens", ctypes.c_uint32),
    ]


class _Piece(ctypes.Structure):
    _fields_ = [
        ("token", ctypes.c_int32),
        ("end", ctypes.c_int32),
        ("text", ctypes.c_void_p),
        ("bytes", ctypes.c_uint32),
    ]


_FAILURE = ctypes.POINTER(_Failure)
_HANDLE = ctypes.c_void_p
_SINK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Piece))
_SIGNATURES = {
    "eo_version": (ctypes.c_char_p, []),
    "eo_abi_version": (ctypes.c_uint32, []),
    "eo_bundle_open": (
        ctypes.c_int,
        [ctypes.c_char_p, ctypes.POINTER(_HANDLE), _FAILURE],
    ),
    "eo_bundle_close": (None, [_HANDLE]),
    "eo_bundle_name": (ctypes.c_char_p, [_HANDLE]),
    "eo_bundle_task": (ctypes.c_char_p, [_HANDLE]),
    "eo_bundle_digest": (ctypes.c_char_p, [_HANDLE]),
    "eo_bundle_manifest": (ctypes.c_void_p, [_HANDLE, ctypes.POINTER(ctypes.c_size_t)]),
    "eo_bundle_label_count": (ctypes.c_uint32, [_HANDLE]),
    "eo_bundle_label": (ctypes.c_char_p, [_HANDLE, ctypes.c_uint32]),
    "eo_bundle_artifact_count": (ctypes.c_uint32, [_HANDLE]),
    "eo_bundle_artifact": (
        ctypes.c_int,
        [_HANDLE, ctypes.c_uint32, ctypes.POINTER(_Artifact)],
    ),
    "eo_bundle_graph_count": (ctypes.c_uint32, [_HANDLE]),
    "eo_bundle_graph": (ctypes.c_char_p, [_HANDLE, ctypes.c_uint32]),
    "eo_bundle_artifact_graph": (ctypes.c_char_p, [_HANDLE, ctypes.c_uint32]),
    "eo_bundle_compare": (
        ctypes.c_int,
        [
            _HANDLE,
            ctypes.POINTER(ctypes.c_float),
            ctypes.POINTER(ctypes.c_float),
            ctypes.c_uint32,
            ctypes.c_uint32,
            ctypes.POINTER(ctypes.c_float),
            ctypes.POINTER(ctypes.c_float),
            _FAILURE,
        ],
    ),
    "eo_session_open": (
        ctypes.c_int,
        [_HANDLE, ctypes.POINTER(_Options), ctypes.POINTER(_HANDLE), _FAILURE],
    ),
    "eo_session_close": (None, [_HANDLE]),
    "eo_session_engine": (ctypes.c_char_p, [_HANDLE]),
    "eo_session_engine_version": (ctypes.c_char_p, [_HANDLE]),
    "eo_session_graph": (ctypes.c_char_p, [_HANDLE]),
    "eo_session_precision": (ctypes.c_char_p, [_HANDLE]),
    "eo_session_library": (ctypes.c_char_p, [_HANDLE]),
    "eo_session_select": (
        ctypes.c_int,
        [_HANDLE, ctypes.c_uint32, ctypes.c_uint32, _FAILURE],
    ),
    "eo_session_input_count": (ctypes.c_uint32, [_HANDLE]),
    "eo_session_output_count": (ctypes.c_uint32, [_HANDLE]),
    "eo_session_input_name": (ctypes.c_char_p, [_HANDLE, ctypes.c_uint32]),
    "eo_session_output_name": (ctypes.c_char_p, [_HANDLE, ctypes.c_uint32]),
    "eo_session_input": (ctypes.POINTER(_Tensor), [_HANDLE, ctypes.c_uint32]),
    "eo_session_output": (ctypes.POINTER(_Tensor), [_HANDLE, ctypes.c_uint32]),
    "eo_session_run": (ctypes.c_int, [_HANDLE, _FAILURE]),
    "eo_session_run_texts": (
        ctypes.c_int,
        [_HANDLE, ctypes.POINTER(_Text), ctypes.c_uint32, _FAILURE],
    ),
    "eo_session_run_images": (
        ctypes.c_int,
        [_HANDLE, ctypes.POINTER(_Image), ctypes.c_uint32, _FAILURE],
    ),
    "eo_session_result": (ctypes.POINTER(_Result), [_HANDLE, ctypes.c_uint32]),
    "eo_session_boxes": (ctypes.POINTER(_Box), [_HANDLE, ctypes.c_uint32]),
    "eo_session_class_map": (
        ctypes.c_int,
        [
            _HANDLE,
            ctypes.c_uint32,
            ctypes.c_uint32,
            ctypes.c_uint32,
            ctypes.POINTER(ctypes.c_uint16),
            _FAILURE,
        ],
    ),
    "eo_cascade_open": (
        ctypes.c_int,
        [
            ctypes.c_char_p,
            _HANDLE,
            _HANDLE,
            ctypes.POINTER(_Options),
            ctypes.POINTER(_HANDLE),
            _FAILURE,
        ],
    ),
    "eo_cascade_close": (None, [_HANDLE]),
    "eo_cascade_run_texts": (
        ctypes.c_int,
        [_HANDLE, ctypes.POINTER(_Text), ctypes.c_uint32, _FAILURE],
    ),
    "eo_cascade_result": (ctypes.POINTER(_Result), [_HANDLE, ctypes.c_uint32]),
    "eo_cascade_early": (ctypes.c_uint32, [_HANDLE, ctypes.c_uint32]),
    "eo_generator_cache_bytes": (
        ctypes.c_int,
        [_HANDLE, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint64), _FAILURE],
    ),
    "eo_generator_options_bytes": (
        ctypes.c_int,
        [_HANDLE, ctypes.POINTER(_GeneratorOptions), ctypes.POINTER(ctypes.c_uint64), _FAILURE],
    ),
    "eo_generator_open": (
        ctypes.c_int,
        [_HANDLE, ctypes.POINTER(_GeneratorOptions), ctypes.POINTER(_HANDLE), _FAILURE],
    ),
    "eo_generator_close": (None, [_HANDLE]),
    "eo_generator_engine": (ctypes.c_char_p, [_HANDLE]),
    "eo_generator_engine_version": (ctypes.c_char_p, [_HANDLE]),
    "eo_generator_precision": (ctypes.c_char_p, [_HANDLE]),
    "eo_generator_context": (ctypes.c_uint32, [_HANDLE]),
    "eo_generator_prompt": (
        ctypes.c_int,
        [
            _HANDLE,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.POINTER(_Sampling),
            _FAILURE,
        ],
    ),
    "eo_generator_prompt_tokens": (
        ctypes.c_int,
        [
            _HANDLE,
            ctypes.POINTER(ctypes.c_int32),
            ctypes.c_uint32,
            ctypes.POINTER(_Sampling),
            _FAILURE,
        ],
    ),
    "eo_generator_prompt_audio": (
        ctypes.c_int,
        [_HANDLE, ctypes.POINTER(_Sound), ctypes.POINTER(_Sampling), _FAILURE],
    ),
    "eo_generator_next": (ctypes.c_int, [_HANDLE, ctypes.POINTER(_Piece), _FAILURE]),
    "eo_generator_run": (ctypes.c_int, [_HANDLE, _SINK, ctypes.c_void_p, _FAILURE]),
    "eo_generator_cancel": (None, [_HANDLE]),
    "eo_generator_reset": (None, [_HANDLE]),
    "eo_generator_state_bytes": (ctypes.c_size_t, [_HANDLE]),
    "eo_generator_save": (
        ctypes.c_int,
        [_HANDLE, ctypes.c_void_p, ctypes.c_size_t, _FAILURE],
    ),
    "eo_generator_restore": (
        ctypes.c_int,
        [_HANDLE, ctypes.c_char_p, ctypes.c_size_t, _FAILURE],
    ),
    "eo_generator_logits": (
        ctypes.POINTER(ctypes.c_float),
        [_HANDLE, ctypes.POINTER(ctypes.c_uint32)],
    ),
    "eo_generator_tokens": (
        ctypes.POINTER(ctypes.c_int32),
        [_HANDLE, ctypes.POINTER(ctypes.c_uint32)],
    ),
    "eo_generator_reused": (ctypes.c_uint32, [_HANDLE]),
    "eo_image_from_ppm": (
        ctypes.c_int,
        [ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(_Image), _FAILURE],
    ),
}


def _load(path):
    """Return the C library at ``path``, or the one found."""
    installed = _beside(os.path.join("..", "lib", LIBRARY))  # by `edgeopt runtime build`
    places = [os.environ.get("EDGEOPT_RT"), _beside(LIBRARY), installed, LIBRARY]
    places = [path] if path else places
    reasons = []
    for place in places:
        if not place:
            continue
        try:
            library = ctypes.CDLL(place)
        except OSError as exc:
            reasons.append(str(exc))
            continue
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype = result
            function.argtypes = arguments
        found = library.eo_abi_version()
        if found != ABI_VERSION:
            raise Failure(
                UNSUPPORTED,
                place,
                f"ABI version {found}, this file needs {ABI_VERSION}",
            )
        return library
    raise Failure(
        FILE,
        LIBRARY,
        "cannot be loaded ({}); put it beside {} or set EDGEOPT_RT to its path".format(
            "; ".join(reasons), os.path.basename(__file__)
        ),
    )


def _beside(name):
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


def _engine_places(bundles):
    """Return where engines' libraries may be, the user's own choice first."""
    places = [os.environ.get("EDGEOPT_RT_LIBRARIES", "")]
    for bundle in bundles:
        # Libraries in a bundle are edgeopt's own only if it deployed them (discover.c).
        path = os.path.realpath(bundle.path)
        if os.path.dirname(path).endswith("/.edgeopt/bundles"):
            places.append(os.path.join(path, "lib"))
    places.append(_beside(""))
    for package, folder in _WHEELS:
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            continue
        for root in (spec.submodule_search_locations or ()) if spec else ():
            place = os.path.join(root, folder) if folder else root
            places.append(place)
            if package == "tvm_ffi" and os.path.isfile(os.path.join(place, "libtvm_ffi.so")):
                # TVM's runtime needs it loaded if it does not lie beside.
                ctypes.CDLL(os.path.join(place, "libtvm_ffi.so"), ctypes.RTLD_GLOBAL)
    return ":".join(place for place in places if place)


def _bytes(text):
    return text if text is None or isinstance(text, bytes) else os.fsencode(text)


def open(bundle, **options):
    """Return a Session on ``bundle``, the path of its directory or packed file.

    Options: ``graph`` (of a bundle with several: "text" or "image" of a dual encoder),
    ``engine``, ``precision``, ``libraries`` (paths of the engines' libraries, or of
    folders with them, ':' between), ``threads``, ``batch``, ``seq_lens``, ``max_text_bytes``,
    ``max_image_side``, ``cpus``, ``options`` (a dict of the engine's own) and ``library`` (the
    path of libedgeopt_rt.so). Raises Failure.
    """
    library = options.pop("library", None)
    for tries in range(_REPLACED_TRIES):
        opened = Bundle(bundle, library=library)
        try:
            return Session(opened, owns_bundle=True, **options)
        except BaseException as exc:
            opened.close()
            replaced = isinstance(exc, Failure) and exc.code == FILE and opened.is_replaced()
            if not replaced or tries == _REPLACED_TRIES - 1:
                raise


class _Closing:
    """What closes at the end of a ``with`` block."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Bundle(_Closing):
    """An opened bundle; any number of sessions, in any threads, may be opened on it."""

    def __init__(self, path, library=None):
        """Open and check it. Raises Failure."""
        self._library = _load(library)
        self.path = os.fspath(path)
        if os.path.islink(self.path):
            # It may point to the next bundle by the time that a session is opened.
            self.path = os.path.realpath(self.path)
        self._identity = self._now()
        handle, failure = _HANDLE(), _Failure()
        self._check(
            self._library.eo_bundle_open(_bytes(self.path), ctypes.byref(handle), failure), failure
        )
        self._handle = handle
        self.name = self._library.eo_bundle_name(handle).decode()
        self.task = self._library.eo_bundle_task(handle).decode()
        self.digest = self._library.eo_bundle_digest(handle).decode()
        size = ctypes.c_size_t()
        text = self._library.eo_bundle_manifest(handle, ctypes.byref(size))
        self.manifest = json.loads(ctypes.string_at(text, size.value).decode())
        self.labels = [
            self._library.eo_bundle_label(handle, i).decode()
            for i in range(self._library.eo_bundle_label_count(handle))
        ]
        self.graphs = [
            self._library.eo_bundle_graph(handle, i).decode()
            for i in range(self._library.eo_bundle_graph_count(handle))
        ]
        self.artifacts = []
        for i in range(self._library.eo_bundle_artifact_count(handle)):
            found = _Artifact()
            self._library.eo_bundle_artifact(handle, i, ctypes.byref(found))
            self.artifacts.append(
                Artifact(
                    found.engine.decode(),
                    found.engine_version.decode(),
                    found.precision.decode(),
                    found.bytes,
                    self._library.eo_bundle_artifact_graph(handle, i).decode(),
                )
            )

    @staticmethod
    def _check(code, failure):
        if code:
            raise Failure(
                code,
                failure.where.decode("utf-8", "replace"),
                failure.message.decode("utf-8", "replace"),
            )

    def cache_bytes(self, context=0, beams=0):
        """Return what a Generator's cache of ``context`` tokens and ``beams`` takes.

        0 is what the bundle says. Raises Failure for a bundle that generates no text.
        """
        found, failure = ctypes.c_uint64(), _Failure()
        how = _GeneratorOptions(
            struct_bytes=ctypes.sizeof(_GeneratorOptions), context=context, beams=beams
        )
        self._check(
            self._library.eo_generator_options_bytes(
                self._handle, ctypes.byref(how), ctypes.byref(found), failure
            ),
            failure,
        )
        return found.value

    def compare(self, image, texts):
        """Return the Comparison of a dual encoder's embedding of an image with those of texts.

        They are the vectors of Results: sequences of floats of one size. Raises Failure for a
        bundle that is no dual encoder's.
        """
        size, count = len(image), len(texts)
        if any(len(text) != size for text in texts):
            raise Failure(INPUT, "texts", f"an embedding of another size than the image's, {size}")
        flat = [float(value) for text in texts for value in text]
        logits, scores, failure = (ctypes.c_float * count)(), (ctypes.c_float * count)(), _Failure()
        self._check(
            self._library.eo_bundle_compare(
                self._handle,
                (ctypes.c_float * size)(*[float(value) for value in image]),
                (ctypes.c_float * len(flat))(*flat),
                count,
                size,
                logits,
                scores,
                failure,
            ),
            failure,
        )
        return Comparison(list(logits), list(scores))

    def _now(self):
        try:
            facts = os.stat(self.path)
        except OSError:
            return None
        return facts.st_dev, facts.st_ino

    def is_replaced(self):
        """Whether another bundle is at its path by now.

        What was not read yet, such as another artifact, can then not be had any more.
        """
        return self._now() != self._identity

    def close(self):
        """Close it; its sessions must be closed before."""
        if self._handle:
            self._library.eo_bundle_close(self._handle)
            self._handle = None


def _asked(
    bundles,
    engine=None,
    precision=None,
    libraries=None,
    threads=0,
    batch=1,
    seq_lens=(),
    max_text_bytes=0,
    max_image_side=0,
    cpus=None,
    options=None,
    graph=None,
):
    """Return the _Options of what is to be opened of ``bundles``."""
    own = [_Option(_bytes(k), _bytes(str(v))) for k, v in (options or {}).items()]
    return _Options(
        struct_bytes=ctypes.sizeof(_Options),
        threads=threads,
        engine=_bytes(engine),
        precision=_bytes(precision),
        libraries=_bytes(_engine_places(bundles) if libraries is None else libraries),
        options=(_Option * len(own))(*own),
        option_count=len(own),
        batch=batch,
        seq_lens=(ctypes.c_int32 * len(seq_lens))(*seq_lens) if seq_lens else None,
        seq_len_count=len(seq_lens),
        max_text_bytes=max_text_bytes,
        max_image_side=max_image_side,
        cpus=_bytes(cpus),
        graph=_bytes(graph),
    )


class Session(_Closing):
    """One artifact of a bundle in its engine. For one thread at a time."""

    def __init__(
        self,
        bundle,
        engine=None,
        precision=None,
        libraries=None,
        threads=0,
        batch=1,
        seq_lens=(),
        max_text_bytes=0,
        max_image_side=0,
        cpus=None,
        options=None,
        graph=None,
        owns_bundle=False,
    ):
        """Open the artifact. Raises Failure."""
        asked = _asked(
            [bundle],
            engine=engine,
            precision=precision,
            libraries=libraries,
            threads=threads,
            batch=batch,
            seq_lens=seq_lens,
            max_text_bytes=max_text_bytes,
            max_image_side=max_image_side,
            cpus=cpus,
            options=options,
            graph=graph,
        )
        self.bundle = bundle
        self._library = bundle._library
        self._owns_bundle = owns_bundle
        self._handle = None
        handle, failure = _HANDLE(), _Failure()
        bundle._check(
            self._library.eo_session_open(
                bundle._handle, ctypes.byref(asked), ctypes.byref(handle), failure
            ),
            failure,
        )
        self._handle = handle
        self._failure = failure
        self.engine = self._library.eo_session_engine(handle).decode()
        self.engine_version = self._library.eo_session_engine_version(handle).decode()
        self.precision = self._library.eo_session_precision(handle).decode()
        self.graph = self._library.eo_session_graph(handle).decode()
        self.library = os.fsdecode(self._library.eo_session_library(handle))

    def close(self):
        """Close it, and the bundle if ``open`` opened it."""
        if self._handle:
            self._library.eo_session_close(self._handle)
            self._handle = None
        if self._owns_bundle:
            self.bundle.close()

    def run(self, text=None, pair=None, image=None):
        """Return the Result of one text or image.

        ``pair`` is the text's second part, such as the context of a question. ``image`` is
        ``(width, height, rgb bytes)``, or the bytes of a binary PPM.
        """
        if image is not None:
            return self.run_images([image])[0]
        return self.run_texts([text if pair is None else (text, pair)])[0]

    def run_texts(self, texts):
        """Return one Result for each text, or (text, pair), in one run of the engine."""
        given, read = _texts(texts)
        self.bundle._check(
            self._library.eo_session_run_texts(self._handle, given, len(given), self._failure),
            self._failure,
        )
        return [self._result(i, text, encoded) for i, (text, encoded) in enumerate(read)]

    def run_images(self, images):
        """Return one Result for each image, in one run of the engine."""
        given = (_Image * len(images))()
        kept = []  # what `given` points into
        for slot, image in zip(given, images):
            if isinstance(image, bytes):
                kept.append(image)
                self.bundle._check(
                    self._library.eo_image_from_ppm(
                        image, len(image), ctypes.byref(slot), self._failure
                    ),
                    self._failure,
                )
                continue
            width, height, rgb = image
            rgb = bytes(rgb)
            if len(rgb) != width * height * 3:
                raise Failure(
                    INPUT,
                    "image",
                    f"{len(rgb)} bytes, expected {width} x {height} x 3",
                )
            kept.append(rgb)
            slot.width, slot.height = width, height
            slot.rgb = ctypes.cast(rgb, ctypes.c_void_p)
        self.bundle._check(
            self._library.eo_session_run_images(self._handle, given, len(images), self._failure),
            self._failure,
        )
        return [self._result(i, None, None) for i in range(len(images))]

    def class_map(self, width, height, index=0):
        """Return the label (its number in ``bundle.labels``) of each pixel of image ``index``.

        It is uint16 (height, width), a numpy array, or a memoryview without numpy, of the last run.

        For semantic segmentation. The size is the image's, or any other; the network's logits are
        resized to it. Raises Failure for a bundle of another task.
        """
        labels = (ctypes.c_uint16 * (width * height))()
        self.bundle._check(
            self._library.eo_session_class_map(
                self._handle, index, width, height, labels, self._failure
            ),
            self._failure,
        )
        if _numpy() is not None:
            return _numpy().frombuffer(labels, dtype="uint16").reshape(height, width)
        return memoryview(labels).cast("B").cast("H", (height, width))

    def _result(self, index, text, encoded):
        found = self._library.eo_session_result(self._handle, index).contents
        boxes = self._library.eo_session_boxes(self._handle, index)
        return _result(found, self.bundle.labels, text, encoded, boxes)

    def select(self, batch=1, seq_len=0):
        """Choose the shape that ``inputs``, ``execute`` and ``outputs`` are of; 0: the longest."""
        self.bundle._check(
            self._library.eo_session_select(self._handle, batch, seq_len, self._failure),
            self._failure,
        )

    def inputs(self):
        """Return name -> the buffer to fill: a numpy array, or a memoryview without numpy. They
        hold until the next ``select``."""
        library = self._library
        return {
            library.eo_session_input_name(self._handle, i).decode(): _view(
                library.eo_session_input(self._handle, i).contents
            )
            for i in range(library.eo_session_input_count(self._handle))
        }

    def execute(self):
        """Run the engine on what ``inputs`` hold."""
        self.bundle._check(self._library.eo_session_run(self._handle, self._failure), self._failure)

    def outputs(self):
        """Return name -> what the last run computed, like ``inputs``; it holds until the next."""
        library = self._library
        return {
            library.eo_session_output_name(self._handle, i).decode(): _view(
                library.eo_session_output(self._handle, i).contents
            )
            for i in range(library.eo_session_output_count(self._handle))
        }


class Cascade(_Closing):
    """A small classifier that answers if it is sure, and a large one that reads the other texts.

    It is what ``edgeopt cascade`` found, and for one thread at a time.

    ``early`` tells of each text of the last run whether the small one's answer stands.
    """

    def __init__(self, path, small, large, **options):
        """Open both Bundles as ``path``, the file cascade.json, says. Options are those of
        ``open``, but for ``library``. Raises Failure if they are not the bundles, or the
        artifacts, that it was found for."""
        asked = _asked([small, large], **options)
        self.small = small
        self.large = large
        self.early = []
        self._library = small._library
        self._handle = None
        handle, failure = _HANDLE(), _Failure()
        small._check(
            self._library.eo_cascade_open(
                _bytes(os.fspath(path)),
                small._handle,
                large._handle,
                ctypes.byref(asked),
                ctypes.byref(handle),
                failure,
            ),
            failure,
        )
        self._handle = handle
        self._failure = failure

    def close(self):
        """Close it; the bundles stay open."""
        if self._handle:
            self._library.eo_cascade_close(self._handle)
            self._handle = None

    def run(self, text, pair=None):
        """Return the Result of one text (``pair``: its second part)."""
        return self.run_texts([text if pair is None else (text, pair)])[0]

    def run_texts(self, texts):
        """Return one Result for each text, or (text, pair). Those that the small model is not sure
        of go through the large one together."""
        given, read = _texts(texts)
        self.early = []
        self.small._check(
            self._library.eo_cascade_run_texts(self._handle, given, len(given), self._failure),
            self._failure,
        )
        places = range(len(read))
        self.early = [bool(self._library.eo_cascade_early(self._handle, i)) for i in places]
        found = [self._library.eo_cascade_result(self._handle, i).contents for i in places]
        return [_result(one, self.large.labels, *two) for one, two in zip(found, read)]


def _texts(texts):
    """Return texts as the library takes them, and of each what its findings lie in, as it was given
    and as bytes."""
    pairs = [t if isinstance(t, tuple) else (t, None) for t in texts]
    encoded = [(_utf8(text), _utf8(pair)) for text, pair in pairs]
    given = (_Text * len(pairs))(
        *[_Text(a, len(a), b, len(b) if b is not None else 0) for a, b in encoded]
    )
    read = [
        (text if pair is None else pair, a if pair is None else b)
        for (text, pair), (a, b) in zip(pairs, encoded)
    ]
    return given, read


def _result(found, labels, text, encoded, boxes=None):
    """Return the Result of the library's ``found``."""
    items = []
    for i in range(found.item_count):
        item = found.items[i]
        label = labels[item.label] if labels else None
        begin = end = part = None
        if item.end and encoded is not None:
            begin = len(encoded[: item.begin].decode("utf-8", "replace"))
            end = begin + len(encoded[item.begin : item.end].decode("utf-8", "replace"))
            part = text[begin:end] if isinstance(text, str) else encoded[item.begin : item.end]
        box = Box(*[getattr(boxes[i], name) for name in Box._fields]) if boxes else None
        items.append(Item(label, item.score, begin, end, part, box))
    vector = None
    if found.vector:
        vector = array.array("f", found.vector[: found.vector_count])
        # Not imported for this: some builds of numpy end the process on an older core.
        if getattr(sys.modules.get("numpy"), "array", None) is not None:
            vector = sys.modules["numpy"].array(vector, dtype="float32")
    return Result(items, vector, found.tokens, bool(found.truncated))


def _utf8(text):
    """Encode; a lone surrogate, which UTF-8 has not, becomes what the library reads as U+FFFD."""
    if text is None or isinstance(text, bytes):
        return text
    return text.encode("utf-8", "surrogatepass")


def _view(tensor):
    name, code, item_bytes = _DTYPES[tensor.dtype]
    shape = tuple(tensor.dims[: tensor.rank])
    memory = memoryview((ctypes.c_char * (tensor.count * item_bytes)).from_address(tensor.data))
    if _numpy() is not None:
        return _numpy().frombuffer(memory, dtype=name).reshape(shape)
    return memory.cast("B").cast(code, shape) if shape else memory.cast("B").cast(code)


def _numpy():
    """Return numpy if it is installed, for who asks for arrays; else None."""
    if "numpy" not in sys.modules and importlib.util.find_spec("numpy") is None:
        return None
    import numpy

    return numpy


def _sampling(
    *,
    max_tokens=0,
    repetition_penalty=0.0,
    temperature=0.0,
    top_k=0,
    top_p=0.0,
    min_p=0.0,
    stops=(),
    seed=0,
    num_beams=None,
    length_penalty=None,
    early_stopping=None,
    no_repeat_ngram_size=None,
    min_tokens=None,
):
    """Return a prompt's options as C has them. Raises Failure."""
    if early_stopping not in EARLY_STOPPING:
        expected = ", ".join(repr(one) for one in EARLY_STOPPING)
        raise Failure(INPUT, "early_stopping", f"is {early_stopping!r}, expected {expected}")
    texts = [s if isinstance(s, bytes) else s.encode() for s in stops]
    for at, text in enumerate(texts):
        if b"\0" in text:
            raise Failure(INPUT, "stops", f"text {at} holds a NUL")
    return _Sampling(
        struct_bytes=ctypes.sizeof(_Sampling),
        max_tokens=max_tokens,
        repetition_penalty=repetition_penalty,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        stop_count=len(texts),
        seed=seed,
        stops=(ctypes.c_char_p * len(texts))(*texts) if texts else None,
        # In C 0 is as the bundle says, and what says "none" is another number.
        length_penalty=0.0 if length_penalty is None else length_penalty or _NO_PENALTY,
        num_beams=num_beams or 0,
        early_stopping=EARLY_STOPPING.index(early_stopping),
        no_repeat_ngram_size=_or_none(no_repeat_ngram_size),
        min_tokens=_or_none(min_tokens),
    )


def _or_none(count):
    """Return how C says ``count``, of which 0 is none there as well."""
    return 0 if count is None else count or _NONE


def sampling_members(**sampling):
    """Return by name what C is given of a prompt's options, without those that are zero there."""
    how = _sampling(**sampling)
    names = [
        name for name, _ in how._fields_ if name not in ("struct_bytes", "stop_count", "stops")
    ]
    made = {name: getattr(how, name) for name in names if getattr(how, name)}
    if sampling.get("stops"):
        made["stops"] = list(sampling["stops"])
    return made


def _pcm(samples):
    """Return samples as an array of int16 or float. Raises Failure for what is none."""
    try:
        view = memoryview(samples)
    except TypeError:
        view = None
    if view is not None and (view.ndim != 1 or view.format not in ("h", "f", "d")):
        raise Failure(
            INPUT,
            "sound",
            "has samples of format %r in %d dimensions, expected int16 or floats in one"
            % (view.format, view.ndim),
        )
    try:
        if view is None or view.format == "d":
            return array.array("f", samples)
        made = array.array(view.format)
        made.frombytes(view.tobytes())
        return made
    except (TypeError, OverflowError):
        raise Failure(INPUT, "sound", "has samples that are not numbers") from None


class Generator(_Closing):
    """A decoder's bundle, opened to go on with prompts. For one thread at a time, but ``cancel``.

    Options besides those of ``open`` that concern texts and engines: ``context`` (tokens of prompt
    and answer at most; 0: as the bundle was made for), ``max_cache_bytes`` (0: no limit) and
    ``beams`` (that a prompt may ask for; 0: as many as the bundle says).
    """

    def __init__(self, bundle, context=0, max_cache_bytes=0, library=None, beams=0, **options):
        """Open the bundle at a path, or an opened Bundle. Raises Failure."""
        self._owned = None if isinstance(bundle, Bundle) else Bundle(bundle, library=library)
        self.bundle = bundle if self._owned is None else self._owned
        self._library = self.bundle._library
        self._handle = None
        handle, failure = _HANDLE(), _Failure()
        asked = _asked([self.bundle], **options)
        how = _GeneratorOptions(
            struct_bytes=ctypes.sizeof(_GeneratorOptions),
            context=context,
            max_cache_bytes=max_cache_bytes,
            session=ctypes.pointer(asked),
            beams=beams,
        )
        try:
            self.bundle._check(
                self._library.eo_generator_open(
                    self.bundle._handle, ctypes.byref(how), ctypes.byref(handle), failure
                ),
                failure,
            )
        except Failure:
            self.close()
            raise
        self._handle = handle
        self.engine = self._library.eo_generator_engine(handle).decode()
        self.engine_version = self._library.eo_generator_engine_version(handle).decode()
        self.precision = self._library.eo_generator_precision(handle).decode()
        self.context = self._library.eo_generator_context(handle)
        self.cache_bytes = self.bundle.cache_bytes(self.context, beams)
        generation = self.bundle.manifest.get("generation", {})
        self._speech = generation.get("speech")

    def prompt(self, prompt, **sampling):
        """Read a prompt: a text, or a sequence of tokens. Raises Failure.

        ``sampling`` are ``max_tokens``, ``repetition_penalty``, ``temperature`` (0 takes the
        likeliest token), ``top_k``, ``top_p``, ``min_p``, ``stops``, ``seed``, ``num_beams``,
        ``length_penalty``, ``early_stopping`` (one of EARLY_STOPPING), ``no_repeat_ngram_size`` and
        ``min_tokens``; the header says what each means. The last five are as the bundle says if
        they are None or left out.
        """
        how = _sampling(**sampling)
        failure = _Failure()
        if isinstance(prompt, (str, bytes)):
            text = prompt.encode("utf-8", "surrogatepass") if isinstance(prompt, str) else prompt
            code = self._library.eo_generator_prompt(
                self._handle, text, len(text), ctypes.byref(how), failure
            )
        else:
            tokens = (ctypes.c_int32 * len(prompt))(*prompt)
            code = self._library.eo_generator_prompt_tokens(
                self._handle, tokens, len(tokens), ctypes.byref(how), failure
            )
        self.bundle._check(code, failure)

    def prompt_audio(self, samples, rate=16000, start=None, **sampling):
        """Read speech of one channel, ``rate`` samples a second. Raises Failure.

        ``samples`` are an array of int16 or of floats from -1 to 1 (numpy's or the array module's),
        or a sequence of floats; None for those of the prompt before. ``start`` are the tokens that
        the decoder begins with, None for the bundle's own; ``transcribe`` finds them by name. The
        rest is as in ``prompt``.
        """
        how = _sampling(**sampling)
        given = None if samples is None else _pcm(samples)
        begins = None if start is None else (ctypes.c_int32 * len(start))(*start)
        failure = _Failure()
        place = None if given is None else given.buffer_info()[0] or ctypes.addressof(failure)
        sound = _Sound(
            struct_bytes=ctypes.sizeof(_Sound),
            rate=rate,
            samples=place,  # an empty array has none, which would stand for the sound before
            count=0 if given is None else len(given),
            format=1 if given is not None and given.typecode == "h" else 0,
            start=begins,
            start_count=0 if begins is None else len(begins),
        )
        code = self._library.eo_generator_prompt_audio(
            self._handle, ctypes.byref(sound), ctypes.byref(how), failure
        )
        self.bundle._check(code, failure)

    def listen(self, samples, rate=16000, language=None, task=None, **sampling):
        """Read speech and return its language, None of a bundle that knows one alone.

        ``language`` is a code such as "de", and None for the bundle's own, or the one that the
        network finds; ``task`` is "transcribe" or "translate" (to English), None for the bundle's
        own. Raises Failure for one that the bundle has not, and as ``prompt_audio``.
        """
        known = self._speech
        for what, name in (("language", language), ("task", task)):
            names = known[what + "s"] if known else {}
            if name is not None and name not in names:
                told = "one of " + ", ".join(sorted(names)) if names else "none: it has one alone"
                raise Failure(INPUT, what, "is %r, expected %s" % (name, told))
        if known is None:
            self.prompt_audio(samples, rate, **sampling)
            return None
        own = self.bundle.manifest["generation"]["start"]
        token = own[1] if language is None else known["languages"][language]
        if language is None and known["detects"]:
            self.prompt_audio(samples, rate, start=[known["begin"]])
            logits, samples = self.logits, None
            token = max(known["languages"].values(), key=lambda one: logits[one])
        start = [own[0], token, *own[2:]]
        if language is not None or task is not None:
            middle = known["tasks"].get(task or "transcribe")
            start = [known["begin"], token] + ([] if middle is None else [middle]) + known["end"]
        self.prompt_audio(samples, rate, start=start, **sampling)
        return {number: name for name, number in known["languages"].items()}.get(token)

    def transcribe(self, samples, rate=16000, language=None, task=None, **sampling):
        """Read speech, as ``listen`` does, and return what is said as a Generated."""
        self.listen(samples, rate, language, task, **sampling)
        return self._rest()

    def next(self):
        """Return the next piece: (text, token, end). ``end`` is one of ENDS, "none" to go on."""
        piece, failure = _Piece(), _Failure()
        self.bundle._check(
            self._library.eo_generator_next(self._handle, ctypes.byref(piece), failure), failure
        )
        text = ctypes.string_at(piece.text, piece.bytes).decode()
        return text, piece.token, ENDS[piece.end]

    def stream(self, prompt, **sampling):
        """Read a prompt and yield the pieces of the answer's text as they come."""
        self.prompt(prompt, **sampling)
        end = ENDS[0]
        while end == ENDS[0]:
            text, _, end = self.next()
            if text:
                yield text

    def run(self, prompt, **sampling):
        """Read a prompt and return what it is gone on with, as a Generated."""
        self.prompt(prompt, **sampling)
        return self._rest()

    def _rest(self):
        texts, tokens, end = [], [], ENDS[0]
        while end == ENDS[0]:
            text, token, end = self.next()
            texts.append(text)
            if token >= 0:
                tokens.append(token)
        return Generated("".join(texts), tokens, end)

    def cancel(self):
        """End the answer that is being made; any thread may call it."""
        self._library.eo_generator_cancel(self._handle)

    def reset(self):
        """Forget prompt, answer and cache."""
        self._library.eo_generator_reset(self._handle)

    def save(self):
        """Return what it has of prompt and answer, for ``restore``, as bytes. Raises Failure."""
        state = ctypes.create_string_buffer(self._library.eo_generator_state_bytes(self._handle))
        failure = _Failure()
        self.bundle._check(
            self._library.eo_generator_save(self._handle, state, len(state), failure), failure
        )
        return state.raw

    def restore(self, state):
        """Go on where ``state`` was saved, by a Generator of the same bundle. Raises Failure."""
        given, failure = bytes(state), _Failure()
        self.bundle._check(
            self._library.eo_generator_restore(self._handle, given, len(given), failure), failure
        )

    @property
    def logits(self):
        """The logits of the last run, as an array.array; None without a prompt."""
        count = ctypes.c_uint32()
        found = self._library.eo_generator_logits(self._handle, ctypes.byref(count))
        return array.array("f", ctypes.string_at(found, 4 * count.value)) if found else None

    @property
    def tokens(self):
        """The tokens of prompt and answer."""
        count = ctypes.c_uint32()
        found = self._library.eo_generator_tokens(self._handle, ctypes.byref(count))
        return found[: count.value]

    @property
    def reused(self):
        """How many tokens of the last prompt were in the cache."""
        return self._library.eo_generator_reused(self._handle)

    def close(self):
        """Close it, and the bundle if it was opened here."""
        if self._handle:
            self._library.eo_generator_close(self._handle)
            self._handle = None
        if self._owned is not None:
            self._owned.close()
            self._owned = None
