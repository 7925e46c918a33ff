"""Cards of bags, which have no picture: their numbers and the places of their tiles are drawn."""

import cv2
import h5py
import numpy as np
import pytest

from smalti.cohort import read_cohort
from smalti.review.bag_cards import draw_bag


@pytest.mark.parametrize("placed", [False, True])
@pytest.mark.parametrize("px", [1, 256, 5000])
def test_bags_are_drawn(tmp_path, placed, px):
    for i in range(4):
        with h5py.File(tmp_path / f"s{i}.h5", "w") as file:
            file["features"] = np.random.default_rng(i).normal(size=(30, 4)).astype("f4")
            if placed:
                file["coords"] = np.stack(np.divmod(np.arange(30), 6), axis=1) * 100
    (tmp_path / "t.csv").write_text("slide,label,site\n" + "".join(f"s{i},{'ab'[i % 2]},Zürich\n" for i in range(4)))
    cohort = read_cohort(tmp_path)
    picture = cv2.imdecode(np.frombuffer(draw_bag(cohort.labelled[0], cohort.features, px=px), np.uint8), 1)
    assert picture.shape[0] == picture.shape[1] == min(max(px, 128), 1024)
    blue = ((picture[..., 0] - picture[..., 2].astype(int)) > 30).mean()
    assert (blue > 0.05) == placed


def test_vectors_of_a_table_are_drawn(tmp_path):
    rows = [f"s{i},{'ab'[i % 2]}," + ",".join(f"{i * j / 7}" for j in range(9)) for i in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["slide,label," + ",".join(f"f{j}" for j in range(9)), *rows]))
    cohort = read_cohort(tmp_path)
    assert draw_bag(cohort.labelled[0], cohort.features, px=200).startswith(b"\xff\xd8")
