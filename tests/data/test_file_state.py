"""Whether a scan is still what was read."""

import hashlib
import os

from flarenet.data.file_state import sha256_of_scan, stat_of
from flarenet.whole import sha256_of


def test_a_file_is_known_by_its_bytes_and_by_how_it_lies_on_the_disk(tmp_path):
    scan = tmp_path / "x.nii.gz"
    assert stat_of(scan) is None
    scan.write_bytes(b"a scan")
    before = stat_of(scan)
    assert sha256_of_scan(scan) == sha256_of(scan) == hashlib.sha256(b"a scan").hexdigest()
    assert stat_of(scan) == before
    os.utime(scan, (1, 1))
    assert stat_of(scan) != before


def test_a_series_is_known_by_two_digests_whatever_number_of_slices_it_has(tmp_path):
    for name in ("2.dcm", "1.dcm", ".hidden"):
        (tmp_path / name).write_bytes(name.encode())
    lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in ("1.dcm", "2.dcm")]
    assert sha256_of_scan(tmp_path) == hashlib.sha256("".join(lines).encode()).hexdigest()
    seen = [stat_of(tmp_path)]
    (tmp_path / ".hidden").unlink()
    assert stat_of(tmp_path) == seen[0]
    for change in (
        lambda: os.utime(tmp_path / "1.dcm", (1, 1)),  # older than the newest slice, as before
        lambda: (tmp_path / "2.dcm").rename(tmp_path / "3.dcm"),
        lambda: (tmp_path / "4.dcm").write_bytes(b""),
    ):
        change()
        assert stat_of(tmp_path) not in seen
        seen.append(stat_of(tmp_path))
