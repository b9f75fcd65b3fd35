"""The draw of validation videos: at random, by class, every class in both splits that can be."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numbered_video import write_numbered

from ava_tools import import_dataset
from detection.importers.custom import choose_val


def counts_of(classes):
    return {f"v{i:03}": Counter(dict.fromkeys(names, 1)) for i, names in enumerate(classes)}


def in_both(counts, val):
    """Return how many classes are lost to train, and how many are in both splits."""
    lost = both = 0
    for name in {name for of_video in counts.values() for name in of_video}:
        holders = {video for video, of_video in counts.items() if name in of_video}
        lost += holders <= set(val)
        both += bool(holders & set(val)) and not holders <= set(val)
    return lost, both


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.floats(0.05, 0.6), st.integers(0))
def test_of_each_class_about_the_share_is_drawn(sizes, share, seed):
    """One class a video: a class of two or more is in both, one of a single video in train."""
    counts = counts_of([[f"c{c}"] for c, size in enumerate(sizes) for _ in range(size)])
    if max(sizes) == 1:
        return
    val = choose_val(counts, share, seed % 1000)
    for c, size in enumerate(sizes):
        drawn = sum(f"c{c}" in counts[video] for video in val)
        if size == 1:
            assert drawn == 0
        else:
            assert 1 <= drawn <= size - 1
            assert abs(drawn - min(max(share * size, 1), size - 1)) <= 1
    assert len(set(val)) == len(val)


@settings(deadline=None, max_examples=400)
@example([{0, 1}, {2, 3}, {0, 4}, {1, 2, 3}], 0.5)
@given(
    st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=2, max_size=7), st.floats(0.1, 0.5)
)
def test_as_many_classes_as_can_be_are_in_both_splits(classes, share):
    """Against every split that there is."""
    counts = counts_of(classes)
    val = choose_val(counts, share)
    names = list(counts)
    every = [
        in_both(counts, chosen)
        for size in range(1, len(names))
        for chosen in itertools.combinations(names, size)
    ]
    assert 0 < len(val) < len(names)
    lost, both = in_both(counts, val)
    assert (lost, -both) == min((lost, -both) for lost, both in every)


def test_two_videos_without_a_class_and_all_of_one_class_each():
    assert len(choose_val(counts_of([[], []]), 0.2)) == 1
    assert len(choose_val(counts_of([["a"], ["b"], ["c"]]), 0.2)) == 1
    assert len(choose_val(counts_of([["a"]] * 300), 0.2)) == 60


@pytest.fixture
def command(tmp_path: Path):
    (tmp_path / "films").mkdir()
    rows = ["video,time,x1,y1,x2,y2,action,person"]
    for number in range(6):
        times_s = [i / 5 for i in range(5 + number)]
        write_numbered(tmp_path / "films" / f"v{number}.mp4", times_s, fps=5)
        rows.append(f"v{number},0,.1,.1,.5,.9,{'wave' if number % 2 else 'sit'},1")
    rows.append("v5,0,.1,.1,.5,.9,jump,1")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    return ["csv", "--source", str(tmp_path / "t.csv"), "--videos", str(tmp_path / "films")]


def test_the_command_says_what_was_drawn(command, tmp_path, capsys):
    drawn = set()
    for seed in ("0", "0", "1", "2", "3", "4"):
        out = ["--out", str(tmp_path / "out"), "--overwrite", "--seed", seed]
        assert import_dataset.main([*command, *out]) == 0
        (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("val drawn")]
        assert f"(--seed {seed}): 2 of 6 videos" in line
        assert line.endswith("videos by class: jump 0 of 1, sit 1 of 3, wave 1 of 3")
        drawn.add(line.split("videos (")[1].split(")")[0])
        listed = (tmp_path / "out/annotations/val_videos.txt").read_text().splitlines()
        assert line.split("videos (")[1].startswith(", ".join(f"{name}.mp4" for name in listed))
    assert 1 < len(drawn) < 6
    named = ["--out", str(tmp_path / "named"), "--val-videos", "v0", "v1"]
    assert import_dataset.main([*command, *named]) == 0
    assert "drawn" not in capsys.readouterr().out
