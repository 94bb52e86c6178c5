"""Tables are kept by what they were made from, whole or not at all, by many at once, and wherever there is room."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from volatility3_freebsd_kvm.image import store
from volatility3_freebsd_kvm.image.store import Store

CONTENT = {"symbols": {"größe": {"address": 1}}}


@pytest.fixture(autouse=True)
def nothing_was_said_before() -> Iterator[None]:
    """Warnings are given once a process."""
    store._warn.cache_clear()
    yield
    store._warn.cache_clear()


def test_what_was_put_is_found(tmp_path: Path) -> None:
    kept = Store(tmp_path / "deep" / "er")
    assert kept.find("key") is None
    path = kept.put("key", CONTENT)
    assert path == kept.path("key") == kept.find("key") == tmp_path / "deep" / "er" / "key.json"
    assert json.loads(path.read_bytes()) == CONTENT
    assert kept.put("key", {"other": 1}) == path
    assert json.loads(path.read_bytes()) == {"other": 1}
    assert [one.name for one in path.parent.iterdir()] == ["key.json"]


def test_a_key_stands_for_the_content_of_files_and_for_words(tmp_path: Path) -> None:
    kept = Store(tmp_path)
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"x" * (1 << 20) + b"y")
    second.write_bytes(first.read_bytes())
    key = kept.key(["kernel", first])
    assert key == kept.key([b"kernel", second])
    assert len(key) == 64
    different = [
        kept.key(["kernel"]),
        kept.key([first]),
        kept.key([first, "kernel"]),
        kept.key(["kernel", first, first]),
        kept.key(["kern", "el", first]),
        kept.key(["kernel", first.read_bytes()[:-1]]),
        kept.key([]),
    ]
    assert len({key, *different}) == len(different) + 1
    second.write_bytes(b"z")
    assert kept.key(["kernel", second]) != key


def test_a_key_of_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Store(tmp_path).key([tmp_path / "gone"])


def test_older_formats_have_other_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = Store(tmp_path).key(["kernel"])
    monkeypatch.setattr(store, "FORMAT", store.FORMAT + 1)
    assert Store(tmp_path).key(["kernel"]) != key


@pytest.mark.parametrize("left", [b"", b"{", b'{"symbols": {}, "user_ty', b"\0" * 100])
def test_a_table_that_was_cut_off_is_not_found(tmp_path: Path, left: bytes) -> None:
    kept = Store(tmp_path)
    kept.put("key", CONTENT).write_bytes(left)
    assert kept.find("key") is None
    assert json.loads(kept.put("key", CONTENT).read_bytes()) == CONTENT
    assert kept.find("key") is not None


def test_a_directory_in_the_place_of_a_table_is_none(tmp_path: Path) -> None:
    kept = Store(tmp_path)
    kept.path("key").mkdir()
    assert kept.find("key") is None


def test_what_cannot_be_written_as_json_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Store(tmp_path / "new").put("key", {"symbols": {1, 2}})
    assert not (tmp_path / "new").exists()


def test_an_interrupted_write_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Store(tmp_path)
    kept.put("key", CONTENT)

    def interrupted(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.put("key", {"other": 1})
    monkeypatch.undo()
    assert [one.name for one in tmp_path.iterdir()] == ["key.json"]
    assert json.loads(kept.path("key").read_bytes()) == CONTENT


def test_many_writers_and_readers_at_once_see_whole_tables(tmp_path: Path) -> None:
    kept = Store(tmp_path)
    contents = [{"writer": number, "padding": "x" * 50_000} for number in range(4)]
    kept.put("key", contents[0])
    seen: list[Any] = []

    def write(content: dict[str, Any]) -> None:
        for _ in range(20):
            kept.put("key", content)

    def read() -> None:
        for _ in range(40):
            path = kept.find("key")
            assert path is not None
            seen.append(json.loads(path.read_bytes()))

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 80
    assert all(one in contents for one in seen)
    assert [one.name for one in tmp_path.iterdir()] == ["key.json"]


def test_a_directory_that_cannot_be_written_is_replaced_for_this_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not by its permissions: tests may run as root."""
    taken = tmp_path / "taken"
    taken.write_text("a file where the directory should be")
    kept = Store(taken)
    path = kept.put("key", CONTENT)
    again = kept.put("other", CONTENT)
    assert json.loads(path.read_bytes()) == json.loads(again.read_bytes()) == CONTENT
    assert path.parent == again.parent
    assert path.parent != taken
    assert kept.find("key") is None
    assert [(one.levelno, one.getMessage()) for one in caplog.records] == [
        (
            logging.WARNING,
            f"{taken} cannot be written (File exists): the next run has to make the symbol tables anew",
        )
    ]


def test_without_any_room_the_error_is_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        Store(tmp_path).put("key", CONTENT)
