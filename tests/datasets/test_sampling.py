import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.loader import choose_keyframes
from detection.structures import ClipSampling, Keyframe


@pytest.mark.parametrize("num_frames, step", [(1, 1), (4, 12), (13, 6), (16, 5), (5, 2.5)])
def test_the_keyframe_itself_is_the_middle_frame(num_frames, step):
    times_s = ClipSampling(num_frames, step).times_s(902.0)
    assert times_s[num_frames // 2] == 902.0
    assert len(times_s) == num_frames
    assert np.diff(times_s) == pytest.approx(step / 30)


def test_times_of_a_clip_by_hand():
    assert ClipSampling(4, 12).times_s(10.0) == pytest.approx([9.2, 9.6, 10.0, 10.4])


def test_a_step_of_nothing_repeats_the_keyframe():
    assert ClipSampling(4, 0).times_s(3.0).tolist() == [3.0] * 4


@pytest.mark.parametrize("num_frames, step", [(0, 5), (4, -1)])
def test_impossible_clips_are_refused(num_frames, step):
    with pytest.raises(ValueError, match="num_frames >= 1"):
        ClipSampling(num_frames, step).times_s(1.0)


@settings(deadline=None)
@given(
    st.integers(0, 60),
    st.integers(1, 20),
    st.sampled_from([0, 0.5, 1, 2.5, 4, 12]),
    st.integers(0, 60),
    st.sampled_from([0.0, 902.0]),
)
def test_a_clip_kept_inside_its_video(frame, num_frames, step, last, start_s):
    """Frames 0 to `last` of a file at 30 a second; the keyframe is one of them."""
    time_s = start_s + min(frame, last) / 30
    ends_s = start_s, start_s + last / 30
    usual = ClipSampling(num_frames, step).times_s(time_s)
    times_s = ClipSampling(num_frames, step, "inside").times_s(time_s, within_s=ends_s)
    assert len(times_s) == num_frames and time_s in times_s.tolist()
    assert times_s[0] >= ends_s[0] - 1e-9 and times_s[-1] <= ends_s[1] + 1e-9
    assert (np.diff(times_s) >= 0).all()
    if ends_s[0] <= usual[0] and usual[-1] <= ends_s[1]:
        assert times_s.tolist() == usual.tolist()
    spacing_s = min(step / 30, (last / 30) / max(1, num_frames - 1))
    assert np.diff(times_s) == pytest.approx(spacing_s, abs=spacing_s / 2 + 1e-9)


def test_clips_at_the_ends_by_hand():
    clip, inside = ClipSampling(4, 12, "inside"), {"within_s": (0.0, 2.0)}
    assert clip.times_s(0.2, **inside) == pytest.approx([0.2, 0.4, 0.8, 1.2])
    assert clip.times_s(1.6, **inside) == pytest.approx([0.8, 1.2, 1.6, 2.0])
    assert clip.times_s(2.0, **inside) == pytest.approx([0.8, 1.2, 1.6, 2.0])
    assert ClipSampling(5, 30, "inside").times_s(1.1, **inside) == pytest.approx(
        [0, 0.5, 1.1, 1.5, 2]
    )
    # A keyframe may lie a little outside; a video of one frame has nothing to move to.
    assert ClipSampling(2, 6, "inside").times_s(2.01, **inside) == pytest.approx([1.8, 2.01])
    assert ClipSampling(3, 6, "inside").times_s(7.0, within_s=(7.0, 7.0)).tolist() == [7.0] * 3
    with pytest.raises(ValueError, match="is after the last one"):
        ClipSampling(3, 6, "inside").times_s(1.0, within_s=(2.0, 1.0))


KEYFRAMES = [
    Keyframe(v, float(t)) for v in ("b", "a", "c") for t in range({"a": 7, "b": 1}.get(v, 3))
]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.none() | st.integers(1, 9), st.integers(0, 5), st.integers(0, 5))
def test_every_video_gives_as_many_as_asked(every, per_video, seed, epoch):
    chosen = choose_keyframes(KEYFRAMES, every=every, per_video=per_video, seed=seed, epoch=epoch)
    assert len(set(chosen.tolist())) == len(chosen)
    for video in "abc":
        mine = [KEYFRAMES[i].time_s for i in chosen if KEYFRAMES[i].video_id == video]
        count = sum(key.video_id == video for key in KEYFRAMES)
        assert 1 <= len(mine) <= min(per_video or count, -(-count // every))
        assert {round((a - min(mine)) % every) for a in mine} == {0}


def test_all_keyframes_by_default_and_none_of_nothing():
    assert choose_keyframes(KEYFRAMES).tolist() == list(range(len(KEYFRAMES)))
    assert choose_keyframes([]).tolist() == []


def test_epochs_differ_and_repeat():
    draws = [choose_keyframes(KEYFRAMES, per_video=2, epoch=e).tolist() for e in range(6)]
    assert len({tuple(draw) for draw in draws}) > 1
    assert draws[3] == choose_keyframes(KEYFRAMES, per_video=2, epoch=3).tolist()
    assert draws != [
        choose_keyframes(KEYFRAMES, per_video=2, seed=1, epoch=e).tolist() for e in range(6)
    ]


def test_n_epochs_of_every_nth_see_every_keyframe():
    seen = [set(choose_keyframes(KEYFRAMES, every=3, epoch=e).tolist()) for e in range(3)]
    assert set.union(*seen) == set(range(len(KEYFRAMES)))


@pytest.mark.parametrize("num_frames, step", [(1, 5), (4, 12), (13, 6), (16, 5), (5, 0)])
def test_the_span_is_that_of_the_times(num_frames, step):
    clip = ClipSampling(num_frames, step)
    times_s = clip.times_s(100.0)
    assert clip.span_s == pytest.approx(times_s[-1] - times_s[0])
    assert clip.before_s == pytest.approx(100 - times_s[0])
    assert clip.before_s >= times_s[-1] - 100 - 1e-9
    assert times_s[0] + clip.offsets_s == pytest.approx(times_s)


def test_a_clip_that_repeats_edge_frames_keeps_its_times():
    assert ClipSampling(4, 12).times_s(0.2, within_s=(0.0, 2.0)) == pytest.approx(
        [-0.6, -0.2, 0.2, 0.6]
    )
    with pytest.raises(ValueError, match="at_ends must be"):
        ClipSampling(4, 12, "mirror")


def frames_that_count(clip, time_s, within_s=None):
    """Times of the frames of a stream that weigh something; each alike, of two passes or of one."""
    times_s = clip.times_s(time_s, within_s=within_s)
    weights = clip.weights(time_s, within_s=within_s)
    assert len(times_s) == len(weights) == clip.frames_read == 2 * clip.num_frames
    assert weights.sum() == pytest.approx(1) and np.abs(times_s - time_s).max() <= clip.before_s
    assert set(np.unique(weights)) <= {0, np.float32(1 / clip.num_frames)}
    return times_s[weights > 0]


@pytest.mark.parametrize(("num_frames", "step"), [(1, 5), (4, 12), (8, 4), (13, 2.5)])
def test_a_stream_is_seen_in_frames_around_the_keyframe_of_passes_that_all_share(num_frames, step):
    clip = ClipSampling(num_frames, step, "inside", stream=True)
    length_s = num_frames * clip.step_s
    firsts = []
    for time_s in sorted([*np.arange(-2, 9, 0.07), length_s, 3 * length_s]):
        found = frames_that_count(clip, time_s)
        around = round(time_s / clip.step_s + 1e-9) + np.arange(num_frames) - num_frames // 2
        assert found == pytest.approx(around * clip.step_s, abs=clip.step_s / 2 + 1e-5)
        for one in np.split(clip.times_s(time_s), 2):
            assert one[0] / length_s == pytest.approx(round(one[0] / length_s), abs=1e-9)
            assert one == pytest.approx(one[0] + clip.offsets_s)
        firsts.append(clip.times_s(time_s)[0])
    assert firsts == sorted(firsts)


def test_windows_and_passes_of_a_stream_stay_inside():
    clip = ClipSampling(4, 6, "inside", stream=True)  # a frame every 0.2 s, passes of 0.8 s
    ends = {"within_s": (0.1, 2.5)}  # frames of 0.2 to 2.4 s
    assert frames_that_count(clip, 0.1, **ends) == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert clip.times_s(0.1, **ends)[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])  # moved inside
    assert frames_that_count(clip, 1.0, **ends) == pytest.approx([0.6, 0.8, 1.0, 1.2])
    assert clip.times_s(1.0, **ends)[4:] == pytest.approx([0.8, 1.0, 1.2, 1.4])
    for time_s in (2.1, 2.5):
        assert frames_that_count(clip, time_s, **ends)[-1] <= 2.4 + 1e-9
    assert frames_that_count(clip, 2.5, **ends) == pytest.approx([1.8, 2.0, 2.2, 2.4])
    assert clip.times_s(2.5, **ends)[4:] == pytest.approx([1.8, 2.0, 2.2, 2.4])
    for time_s in (0.0, 0.12, 0.3):  # a video shorter than a pass
        short = frames_that_count(clip, time_s, within_s=(0.0, 0.3))
        assert short == pytest.approx([0, 0.1, 0.2, 0.3])
    assert frames_that_count(clip, 0.3, within_s=(0.3, 0.3)) == pytest.approx([0.3] * 4)
    assert ClipSampling(4, 6, "inside").weights(0.3) is None


@pytest.mark.parametrize(("step", "at_ends"), [(0, "inside"), (4, "repeat")])
def test_a_stream_needs_steps_and_clips_inside(step, at_ends):
    with pytest.raises(ValueError, match="stay inside"):
        ClipSampling(4, step, at_ends, stream=True)
