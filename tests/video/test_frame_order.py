"""Every frame is given one time, and the times ascend."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from detection.video.frame_order import ascending_times_s

times = st.lists(st.integers(0, 10**8).map(lambda ms: ms / 1000), min_size=1, max_size=60)


@example([3.0] * 50 + [3.001])
@given(times)
def test_every_frame_has_one_time_after_the_one_before(told_s):
    own_s = ascending_times_s(told_s)
    assert len(own_s) == len(told_s)
    assert np.isfinite(own_s).all()
    assert (np.diff(own_s) > 0).all()


@given(st.lists(st.integers(1, 5), min_size=2, max_size=80))
def test_ascending_times_stay_what_they_are(gaps):
    told_s = np.cumsum(gaps) / 30
    assert ascending_times_s(told_s).tolist() == told_s.tolist()


@given(st.permutations(range(12)))
def test_times_out_of_order_are_sorted(order):
    told_s = np.asarray(order) / 25  # less than a second: no clock that was set anew
    assert ascending_times_s(told_s).tolist() == (np.arange(12) / 25).tolist()


def test_frames_of_one_time_come_evenly_before_the_next():
    np.testing.assert_allclose(
        ascending_times_s([0.0, 0.1, 0.2, 0.2, 0.3]), [0.0, 0.1, 0.2, 0.25, 0.3]
    )
    np.testing.assert_allclose(
        ascending_times_s([0.0, 0.3, 0.3, 0.3, 0.6]), [0.0, 0.3, 0.4, 0.5, 0.6]
    )


def test_a_clock_that_is_set_anew_goes_on():
    told_s = np.concatenate([np.arange(50) / 25, np.arange(50) / 25])
    np.testing.assert_allclose(ascending_times_s(told_s), np.arange(100) / 25)
