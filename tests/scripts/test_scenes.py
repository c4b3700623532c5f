import cv2
import numpy as np
import pytest

from training import make_scenes, scenes


@pytest.mark.parametrize("seed", range(6))
def test_a_scene_is_the_same_at_any_size(seed):
    small, large = scenes.render(seed, 48), scenes.render(seed, 144)
    shrunk = cv2.resize(large, (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(float) - shrunk).mean() < 5
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.98


def test_scenes_follow_their_seed():
    assert np.array_equal(scenes.render([1, 2], 32), scenes.render([1, 2], 32))
    assert not np.array_equal(scenes.render([1, 2], 32), scenes.render([1, 3], 32))


def test_holes_agree_across_sizes_and_keep_their_share():
    for seed in range(20):
        small, large = scenes.hole(seed, 64), scenes.hole(seed, 256)
        shrunk = cv2.resize(large.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA)
        assert 0.04 <= small.mean() <= 0.5 and set(np.unique(large)) == {0, 1}
        assert np.abs(small - shrunk).mean() < 0.05  # lines are whole px wide


def test_scenes_are_written_once_and_never_those_of_the_training(tmp_path):
    make_scenes.main([f"output={tmp_path / 'scenes'}", "count=2", "side=40"])
    first, second = sorted((tmp_path / "scenes").iterdir())
    assert np.array_equal(cv2.imread(str(second))[..., ::-1], scenes.render([0, make_scenes.UNSEEN + 1], 40))
    before = first.stat().st_mtime_ns
    second.unlink()
    make_scenes.main([f"output={tmp_path / 'scenes'}", "count=2", "side=40"])
    assert first.stat().st_mtime_ns == before and second.exists()
    with pytest.raises(SystemExit, match="another output"):
        make_scenes.main([f"output={tmp_path / 'scenes'}", "count=2", "side=50"])


@pytest.mark.parametrize("arguments", [[], ["outptu=x"]])
def test_scenes_say_what_they_need(arguments):
    with pytest.raises(SystemExit, match="output"):
        make_scenes.main(arguments)
