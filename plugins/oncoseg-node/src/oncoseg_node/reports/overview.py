"""All structures of a case in one picture: their outlines from the front and from the left on the mean of the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from oncoseg_core import BoolArray, Volume
from oncoseg_node.reports.pictures import GAP, HEAD, PANEL, PlaneName, Upright, Window, jpeg, marks, outline_path

_VIEWS: tuple[tuple[PlaneName, str], ...] = (("coronal", "from the front"), ("sagittal", "from the left"))


class Overview:
    """Takes one mask after the other, and keeps no more of it than its outlines."""

    def __init__(self, volume: Volume) -> None:
        self._upright = Upright.of(volume.geometry)
        grey = self._upright.apply(volume.voxels[0])
        self._means = [_mean(grey, axis)[::-1] for axis in (1, 2)]
        self._outlines: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])

    def add(self, mask: BoolArray, colour: tuple[int, int, int]) -> None:
        """Add a structure, bool ``(z, y, x)`` on the volume's grid."""
        upright = np.asarray(self._upright.apply(mask), dtype=bool)
        for axis, outlines in zip((1, 2), self._outlines, strict=True):
            outlines.append((outline_path(np.any(upright, axis=axis)[::-1]), "#{:02x}{:02x}{:02x}".format(*colour)))

    def svg(self) -> str:
        """The picture of what was added."""
        z_mm, y_mm, x_mm = self._upright.spacing
        size = 1.5 * PANEL
        side_mm = max(length * mm for length, mm in zip(_shape(self._means), (z_mm, y_mm, x_mm), strict=True))
        scale, body = size / side_mm, ""
        for number, (mean, outlines, across_mm) in enumerate(
            zip(self._means, self._outlines, (x_mm, y_mm), strict=True)
        ):
            rows, columns = mean.shape
            width, height = columns * across_mm * scale, rows * z_mm * scale
            x, y = (size - width) / 2, (size - height) / 2
            name, title = _VIEWS[number]
            stroke = 'fill="none" vector-effect="non-scaling-stroke" stroke-width="1.6"'
            lines = "".join(f'<path d="{path}" {stroke} stroke="{colour}"/>' for path, colour in outlines)
            image = jpeg(mean, _window(mean), round(width), round(height))
            body += (
                f'<g transform="translate({number * (size + GAP):g} 0)">'
                f'<text x="0" y="15" font-size="13" fill="#3d444d">{title}</text>'
                f'<svg y="{HEAD:g}" width="{size:g}" height="{size:g}"><rect width="100%" height="100%"/>'
                f'<image x="{x:.3f}" y="{y:.3f}" width="{width:.3f}" height="{height:.3f}" preserveAspectRatio="none" '
                f'href="data:image/jpeg;base64,{image}"/>'
                f'<g transform="translate({x:.3f} {y:.3f}) scale({across_mm * scale:.5f} {z_mm * scale:.5f})">'
                f"{lines}</g>{marks(name, side_mm, size)}</svg></g>"
            )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * size + GAP:g} {size + HEAD:g}" role="img" '
            f'font-family="system-ui,sans-serif"><title>All structures</title>{body}</svg>'
        )


def _shape(means: list[npt.NDArray[np.float32]]) -> tuple[int, int, int]:
    (z, x), (_, y) = (mean.shape for mean in means)
    return z, y, x


def _mean(grey: npt.NDArray[np.generic], axis: int) -> npt.NDArray[np.float32]:
    """The mean along an axis ``(z, the other)``, slice by slice: no second image in memory."""
    return np.stack([np.nan_to_num(plane.astype(np.float32)).mean(axis=axis - 1) for plane in grey])


def _window(mean: npt.NDArray[np.float32]) -> Window:
    low, high = (float(one) for one in np.percentile(mean, (1, 99.5)))
    return Window(low, max(high, low + 1e-6))
