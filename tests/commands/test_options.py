"""Options that several commands share."""

import pytest

from commands.options import share, size_in_bytes, split


def test_pairs_of_written_out_profiles_are_told_from_lists():
    profile = "profile:8:4x2,5x3,4x7,3,2,1"
    for names in (
        [f"FP134+{profile}", "INT8"],
        [f"{profile}+{profile}", f"FP143+{profile}"],
        [f"{profile}+INT8", profile],
    ):
        assert split(",".join(names)) == names


def test_shares():
    assert [share("--within", text) for text in ("2%", "0.02", " 0% ", "100%", "1")] == [0.02, 0.02, 0, 1, 1]
    for text in ("2", "-1%", "101%", "nan", "%", "", "much"):
        with pytest.raises(ValueError, match=f"--within {text}: a share such as 2% or 0.02 is needed"):
            share("--within", text)


def test_sizes():
    assert [size_in_bytes("--memory", text) for text in ("4G", "800M", " 1.5G ")] == [4 << 30, 800 << 20, 3 << 29]
    assert [size_in_bytes("--memory", text) for text in ("4GB", "800 MiB")] == [4 << 30, 800 << 20]
    for text in ("4", "0G", "-1G", "4KB", "4B", "much"):
        with pytest.raises(ValueError, match=f"--memory {text}: a size such as 800M or 4G is needed"):
            size_in_bytes("--memory", text)
