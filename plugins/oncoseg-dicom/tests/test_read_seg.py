"""SEG objects of whatever maker: read where they say that they are, or refused with what is wrong and how far off."""

import copy
import io

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RLELossless
from seg_builders import header_of, series_in_memory, some_masks

from oncoseg_core import DataError, GeometryError, ImageReadError, OncoSegError, Segmentation
from oncoseg_dicom.quiet import quiet
from oncoseg_dicom.seg.read import read_segments
from oncoseg_dicom.seg.sources import planes_as_images
from oncoseg_dicom.seg.write import SegSettings, write_seg

AXIAL = (1, 0, 0, 0, 1, 0)
SHAPE = (3, 6, 5)
PLACES = [(-50.5, 20.25, z) for z in (0.0, 2.0, 5.0)]


def series_of(places=PLACES, size=SHAPE[1:], **more):
    return series_in_memory(places, AXIAL, (0.8, 0.9), size, **more)


@pytest.fixture
def series():
    return series_of()


@pytest.fixture
def masks():
    return dict(zip(("liver", "lesion"), some_masks(np.random.default_rng(2), SHAPE, 2).values(), strict=True))


@pytest.fixture
def dataset(series, masks, tmp_path):
    write_seg(Segmentation(masks, series.geometry), series, tmp_path / "seg.dcm", SegSettings(source=tmp_path))
    return pydicom.dcmread(tmp_path / "seg.dcm")


def assert_same(found, masks):
    assert list(found) == list(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask)


def by_highdicom(series, pixels, kind, syntax=ExplicitVRLittleEndian, **more):
    """A SEG of another kind, by highdicom itself; ``pixels`` ``(z, y, x)`` or one more axis for segments."""
    algorithm = highdicom.AlgorithmIdentificationSequence("a", codes.DCM.ArtificialIntelligence, "1")
    count = pixels.shape[3] if pixels.ndim == 4 else int(pixels.max())
    return highdicom.seg.Segmentation(
        planes_as_images(series), pixels, kind,
        [
            highdicom.seg.SegmentDescription(
                number, f"structure {number}", codes.SCT.Tissue, codes.SCT.Tissue, "AUTOMATIC", algorithm
            )
            for number in range(1, count + 1)
        ],
        "1.2.3.4.5.8", 1, "1.2.3.4.5.9", 1, "Other", "Other", "1", "1",
        transfer_syntax_uid=syntax, omit_empty_frames=False, **more,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["PROBABILITY", "OCCUPANCY"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_fractional_one_is_cut_at_a_half_and_that_is_told(kind, syntax, series):
    values = np.zeros((*SHAPE, 1), np.float32)
    values[..., 0].flat[:6] = [0.49, 0.5, 0.51, 1.0, 0.01, 0.75]
    fractional = by_highdicom(series, values, "FRACTIONAL", syntax, fractional_type=kind, max_fractional_value=100)
    found = read_segments(fractional, series)
    assert np.flatnonzero(found.masks["structure 1"]).tolist() == [1, 2, 3, 5]
    assert found.notes == (f"the SEG is fractional ({kind.lower()}); voxels of 0.5 and more were taken",)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_label_map_is_read_without_its_background(syntax, series):
    pixels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    found = read_segments(by_highdicom(series, pixels, "LABELMAP", syntax), series)
    assert_same(found.masks, {"structure 1": pixels == 1, "structure 2": pixels == 2})
    assert found.notes == ()


def test_the_order_of_frames_means_nothing(series, dataset, masks):
    order = list(range(len(dataset.PerFrameFunctionalGroupsSequence)))[::-1]
    frames = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")[: len(order) * 30]
    dataset.PixelData = np.packbits(frames.reshape(len(order), 30)[order], bitorder="little").tobytes() + b"\0\0"
    dataset.PerFrameFunctionalGroupsSequence = [dataset.PerFrameFunctionalGroupsSequence[index] for index in order]
    assert_same(read_segments(dataset, series).masks, masks)


def test_place_and_spacing_may_be_told_per_frame(series, dataset, masks):
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        for keyword in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
            setattr(frame, keyword, copy.deepcopy(shared[keyword].value))
    del dataset.SharedFunctionalGroupsSequence
    assert_same(read_segments(dataset, series).masks, masks)


def test_a_part_of_the_image_is_read_in_its_place(series):
    part = series_of([(x + 2 * 0.9, y + 0.8, z) for x, y, z in PLACES], (4, 3))
    pixels = np.random.default_rng(0).integers(0, 2, (3, 4, 3)).astype(np.uint8)
    expected = np.zeros(SHAPE, bool)
    expected[:, 1:5, 2:5] = pixels
    assert_same(read_segments(by_highdicom(part, pixels, "BINARY"), series).masks, {"structure 1": expected})


def test_what_reaches_beyond_the_image_is_refused(series):
    beside = series_of([(x + 2 * 0.9, y, z) for x, y, z in PLACES])
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[0, 0, 0] = 1
    assert read_segments(by_highdicom(beside, pixels, "BINARY"), series).masks["structure 1"][0, 0, 2]
    pixels[0, 0, 4] = 1
    with pytest.raises(GeometryError, match="reaches beyond the images of the series"):
        read_segments(by_highdicom(beside, pixels, "BINARY"), series)


def test_turned_frames_are_read(series):
    """Rows run down the series' columns, backwards."""
    turned = series_in_memory(
        [(x + 4 * 0.9, y, z) for x, y, z in PLACES], (0, 1, 0, -1, 0, 0), (0.9, 0.8), (SHAPE[2], SHAPE[1])
    )
    pixels = np.random.default_rng(0).integers(0, 2, (3, SHAPE[2], SHAPE[1])).astype(np.uint8)
    expected = np.swapaxes(pixels, 1, 2)[:, :, ::-1] != 0
    assert_same(read_segments(by_highdicom(turned, pixels, "BINARY"), series).masks, {"structure 1": expected})


@pytest.mark.parametrize("frames", [False, True])
def test_a_frame_without_a_place_lies_on_the_image_that_it_names(frames, masks, tmp_path):
    series = series_of(frames=frames)
    write_seg(Segmentation(masks, series.geometry), series, tmp_path / "seg.dcm", SegSettings(source=tmp_path))
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.PlanePositionSequence
    assert_same(read_segments(dataset, series).masks, masks)
    dataset.PerFrameFunctionalGroupsSequence[1].DerivationImageSequence = []
    with pytest.raises(GeometryError, match="frame 2 of the SEG has no position and names no single image"):
        read_segments(dataset, series)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([(x, y, z + 0.9) for x, y, z in PLACES], "frame 1 of the SEG lies 0.9 mm off the nearest slice"),
        ([(x, y + 0.3, z) for x, y, z in PLACES], "frame 1 of the SEG lies up to 0.3 mm beside the pixels"),
    ],
)
def test_a_frame_between_voxels_is_refused_with_the_distance(places, said, dataset):
    with pytest.raises(GeometryError, match=said):
        read_segments(dataset, series_of(places))


def test_a_tilted_frame_or_one_of_other_pixels_is_refused(series, dataset):
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 0.999, 0.0447]
    with pytest.raises(GeometryError, match="lies up to 0.179 mm beside"):
        read_segments(dataset, series)
    orientation.ImageOrientationPatient = [0.6, 0.8, 0, -0.8, 0.6, 0]
    with pytest.raises(GeometryError, match="is turned against the images"):
        read_segments(dataset, series)
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1.7, 1.8]
    with pytest.raises(GeometryError, match="its pixels have another size"):
        read_segments(dataset, series)


def test_larger_frames_are_on_another_grid(dataset):
    with pytest.raises(GeometryError, match="frames have 6 x 5 pixels, but the series' images 4 x 4"):
        read_segments(dataset, series_of(size=(4, 4)))


def test_another_frame_of_reference_is_refused_and_another_series_told(series, dataset, masks):
    dataset.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3.99"
    found = read_segments(dataset, series)
    assert_same(found.masks, masks)
    assert found.notes == ("the SEG was drawn on another series of the same frame of reference",)
    dataset.FrameOfReferenceUID = "1.2.3.98"
    with pytest.raises(DataError, match="another frame of reference"):
        read_segments(dataset, series)


def test_segments_of_one_name_stay_apart(series, dataset, masks):
    for segment in dataset.SegmentSequence:
        segment.SegmentLabel = "liver"
    found = read_segments(dataset, series)
    assert_same(found.masks, {"liver": masks["liver"], "liver (2)": masks["lesion"]})
    assert found.notes == ("several segments are called 'liver'; segment 2 was named 'liver (2)'",)


def test_a_segment_without_a_voxel_is_empty_and_told(series, dataset):
    dataset.SegmentSequence.append(copy.deepcopy(dataset.SegmentSequence[0]))
    dataset.SegmentSequence[2].SegmentNumber, dataset.SegmentSequence[2].SegmentLabel = 3, ""
    found = read_segments(dataset, series)
    assert not found.masks["segment 3"].any()
    assert found.notes == ("segment 'segment 3' is empty",)


def test_what_is_no_segmentation_is_refused(series):
    with pytest.raises(DataError, match="expected a DICOM Segmentation, found 'CT'"):
        read_segments(header_of(), series)


def damage(change):
    def none_of_the_pixels(dataset):
        dataset.PixelData = dataset.PixelData[:3]

    def too_many_frames(dataset):
        dataset.NumberOfFrames = 2**31 - 1

    def huge_frames(dataset):
        dataset.Rows = dataset.Columns = 65535

    def no_pixels(dataset):
        del dataset.PixelData

    def no_segments(dataset):
        del dataset.SegmentSequence

    def unknown_segment(dataset):
        dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9

    def too_many_segments(dataset):
        dataset.SegmentSequence = [dataset.SegmentSequence[0]] * 5000

    def nan_place(dataset):
        position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
        position["ImagePositionPatient"]._value = [float("nan"), 0.0, 0.0]

    def no_spacing(dataset):
        del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence

    def unknown_type(dataset):
        dataset.SegmentationType = "SURFACE"

    def twice_the_number(dataset):
        dataset.SegmentSequence[1].SegmentNumber = 1

    return {name: value for name, value in locals().items() if callable(value)}[change]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ("none_of_the_pixels", ImageReadError, "cut short: 3 bytes of pixels, expected"),
        ("too_many_frames", ImageReadError, "says that it has 2147483647 frames, but describes"),
        ("huge_frames", GeometryError, "65535 x 65535 pixels"),
        ("no_pixels", ImageReadError, "PixelData"),
        ("no_segments", ImageReadError, "SegmentSequence"),
        ("unknown_segment", ImageReadError, "holds segment 9, which it does not describe"),
        ("too_many_segments", ImageReadError, "describes 5000 segments"),
        ("nan_place", ImageReadError, "frame 1 of the SEG has no valid place"),
        ("no_spacing", ImageReadError, "no orientation or no pixel spacing"),
        ("unknown_type", ImageReadError, "unknown type 'SURFACE'"),
        ("twice_the_number", ImageReadError, "two segments of number 1"),
    ],
)
def test_damage_is_told_in_one_line(change, error, said, series, dataset):
    damage(change)(dataset)
    with pytest.raises(error, match=said) as caught:
        read_segments(dataset, series)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def sound_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "seg.dcm"
    masks = some_masks(np.random.default_rng(2), SHAPE, 2)
    series = series_of()
    write_seg(Segmentation(masks, series.geometry), series, path, SegSettings(source=path))
    return path.read_bytes()


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_altered_bytes_never_crash(sound_file, data):
    """Bytes anywhere in the file are changed: it is refused in our own words, or read to masks of the right shape."""
    content = bytearray(sound_file)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from((len(content), len(content) - 40, len(content) // 2)))]
    with quiet():
        try:
            dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        except Exception:  # noqa: BLE001 - pydicom's own: the reader of files answers for it
            return
        try:
            masks = read_segments(dataset, series_of()).masks
        except OncoSegError as error:
            masks, said = {}, str(error)
            assert "\n" not in said
    assert all(mask.shape == SHAPE and mask.dtype == bool for mask in masks.values())
