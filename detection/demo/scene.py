"""Renders a story at given times: frames, boxes and the visibility of people.

Legend: T times, N people, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.demo.casting import Story
from detection.demo.figure import draw
from detection.demo.looks import Colour
from detection.demo.scenery import paint
from detection.demo.skeleton import Array

NO_PERSON = 255


@dataclass(frozen=True)
class _Layer:
    """Shapes that are drawn together: one person or one prop.

    depth: ground height, larger is nearer.
    outlines: in pixels, each (T, K, 2).
    order: (T, shapes) which shape to draw when.
    colours: (T, shapes, 3).
    body: per shape, False for held objects.
    """

    depth: float
    person: int | None
    outlines: list[Array]
    order: NDArray[np.int64]
    colours: NDArray[np.int64]
    body: tuple[bool, ...]

    def shapes(self, index: int) -> tuple[list[Array], list[Colour]]:
        order = self.order[index]
        colours = self.colours[index]
        return [self.outlines[i][index] for i in order], [tuple(colours[i].tolist()) for i in order]


class StoryScene:
    """A story as seen by its camera at T times, in frames of (width, height) pixels."""

    def __init__(self, story: Story, time_s: Array, *, size_px: tuple[int, int]) -> None:
        self.story = story
        self.size_px = size_px
        self._view = story.camera.matrices(time_s, size_px)
        layers = [self._person_layer(i, time_s) for i in range(len(story.people))]
        layers += [self._prop_layer(i) for i in range(len(story.props))]
        self._layers = sorted(layers, key=lambda layer: layer.depth)
        self._background: tuple[NDArray[np.uint8], Array] | None = None

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return the (H, W, 3) uint8 RGB frame at time `index`."""
        if self._background is None:
            width, height = self.size_px
            self._background = paint(self.story.place, height, width / height)
        canvas, canvas_of_world = self._background
        square = np.vstack([canvas_of_world, (0, 0, 1)])
        matrix = self._view[index] @ np.linalg.inv(square)
        image = cv2.warpAffine(
            canvas, matrix, self.size_px, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        for layer in self._layers:
            draw(image, *layer.shapes(index))
        return image  # type: ignore[return-value]

    def boxes_px(self, index: int) -> Array:
        """Return (N, 4) boxes around whole figures, hidden parts included, clipped to the frame.

        Held objects do not count. A figure outside the frame gets a box without area.
        """
        boxes = np.zeros((len(self.story.people), 4))
        for layer in self._layers:
            if layer.person is not None:
                points = np.concatenate(
                    [o[index] for o, body in zip(layer.outlines, layer.body, strict=True) if body]
                )
                boxes[layer.person] = (*points.min(axis=0), *points.max(axis=0))
        width, height = self.size_px
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, width)
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, height)
        return boxes

    def people_seen(self, index: int) -> tuple[Array, Array]:
        """Return the shares (N,) of each person that are visible, and (N,) that lie in the frame.

        Visible: pixels that nothing nearer hides, as a share of the figure's pixels within the
        frame. In the frame: the latter as a share of all the figure's pixels.
        """
        width, height = self.size_px
        who = np.full((height, width), NO_PERSON, np.uint8)
        whole = np.zeros(len(self.story.people))
        inside = np.zeros(len(self.story.people))
        for layer in self._layers:
            outlines, _ = layer.shapes(index)
            name = NO_PERSON if layer.person is None else layer.person
            draw(who, outlines, [(name, name, name)] * len(outlines), smooth=False)
            if layer.person is not None:
                # A margin of half a frame: no figure reaches farther out.
                wide = np.zeros((2 * height, 2 * width), np.uint8)
                shift = np.array([width / 2, height / 2])
                draw(wide, [o + shift for o in outlines], [(1, 1, 1)] * len(outlines), smooth=False)
                own = wide[height // 2 :, width // 2 :][:height, :width]
                inside[layer.person], whole[layer.person] = own.sum(), wide.sum()
        visible = np.array([(who == person).sum() for person in range(len(whole))], float)
        return visible / np.maximum(inside, 1), inside / np.maximum(whole, 1)

    def _person_layer(self, number: int, time_s: Array) -> _Layer:
        person = self.story.people[number]
        parts = person.parts(time_s)
        depth = np.stack([part.depth for part in parts], axis=1)
        # Limbs farther from the viewer are a little darker.
        shade = np.clip(0.98 + 1.6 * depth, 0.66, 1.12)
        colours = np.array([part.colour for part in parts])[None] * shade[..., None]
        return _Layer(
            depth=person.ground_y,
            person=number,
            outlines=[self._to_pixels(part.outline) for part in parts],
            order=np.argsort(depth, axis=1, kind="stable"),
            colours=np.clip(colours, 0, 255).astype(np.int64),
            body=tuple(part.body for part in parts),
        )

    def _prop_layer(self, number: int) -> _Layer:
        prop = self.story.props[number]
        num_times = len(self._view)
        outlines = [
            self._to_pixels(np.broadcast_to(outline, (num_times, *outline.shape)))
            for outline, _ in prop.shapes
        ]
        colours = np.array([tone for _, tone in prop.shapes])
        return _Layer(
            depth=prop.ground_y,
            person=None,
            outlines=outlines,
            order=np.tile(np.arange(len(outlines)), (num_times, 1)),
            colours=np.broadcast_to(colours, (num_times, *colours.shape)),
            body=(False,) * len(outlines),
        )

    def _to_pixels(self, outline: Array) -> Array:
        """Transform (T, K, 2) world points to pixels of each frame."""
        turned = np.einsum("tij,tkj->tki", self._view[:, :, :2], outline)
        pixels: Array = turned + self._view[:, None, :, 2]
        return pixels
