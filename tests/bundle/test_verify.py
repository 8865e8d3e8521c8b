from collections.abc import Callable

import pytest

from edgeopt.bundle import Bundle
from edgeopt.bundle.verify import verify

MakeBundle = Callable[..., Bundle]
MODEL = "artifacts/onnx-fp32/model.onnx"


def test_an_intact_bundle(make_bundle: MakeBundle) -> None:
    found = verify(make_bundle(), run_artifacts=False)
    assert found.ok
    assert found.files == 4


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"not a modeL", "was changed: its SHA-256 is another"),
        (b"not", "has 3 bytes, expected 11"),
        (None, "is missing"),
    ],
)
def test_a_changed_byte_is_found(make_bundle: MakeBundle, content: bytes | None, what: str) -> None:
    bundle = make_bundle()
    if content is None:
        (bundle.path / MODEL).unlink()
    else:
        (bundle.path / MODEL).write_bytes(content)
    found = verify(bundle)
    assert not found.ok
    assert found.changed == {MODEL: what}
    assert found.artifacts == ()  # nothing is run from a changed bundle


def test_a_file_that_was_added_is_found(make_bundle: MakeBundle) -> None:
    bundle = make_bundle()
    (bundle.path / "extra").write_text("")
    assert verify(bundle).changed == {"extra": "is not in the manifest"}
