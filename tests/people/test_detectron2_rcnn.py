"""The adapter of detectron2 by itself: against detectron2's own predictor, and on bad input."""

from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import small_detectron2
import torch

from detection.errors import UserError
from detection.people import detectron2_rcnn
from detection.people.detectron2_rcnn import Detectron2Detector, load_detectron2_detector
from detection.people.detectron2_weights import read_detectron2_weights

SIZES = [(96, 128), (130, 75), (60, 60)]
RETINANET = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
MASKS = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
KEYPOINTS = "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml"


@pytest.fixture
def detectron2():
    return pytest.importorskip("detectron2", reason="detectron2 is not installed (docs/people.md)")


def frames(sizes=SIZES):
    generator = torch.Generator().manual_seed(1)
    shapes = [(3, *size) for size in sizes]
    return [torch.randint(0, 256, s, generator=generator, dtype=torch.uint8) for s in shapes]


def spread(network, std=0.5):
    """Let a random last layer tell regions apart."""
    network.roi_heads.box_predictor.cls_score.weight.data.normal_(std=std)
    return network


class TestWithoutDetectron2:
    def test_absent(self, monkeypatch):
        monkeypatch.setattr(detectron2_rcnn.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UserError, match=r"not installed.*setuptools<81.*--no-build-isolation"):
            load_detectron2_detector("COCO-Detection/x.yaml", None)

    def test_broken_installation_keeps_its_reason(self, monkeypatch, tmp_path):
        for name in [name for name in sys.modules if name.split(".")[0] == "detectron2"]:
            monkeypatch.delitem(sys.modules, name)
        (tmp_path / "detectron2").mkdir()
        (tmp_path / "detectron2" / "__init__.py").write_text(
            "raise ImportError('_C.so: undefined symbol: _ZN3c10')\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(UserError, match=r"installed but cannot be.*undefined symbol") as caught:
            load_detectron2_detector("COCO-Detection/x.yaml", None)
        assert isinstance(caught.value.__cause__, ImportError)


class TestWeightFiles:
    """They are read without detectron2, and nothing in them is run."""

    arrays = {"backbone.conv.weight": np.arange(6, dtype=np.float32).reshape(1, 2, 3)}

    def written(self, tmp_path, content, name="model.pkl"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(content, protocol=2))
        return path

    @pytest.mark.parametrize("kind", [dict, OrderedDict])
    def test_model_zoo(self, tmp_path, kind):
        content = {"model": kind(self.arrays), "__author__": "Detectron2 Model Zoo"}
        found = read_detectron2_weights(self.written(tmp_path, content))
        assert (found.match_names, found.caffe2_names) == (False, False)
        np.testing.assert_array_equal(found.state["backbone.conv.weight"], *self.arrays.values())

    def test_model_zoo_of_converted_networks(self, tmp_path):
        content = {"model": self.arrays, "__author__": "torchvision", "matching_heuristics": True}
        found = read_detectron2_weights(self.written(tmp_path, content))
        assert (found.match_names, found.caffe2_names) == (True, False)

    def test_detectron_1(self, tmp_path):
        blobs = {"conv1_w": np.ones(2, np.float32), "conv1_w_momentum": np.ones(2, np.float32)}
        found = read_detectron2_weights(self.written(tmp_path, {"blobs": blobs, "cfg": "text"}))
        assert list(found.state) == ["conv1_w"]
        assert (found.match_names, found.caffe2_names) == (True, True)

    def test_weights_can_be_written_to(self, tmp_path):
        path = self.written(tmp_path, {"model": self.arrays, "__author__": "x"})
        read_detectron2_weights(path).state["backbone.conv.weight"].add_(1)

    def test_trainers_checkpoint(self, tmp_path):
        layer = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        content = {"model": layer.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(content | {"iteration": 599}, tmp_path / "model_final.pth")
        found = read_detectron2_weights(tmp_path / "model_final.pth")
        assert set(found.state) == {"weight", "bias"}
        assert not found.match_names

    def test_names_of_parallel_training(self, tmp_path):
        torch.save({"model": {"module.weight": torch.ones(1)}}, tmp_path / "model.pth")
        assert list(read_detectron2_weights(tmp_path / "model.pth").state) == ["weight"]

    def test_torchs_file_under_the_name_of_a_pickle(self, tmp_path):
        torch.save({"model": {"weight": torch.ones(1)}}, tmp_path / "model.pkl")
        assert list(read_detectron2_weights(tmp_path / "model.pkl").state) == ["weight"]

    @pytest.mark.parametrize("name", ["model.pkl", "model.pth"])
    def test_nothing_in_them_is_run(self, tmp_path, name):
        class Payload:
            def __reduce__(self):
                return Path.touch, (tmp_path / "was_run",)

        content = {"model": {"weight": Payload()}, "__author__": "x"}
        path = self.written(tmp_path, content, "model.pkl")
        if name == "model.pth":
            path = tmp_path / name
            torch.save(content, path)
        with pytest.raises(UserError, match="asks for|refused"):
            read_detectron2_weights(path)
        assert not (tmp_path / "was_run").exists()

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ([1, 2], "holds no weights"),
            ({"model": {}, "__author__": "x"}, "holds no weights"),
            ({"model": "text", "__author__": "x"}, "holds no weights"),
            ({"blobs": [1]}, "holds no weights"),
            ({}, "holds no weights"),
        ],
    )
    def test_no_weights_in_it(self, tmp_path, content, reason):
        with pytest.raises(UserError, match=reason):
            read_detectron2_weights(self.written(tmp_path, content))

    @pytest.mark.parametrize("name", ["model.pkl", "model.pth", "model"])
    def test_no_weights_file(self, tmp_path, name):
        with pytest.raises(UserError, match="not found"):
            read_detectron2_weights(tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(UserError, match=name):
            read_detectron2_weights(tmp_path / name)
        (tmp_path / name).write_bytes(b"<html>404</html>")
        with pytest.raises(UserError, match=name):
            read_detectron2_weights(tmp_path / name)


@pytest.mark.detectron2
class TestAgainstDetectron2:
    """detectron2's own predictor, one frame at a time, is the reference."""

    @pytest.mark.parametrize("channels", ["BGR", "RGB"])
    @pytest.mark.parametrize("base", [None, RETINANET, MASKS, KEYPOINTS])
    def test_same_boxes(self, detectron2, tmp_path, base, channels):
        from detectron2.engine import DefaultPredictor

        cfg = small_detectron2.small_config(1, **({"base": base} if base else {}))
        cfg.INPUT.FORMAT = channels
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.05
        cfg.MODEL.RETINANET.TOPK_CANDIDATES_TEST = 50
        network = small_detectron2.build(cfg)
        if base == RETINANET:
            network.head.cls_score.bias.data.fill_(0)
        else:
            spread(network)
        config, weights = small_detectron2.write(tmp_path, cfg, network)
        detector = load_detectron2_detector(config, weights, score_floor=0.05)
        assert not hasattr(getattr(detector.network, "roi_heads", None), "mask_head")
        cfg.MODEL.WEIGHTS = weights
        predictor = DefaultPredictor(cfg)
        for frame, found in zip(frames(), detector.detect(frames()), strict=True):
            height, width = frame.shape[-2:]
            bgr = np.ascontiguousarray(frame.permute(1, 2, 0).numpy()[:, :, ::-1])
            expected = predictor(bgr)["instances"]
            assert len(found) == len(expected) > 3
            boxes = expected.pred_boxes.tensor.numpy() / [width, height, width, height]
            np.testing.assert_allclose(found.xyxy_01, boxes, atol=1e-5)
            np.testing.assert_allclose(found.score, expected.scores.numpy(), atol=1e-5)
            other = predictor(bgr[:, :, ::-1])["instances"]  # the wrong order would be noticed
            assert len(other) != len(found) or not np.allclose(other.scores, found.score, atol=1e-5)

    def test_boxes_are_measured_in_the_frame_that_was_given(self, detectron2):
        """A stand-in that finds the reddest place: nothing here is left to a random network."""
        from detectron2.structures import Boxes, Instances

        class FindsRed(torch.nn.Module):
            def forward(self, inputs):
                assert len({tuple(given["image"].shape) for given in inputs}) == 1
                return [{"instances": self.find(**given)} for given in inputs]

            def find(self, image, height, width, index):
                rows, columns = torch.where(image[2] > 128)  # BGR
                assert image[:2].max() == 0
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                scale = [width / image.shape[2], height / image.shape[1]] * 2
                found = Instances((height, width))
                found.pred_boxes = Boxes(torch.tensor([box]) * torch.tensor(scale))
                found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
                return found

        images = [torch.zeros(3, *size, dtype=torch.uint8) for size in [(100, 200), (300, 90)]]
        for image in images:
            height, width = image.shape[-2:]
            image[0, height // 5 : height // 2, width // 4 : width] = 255
        detector = Detectron2Detector(
            FindsRed(), name="red", actor_ids=[0], short_side_px=60, long_side_px=400
        )
        for found in detector.detect(images * 2):
            assert found.xyxy_01.tolist() == [pytest.approx([0.25, 0.2, 1, 0.5], abs=0.01)]
            assert found.score.tolist() == pytest.approx([0.9])

    def test_short_side_0_keeps_the_size(self, detectron2):
        class Sizes(torch.nn.Module):
            def forward(self, inputs):
                raise AssertionError(tuple(inputs[0]["image"].shape))

        detector = Detectron2Detector(
            Sizes(), name="sizes", actor_ids=[0], short_side_px=0, long_side_px=0
        )
        with pytest.raises(AssertionError, match=r"\(3, 31, 47\)"):
            detector.detect(frames([(31, 47)]))

    def test_model_zoo_form_gives_the_same_as_the_trainers(self, detectron2, tmp_path):
        cfg = small_detectron2.small_config(1)
        network = spread(small_detectron2.build(cfg))
        config, weights = small_detectron2.write(tmp_path, cfg, network)
        arrays = {key: value.numpy() for key, value in network.state_dict().items()}
        # Names without the first part: what detectron2's rules for names put right.
        renamed = {key.replace("backbone.bottom_up.", ""): v for key, v in arrays.items()}
        expected = load_detectron2_detector(config, weights).detect(frames())
        for number, content in enumerate(
            [
                {"model": arrays, "__author__": "Detectron2 Model Zoo"},
                {"model": renamed, "__author__": "anyone", "matching_heuristics": True},
            ]
        ):
            path = tmp_path / f"{number}.pkl"
            path.write_bytes(pickle.dumps(content))
            for first, second in zip(
                load_detectron2_detector(config, str(path)).detect(frames()),
                expected,
                strict=True,
            ):
                np.testing.assert_array_equal(first.xyxy_01, second.xyxy_01)
                np.testing.assert_array_equal(first.score, second.score)

    def test_a_network_without_boxes_is_refused(self, detectron2):
        class Proposes(torch.nn.Module):
            def forward(self, inputs):
                return [{"proposals": None} for _ in inputs]

        detector = Detectron2Detector(
            Proposes(), name="odd", actor_ids=[0], short_side_px=32, long_side_px=64
        )
        with pytest.raises(UserError, match="odd: this network gives proposals"):
            detector.detect(frames())


@pytest.mark.detectron2
@pytest.mark.usefixtures("detectron2")
class TestConfigurations:
    def refused(self, config, weights=None, **options) -> str:
        with pytest.raises(UserError) as caught:
            load_detectron2_detector(str(config), weights, **options)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        return str(caught.value)

    def written(self, tmp_path, text) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    def test_no_such_file_or_name(self):
        message = self.refused("COCO-Detection/faster_rcnn_X101_32x8d_FPN_3x.yaml")
        assert "did you mean COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml" in message

    def test_programs_are_not_run(self, tmp_path):
        path = tmp_path / "config.py"
        path.write_text(f"open({str(tmp_path / 'was_run')!r}, 'w')\n")
        assert "are not executed" in self.refused(path)
        assert not (tmp_path / "was_run").exists()

    def test_objects_in_yaml_are_not_made(self, tmp_path):
        mark = tmp_path / "was_run"
        text = f"OUTPUT_DIR: !!python/object/apply:os.mkdir [{str(mark)!r}]\n"
        base = tmp_path / "base.yaml"
        base.write_text(text)
        assert "cannot be read" in self.refused(self.written(tmp_path, text))
        assert "cannot be read" in self.refused(self.written(tmp_path, f"_BASE_: {base}\n"))
        assert not mark.exists()

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "not a configuration"),
            ("just text", "not a configuration"),
            ("- a\n- b\n", "not a configuration"),
            ("MODEL: [\n", "cannot be read"),
            ("MODEL:\n  NO_SUCH_OPTION: 1\n", "NO_SUCH_OPTION"),
            ("INPUT:\n  MIN_SIZE_TEST: large\n", "MIN_SIZE_TEST"),
            ("_BASE_: config.yaml\n", "not a configuration"),
            ("_BASE_: absent.yaml\n", "absent.yaml"),
        ],
    )
    def test_what_does_not_load(self, tmp_path, text, reason):
        assert reason in self.refused(self.written(tmp_path, text), "weights.pth")

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("COCO-Detection/rpn_R_50_FPN_1x.yaml", "without a class"),
            ("COCO-Detection/fast_rcnn_R_50_FPN_1x.yaml", "proposals of another network"),
            ("Misc/semantic_R_50_FPN_1x.yaml", "not objects"),
        ],
    )
    def test_networks_that_find_no_person(self, name, reason):
        assert reason in self.refused(name)

    def test_a_network_that_cannot_be_built(self, tmp_path):
        text = "MODEL:\n  RESNETS: {DEPTH: 19}\n  ROI_HEADS: {NUM_CLASSES: 1}\n"
        assert "no network can be built" in self.refused(self.written(tmp_path, text), "w.pth")

    def test_channels_that_frames_do_not_have(self, tmp_path):
        cfg = small_detectron2.small_config(1)
        cfg.INPUT.FORMAT = "YUV-BT.601"
        network = small_detectron2.build(cfg)
        config, weights = small_detectron2.write(tmp_path, cfg, network)
        assert "YUV-BT.601" in self.refused(config, weights)

    def test_a_configuration_of_ones_own_needs_weights(self, tmp_path):
        assert "requires weights" in self.refused(self.written(tmp_path, "VERSION: 2\n"))

    def test_weights_of_another_network(self, tmp_path):
        cfg = small_detectron2.small_config(1)
        network = small_detectron2.build(cfg)
        config, weights = small_detectron2.write(tmp_path, cfg, network)
        state = network.state_dict()
        key = "roi_heads.box_predictor.cls_score.weight"
        torch.save({"model": {**state, key: state[key][:1]}}, weights)
        assert "has shape (1, 64), (2, 64) is required" in self.refused(config, weights)
        torch.save({"model": {k: v for k, v in state.items() if k != key}}, weights)
        assert "1 weights are not in it" in self.refused(config, weights)
        arrays = {"conv1_w": np.zeros((64, 3, 7, 7), np.float32)}
        (tmp_path / "backbone.pkl").write_bytes(pickle.dumps(arrays))
        assert "another network" in self.refused(config, str(tmp_path / "backbone.pkl"))

    def test_names_that_fit_nothing(self, tmp_path):
        cfg = small_detectron2.small_config(1)
        config, _ = small_detectron2.write(tmp_path, cfg, small_detectron2.build(cfg))
        arrays = {"weight": np.zeros(1, np.float32)}
        (tmp_path / "other.pkl").write_bytes(pickle.dumps(arrays))
        assert "other.pkl" in self.refused(config, str(tmp_path / "other.pkl"))

    def test_model_zoo_weights_where_there_is_no_network(self, monkeypatch):
        from detectron2.utils.file_io import PathManager

        asked = []

        def unreachable(address):
            asked.append(address)
            raise URLError("Name or service not known")

        monkeypatch.setattr(PathManager, "get_local_path", unreachable)
        message = self.refused("COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x.yaml")
        assert "cannot be fetched" in message
        assert len(asked) == 1
        assert asked[0].startswith(
            "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/faster_rcnn_X_101_32x8d"
        )

    def test_names_that_the_model_zoo_has_no_weights_for(self):
        name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou.yaml"
        assert "lists no weights" in self.refused(name)

    def test_without_pkg_resources_only_the_addresses_are_lost(self, monkeypatch):
        for name in [n for n in sys.modules if n.startswith("detectron2.model_zoo")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(sys.modules["detectron2"], "model_zoo", raising=False)
        monkeypatch.setitem(sys.modules, "pkg_resources", None)
        name = "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"
        assert "setuptools<81" in self.refused(name)
        assert "not found" in self.refused(name, "absent.pth")


@pytest.mark.detectron2
@pytest.mark.usefixtures("detectron2")
class TestClasses:
    def opened(self, tmp_path, num_classes, test_data, **options):
        cfg = small_detectron2.small_config(num_classes)
        cfg.DATASETS.TEST = test_data
        network = small_detectron2.build(cfg)
        return load_detectron2_detector(
            *small_detectron2.write(tmp_path, cfg, network), **options
        )._ids.tolist()

    def test_names_of_a_data_set_that_detectron2_knows(self, tmp_path):
        coco = ("coco_2017_val",)
        assert self.opened(tmp_path, 80, coco) == [0]
        assert self.opened(tmp_path, 80, coco, actor_classes=["sheep", "dog"]) == [16, 18]

    def test_the_only_class(self, tmp_path):
        """A network of one's own that still names COCO's data, as its base did."""
        assert self.opened(tmp_path, 1, ("coco_2017_val",)) == [0]
        assert self.opened(tmp_path, 1, ()) == [0]

    def test_numbers_where_there_are_no_names(self, tmp_path):
        mine = ("pigs_of_mine_val",)
        assert self.opened(tmp_path, 3, mine, actor_classes=["2", "0"]) == [0, 2]
        with pytest.raises(UserError, match="no class 'person'; name .* among 0, 1, 2"):
            self.opened(tmp_path, 3, mine)
        with pytest.raises(UserError, match="no class '3' among its 3; it knows 0, 1, 2"):
            self.opened(tmp_path, 3, mine, actor_classes=["3"])

    def test_asking_for_names_registers_nothing(self, tmp_path):
        from detectron2.data import MetadataCatalog

        self.opened(tmp_path, 1, ("never_registered",))
        assert "never_registered" not in MetadataCatalog.list()
