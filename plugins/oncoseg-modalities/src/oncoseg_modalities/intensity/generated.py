"""Generated pictures, one per modality, for documentation and ``oncoseg plugins show``: ellipses, textures and noise.

They have each modality's units, depth, background and dirt (air, frame, border, reflections, NaN), and no anatomy.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_SIZE = 256

Plane = npt.NDArray[np.float64]
Whole = TypeVar("Whole", bound=np.integer[Any])


def ct() -> npt.NDArray[np.int16]:
    """Hounsfield units: a thorax with lungs, spine and a nodule, in air, outside the scanner's field padding."""
    hu = np.full((_SIZE, _SIZE), -1000.0)
    hu[_disc(0.5, 0.5, 0.33, 0.42)] = 40
    for x in (0.32, 0.68):
        hu[_disc(0.47, x, 0.22, 0.14)] = -850
    hu[_disc(0.74, 0.5, 0.06, 0.06)] = 700
    hu[_disc(0.42, 0.35, 0.035, 0.035)] = 60
    hu += _noise(0, 15)
    hu[~_disc(0.5, 0.5, 0.499, 0.499)] = -2000
    return _volume(hu, np.int16)


def mri() -> npt.NDArray[np.uint16]:
    """A head in air with Rayleigh noise: scalp, brain, ventricles, a bright lesion."""
    signal = np.zeros((_SIZE, _SIZE))
    signal[_disc(0.5, 0.5, 0.42, 0.34)] = 900
    signal[_disc(0.5, 0.5, 0.38, 0.30)] = 420
    signal *= 1 + 0.12 * _texture(6, 1)
    signal[_disc(0.47, 0.5, 0.09, 0.05)] = 150
    signal[_disc(0.36, 0.6, 0.06, 0.05)] = 800
    return _volume(np.hypot(signal + _noise(2, 9), _noise(3, 9)), np.uint16)


def ultrasound() -> npt.NDArray[np.uint8]:
    """A fan of speckle (stored as RGB) with a dark lesion and its bright rim, black outside, a saturated label."""
    echo = 90 * np.exp(-1.2 * _rows()) * (1 + 0.5 * _texture(10, 4))
    echo[_disc(0.55, 0.5, 0.13, 0.16)] = 60
    echo[_disc(0.55, 0.5, 0.12, 0.15)] *= 0.3
    echo *= np.random.default_rng(5).rayleigh(1.0, echo.shape)
    echo[np.abs(_columns() - 0.5) > 0.18 + 0.35 * _rows()] = 0
    echo[6:14, 8:40] = 255
    return np.repeat(_volume(echo, np.uint8), 3, axis=0)


def dermoscopy() -> npt.NDArray[np.uint8]:
    """A brown lesion on pink skin under a reddish light, with dark hairs."""
    lesion = _soft(_disc(0.5, 0.5, 0.22, 0.26)) * (0.8 + 0.2 * _texture(12, 6))
    skin = 1 + 0.05 * _texture(5, 7)
    hairs = np.abs(np.sin(9 * _columns() + 3 * _rows())) < 0.02
    channels = [
        np.where(hairs, 45, level * skin * (1 - depth * lesion))
        for level, depth in ((225, 0.45), (165, 0.62), (140, 0.66))
    ]
    return _picture(channels)


def endoscopy() -> npt.NDArray[np.uint8]:
    """Red mucosa with a polyp, reflections of the lamp, and the black frame of the video."""
    light = np.exp(-3 * ((_rows() - 0.5) ** 2 + (_columns() - 0.5) ** 2)) * (1 + 0.1 * _texture(7, 8))
    polyp = _soft(_disc(0.55, 0.58, 0.16, 0.15))
    shine = _disc(0.47, 0.53, 0.02, 0.03) | _disc(0.3, 0.35, 0.015, 0.02)
    frame = ~_disc(0.5, 0.5, 0.47, 0.47)
    channels = [
        np.where(frame, 4, np.where(shine, 255, level * light * (1 + gain * polyp)))
        for level, gain in ((190, 0.1), (85, 0.35), (65, 0.4))
    ]
    return _picture(channels)


def xray() -> npt.NDArray[np.uint16]:
    """A long bone with a lesion in 12 bits: what the detector saw through it falls exponentially."""
    across = np.abs(_columns() - 0.5)
    flesh = np.sqrt(np.clip(1 - (across / 0.36) ** 2, 0, None))
    bone = np.sqrt(np.clip(1 - (across / 0.13) ** 2, 0, None))
    lesion = _soft(_disc(0.45, 0.52, 0.1, 0.07))
    seen = 1 - np.exp(-0.5 * flesh - 1.4 * bone * (1 - 0.7 * lesion) * (1 + 0.05 * _texture(20, 9)))
    return _volume(3900 * seen**2 + 40 + _noise(10, 8), np.uint16)


def pet() -> npt.NDArray[np.float32]:
    """SUV: a body near 1, a hot brain and bladder, two lesions; NaN outside the field of view."""
    suv = 0.02 + 0.9 * _soft(_disc(0.5, 0.5, 0.44, 0.2))
    for y, x, radius, uptake in ((0.14, 0.5, 0.06, 7.0), (0.85, 0.5, 0.035, 14.0), (0.42, 0.42, 0.02, 8.0)):
        suv += uptake * _soft(_disc(y, x, radius, radius))
    suv += 5 * _soft(_disc(0.55, 0.56, 0.025, 0.03))
    suv *= np.random.default_rng(11).gamma(30, 1 / 30, suv.shape)
    suv[~_disc(0.5, 0.5, 0.49, 0.49)] = np.nan
    return suv[np.newaxis, np.newaxis].astype(np.float32)


def mammography() -> npt.NDArray[np.uint16]:
    """A breast at the left edge in 12 bits: fat, gland, a dense mass, and black air."""
    breast = _soft(_disc(0.5, 0.0, 0.4, 0.6))
    gland = _soft(_disc(0.48, 0.15, 0.25, 0.25)) * (0.7 + 0.3 * _texture(14, 12))
    mass = _soft(_disc(0.42, 0.2, 0.05, 0.045))
    density = (900 + 60 * _texture(8, 13)) * breast + 1100 * gland * breast + 900 * mass + _noise(14, 15)
    return _volume(np.where(breast > 0.05, density, 0), np.uint16)


def cxr() -> npt.NDArray[np.uint16]:
    """A chest in 12 bits: two lungs, the heart, collimator blades and a burned-in side mark."""
    chest = 2300 * _soft(_disc(0.55, 0.5, 0.5, 0.45)) + 300
    for x in (0.32, 0.68):
        chest -= 1500 * _soft(_disc(0.48, x, 0.3, 0.14))
    chest += 500 * _soft(_disc(0.62, 0.54, 0.12, 0.13)) + 250 * _soft(_disc(0.35, 0.3, 0.03, 0.03))
    chest += 60 * _texture(10, 15) + _noise(16, 20)
    chest[:, :8], chest[:, -8:], chest[:6] = 0, 0, 0
    chest[10:22, 12:22] = 4095
    return _volume(chest, np.uint16)


def srh() -> npt.NDArray[np.uint16]:
    """Two channels of 16 bits: lipids with dark nuclei, proteins with bright ones, most of it in the lowest tenth."""
    rng = np.random.default_rng(17)
    nuclei = np.zeros((_SIZE, _SIZE), bool)
    for y, x, size in zip(*rng.random((2, 90)), rng.uniform(0.012, 0.03, 90), strict=True):
        nuclei |= _disc(y, x, size, size)
    cells = _soft(nuclei)
    lipids = 2600 * (1 + 0.5 * _texture(9, 18)) * (1 - 0.75 * cells) + _noise(19, 120)
    proteins = 1500 * (1 + 0.3 * _texture(9, 20)) * (1 + 1.3 * cells) + _noise(21, 120)
    fibres = np.abs(np.sin(14 * _rows() + 5 * _columns())) < 0.03
    lipids[fibres] = 26000
    return np.concatenate([_volume(lipids, np.uint16), _volume(proteins, np.uint16)])


def _rows() -> Plane:
    return np.repeat(np.linspace(0, 1, _SIZE)[:, np.newaxis], _SIZE, axis=1)


def _columns() -> Plane:
    return _rows().T


def _disc(y: float, x: float, half_height: float, half_width: float) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = ((_rows() - y) / half_height) ** 2 + ((_columns() - x) / half_width) ** 2 <= 1
    return inside


def _soft(mask: npt.NDArray[np.bool_]) -> Plane:
    """A mask with edges that rise over some pixels."""
    soft = mask.astype(np.float64)
    for _ in range(3):
        for axis in (0, 1):
            soft = (np.roll(soft, 1, axis) + soft + np.roll(soft, -1, axis)) / 3
    return soft


def _texture(waves: int, seed: int) -> Plane:
    """A smooth random pattern about 0, between -1 and 1."""
    rng = np.random.default_rng(seed)
    pattern: Plane = np.zeros((_SIZE, _SIZE))
    for _ in range(24):
        across, down, phase = rng.uniform(-waves, waves), rng.uniform(-waves, waves), rng.uniform(0, 2 * np.pi)
        pattern += np.sin(2 * np.pi * (across * _columns() + down * _rows()) + phase)
    pattern /= np.abs(pattern).max()
    return pattern


def _noise(seed: int, deviation: float) -> Plane:
    return np.random.default_rng(seed).normal(0, deviation, (_SIZE, _SIZE))


def _volume(plane: Plane, dtype: type[Whole]) -> npt.NDArray[Whole]:
    """``(1, 1, y, x)``, rounded and within what the type holds."""
    limits = np.iinfo(dtype)
    return plane.round().clip(limits.min, limits.max).astype(dtype)[np.newaxis, np.newaxis]


def _picture(channels: list[Plane]) -> npt.NDArray[np.uint8]:
    return np.concatenate([_volume(channel, np.uint8) for channel in channels])
