"""Files are written atomically, and equal content gives equal bytes and digests."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foldsmith.errors import InputError
from foldsmith.process.files import (
    atomic_write,
    digest_of,
    digest_of_file,
    load_json,
    load_npz,
    save_csv,
    save_json,
    save_npz,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_gets_its_name_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("content")
        assert not path.exists() and temporary.parent == path.parent
    assert path.read_text() == "content"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_temporary_one(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_an_error_before_anything_is_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError), atomic_write(tmp_path / "file.txt"):
        raise ValueError
    assert names(tmp_path) == []


def test_a_value_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    save_json(tmp_path / "file.json", {"mean": 0.5})
    with pytest.raises(ValueError):
        save_json(tmp_path / "file.json", {"mean": float("nan")})
    assert load_json(tmp_path / "file.json") == {"mean": 0.5}
    assert names(tmp_path) == ["file.json"]


def test_json_round_trips(tmp_path: Path) -> None:
    value = {"name": "größer/猫", "numbers": [1, 2.5, None, True], "inner": {"a": []}}
    save_json(tmp_path / "file.json", value)
    assert load_json(tmp_path / "file.json") == value
    assert "größer/猫" in (tmp_path / "file.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [b'{"cut": ', b"\xff\xfe\x00", b""])
def test_a_damaged_file_of_our_own_is_reported(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cv.json").write_bytes(content)
    with pytest.raises(InputError, match="cv.json"):
        load_json(tmp_path / "cv.json")


def make_arrays() -> dict[str, np.ndarray]:
    return {
        "path": np.array(["train/ä.png", "b"], dtype=np.str_),
        "label": np.array([3, 1]),
        "probabilities": np.array([[0.25, 0.75], [1, 0]], dtype=np.float32),
    }


def test_the_same_arrays_give_the_same_bytes_at_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_npz(tmp_path / "first.npz", **make_arrays())
    later = time.localtime(time.time() + 12345678)
    monkeypatch.setattr(time, "localtime", lambda *words: later)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    save_npz(tmp_path / "second.npz", **make_arrays())
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()


def test_arrays_round_trip(tmp_path: Path) -> None:
    save_npz(tmp_path / "file.npz", **make_arrays())
    loaded = load_npz(tmp_path / "file.npz")
    assert list(loaded) == list(make_arrays())
    for name, array in make_arrays().items():
        assert loaded[name].dtype == array.dtype and np.array_equal(loaded[name], array)


def test_arrays_of_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", path=np.array(["a", None], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        load_npz(tmp_path / "file.npz")


def test_tables_are_written_with_one_line_ending_on_every_system(tmp_path: Path) -> None:
    save_csv(tmp_path / "file.csv", pd.DataFrame({"path": ["a,b", 'c"d'], "label": [1, 2]}))
    assert (tmp_path / "file.csv").read_bytes() == b'path,label\n"a,b",1\n"c""d",2\n'


def test_the_digest_of_a_file_is_its_sha_256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 1000)
    assert digest_of_file(tmp_path / "file") == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_equal_values_have_equal_digests_whatever_their_order() -> None:
    assert digest_of({"a": 1, "b": [1.5, "ü"]}) == digest_of({"b": [1.5, "ü"], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})
    assert digest_of([1, 2]) != digest_of([2, 1])
    assert digest_of({"a": (1, 2)}) == digest_of(json.loads(json.dumps({"a": (1, 2)})))
