import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.small_disk import SmallDisk, fill
from tinyllm.errors import DataError
from tinyllm.journal import Journal, encode, last_line, quarantine, read, read_at, scan

RECORDS = [{"id": f"abc-{i}", "key": "0" * 16, "story": f"story {i} \u2028 é"} for i in range(5)]


def write(path: Path, records: list[dict[str, object]] = RECORDS) -> list[int]:
    with Journal(path) as journal:
        return [journal.append(record) for record in records]


def ids(path: Path) -> list[str]:
    return [entry.id for entry in scan(path)]


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a" / "j.jsonl"
    offsets = write(path)
    assert [record for _, record in read(path)] == RECORDS
    with open(path, "rb") as file:
        assert [read_at(file, offset) for offset in offsets] == RECORDS
    assert last_line(path) == encode(RECORDS[-1]).rstrip(b"\n")


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=4))
def test_any_text_stays_on_one_line(record: dict[str, object]) -> None:
    line = encode({"id": "a-1", "value": record})
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert json.loads(line)["value"] == record


@pytest.mark.parametrize(
    "record",
    [{"key": "x", "id": "a-1"}, {"id": 'a"1'}, {"id": "a\n"}, {"id": "a", "inner": {"id": "b"}}],
)
def test_a_record_that_could_not_be_found_again_is_refused(record, tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal, pytest.raises(ValueError, match="plain id"):
        journal.append(record)
    assert (tmp_path / "j").stat().st_size == 0


def test_a_journal_torn_at_any_byte_loses_at_most_its_last_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    offsets = [*write(whole), whole.stat().st_size]
    content = whole.read_bytes()
    for cut in (*range(4), *range(offsets[4] - 2, len(content) + 1)):
        path = tmp_path / f"cut-{cut}"
        path.write_bytes(content[:cut])
        n_whole = max(n for n, offset in enumerate(offsets) if offset <= cut)
        with Journal(path) as journal:
            assert journal.recovered_bytes == cut - offsets[n_whole]
            journal.append({"id": "next-0"})
        assert ids(path) == [f"abc-{i}" for i in range(n_whole)] + ["next-0"]
        recovered = path.with_name(f"{path.name}.recovered")
        assert recovered.exists() == (cut != offsets[n_whole])
        if recovered.exists():
            assert recovered.read_bytes() == content[offsets[n_whole] : cut] + b"\n"


@pytest.mark.parametrize("tail", [b"\0" * 4096, b"\0" * 100 + b"\n", b'{"id":"abc-9","story":\n'])
def test_a_tail_that_is_no_record_is_cut_off_and_kept(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path)
    size = path.stat().st_size
    with open(path, "ab") as file:
        file.write(tail)
    Journal(path).close()
    assert path.stat().st_size == size
    assert (tmp_path / "j.recovered").read_bytes() == tail + b"\n"


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert [record for _, record in read(path)] == RECORDS
    with Journal(path) as journal:
        assert journal.recovered_bytes == 0


@pytest.mark.parametrize(
    "bad", [b"\0\0\0", b"", b'{"id":"abc-2","sto{"id":"abc-3"}', b'{"id":"abc-2","story":"x']
)
def test_a_broken_line_in_the_middle_stops_and_can_be_moved_aside(
    bad: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "j"
    write(path)
    lines = path.read_bytes().split(b"\n")
    lines[2] = bad
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=r"j:3: this line is broken") as caught:
        list(scan(path))
    assert "--repair" in str(caught.value.hint)
    assert quarantine(path) == 1
    assert ids(path) == ["abc-0", "abc-1", "abc-3", "abc-4"]
    assert (tmp_path / "j.quarantined").exists()


def test_a_line_that_looks_whole_and_is_no_json_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b'{"id":"a-0","n":}\n' + encode(RECORDS[0]))
    with pytest.raises(DataError, match=r"j:1: "):
        list(read(path))


def test_a_full_disk_leaves_whole_lines_and_one_sentence(small_disk: SmallDisk) -> None:
    disk = small_disk("size=64k")
    path = disk / "j"
    with Journal(path) as journal:
        journal.append(RECORDS[0])
        fill(disk, 0)
        big = {"id": "abc-1", "text": "x" * 20_000}
        with pytest.raises(DataError, match=r"write \d+ bytes to .*: the disk is full"):
            journal.append(big)
        assert path.read_bytes() == encode(RECORDS[0])
        (disk / "filler").unlink()
        journal.append(big)
    assert ids(path) == ["abc-0", "abc-1"]


def test_a_disk_that_fills_up_within_a_line_leaves_no_half_of_it(small_disk: SmallDisk) -> None:
    disk = small_disk("size=64k")
    with Journal(disk / "j") as journal:
        with pytest.raises(DataError, match="the disk is full"):
            for i in range(100):
                journal.append({"id": f"a-{i}", "text": "x" * 3000})
        n_written = len(ids(disk / "j"))
    assert 10 < n_written < 25
    with Journal(disk / "j") as journal:
        assert journal.recovered_bytes == 0


def test_a_folder_that_cannot_be_written_is_one_sentence(small_disk: SmallDisk) -> None:
    disk = small_disk("size=64k")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(DataError, match="read-only"):
        Journal(disk / "j")


def test_a_file_that_is_removed_meanwhile_is_noticed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", sync_records=2)
    journal.append(RECORDS[0])
    (tmp_path / "j").unlink()
    with pytest.raises(DataError, match="does not exist"):
        journal.append(RECORDS[1])
