"""MetaImage and NRRD against an independent reader, damaged files, and headers that say too little or too much."""

import bz2
import gzip
import re
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from oncoseg_core import GeometryError, ImageReadError
from oncoseg_core.imaging import read_volume

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path, voxels, *, compress, spacing=(1.5, 0.7, 0.9), direction=None, origin=(-12.5, 40.0, 300.25)):
    """A file by SimpleITK alone; voxels ``(z, y, x)`` or ``(z, y, x, component)``."""
    image = sitk.GetImageFromArray(voxels, isVector=voxels.ndim == 4)
    image.SetSpacing(spacing[::-1])
    image.SetOrigin(origin)
    image.SetDirection(np.eye(3).ravel().tolist() if direction is None else direction.ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=compress)
    return path


@MANY
@given(
    st.sampled_from([".mha", ".mhd", ".nrrd", ".nhdr"]),
    st.sampled_from(DTYPES),
    st.booleans(),
    st.tuples(*[st.integers(1, 7)] * 3),
    st.sampled_from([1, 1, 2, 3]),
    st.tuples(*[st.floats(0.05, 6)] * 3),
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.sampled_from((-1, 1))] * 3),
    st.tuples(*[st.floats(-500, 500)] * 3),
    st.integers(0, 2**32 - 1),
)
def test_every_voxel_lies_where_itk_puts_it(
    tmp_path, suffix, dtype, compress, shape, components, spacing, angles, flips, origin, seed
):
    raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * components * np.dtype(dtype).itemsize)
    voxels = np.frombuffer(raw, dtype).reshape((*shape, components) if components > 1 else shape)
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * flips
    path = written(
        tmp_path / f"a{suffix}", voxels, compress=compress, spacing=spacing, direction=direction, origin=origin
    )
    volume, other = read_volume(path, "ct"), sitk.ReadImage(str(path))
    expected = sitk.GetArrayFromImage(other)
    expected = expected[np.newaxis] if components == 1 else np.moveaxis(expected, -1, 0)
    assert volume.voxels.dtype == np.dtype(dtype)
    assert volume.voxels.dtype.isnative
    assert np.array_equal(volume.voxels, expected, equal_nan=True)
    corners = [[0, 0, 0], [shape[2] - 1, shape[1] - 1, shape[0] - 1], [shape[2] - 1, 0, 0], [0, 0, shape[0] - 1]]
    places = [other.TransformIndexToPhysicalPoint(corner) for corner in corners]
    assert np.allclose(volume.geometry.index_to_lps(corners), places, atol=1e-4)
    assert volume.physical
    assert volume.notes == ()


DAMAGED = ["raw.mha", "packed.mha", "raw.nrrd", "packed.nrrd", "bzip2.nrrd", "unsized.mha", "a.nii.gz"]


def scan(folder, name):
    """An image whose values all differ, so that a shifted one is another one; and its file."""
    voxels = np.random.default_rng(5).permutation(6 * 9 * 11).astype(np.int16).reshape(6, 9, 11)
    path = written(folder / name, voxels, compress=not name.startswith("raw"))
    content = path.read_bytes()
    if name == "bzip2.nrrd":
        header, _, packed = content.partition(b"\n\n")
        path.write_bytes(header.replace(b"gzip", b"bzip2") + b"\n\n" + bz2.compress(gzip.decompress(packed)))
    if name == "unsized.mha":
        path.write_bytes(re.sub(rb"CompressedDataSize = \d+\n", b"", content))
    return voxels, path


@pytest.mark.parametrize("name", DAMAGED)
def test_a_whole_file_is_taken(tmp_path, name):
    voxels, path = scan(tmp_path, name)
    assert np.array_equal(read_volume(path, "ct").voxels[0], voxels)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(DAMAGED),
    st.sampled_from(["cut", "flip", "drop", "repeat"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 255),
)
def test_damage_of_the_voxels_is_refused_or_changes_nothing(tmp_path, name, kind, place, value):
    """But for a value in a raw file, which nothing protects: it may differ in that voxel only."""
    voxels, path = scan(tmp_path, name)
    content = bytearray(path.read_bytes())
    header = {".mha": content.find(b"LOCAL\n") + 6, ".nrrd": content.find(b"\n\n") + 2}.get(path.suffix, 0)
    at = header + int(place * (len(content) - header))
    if kind == "cut":
        del content[at:]
    elif kind == "flip":
        content[at] ^= value
    elif kind == "drop":
        del content[at : at + value]
    else:
        content[at:at] = content[at : at + value]
    path.write_bytes(content)
    try:
        found = read_volume(path, "ct").voxels[0]
    except ImageReadError as error:
        assert "\n" not in str(error)  # noqa: PT017 - it may be refused or not
        return
    assert np.count_nonzero(found != voxels) <= (kind == "flip" and name.startswith("raw"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["raw.mha", "packed.mha", "raw.nrrd", "packed.nrrd"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 255),
)
def test_no_byte_of_a_header_leads_to_voxels_that_are_not_there(tmp_path, name, place, value):
    """A changed header may say another grid or type, but never of more or fewer bytes than there are."""
    voxels, path = scan(tmp_path, name)
    content = bytearray(path.read_bytes())
    end = content.find(b"LOCAL\n") if path.suffix == ".mha" else content.find(b"\n\n")
    content[int(place * end)] = value
    path.write_bytes(content)
    try:
        found = read_volume(path, "ct").voxels
    except (ImageReadError, GeometryError) as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert found.nbytes == voxels.nbytes
    assert sorted(found.tobytes()) == sorted(voxels.tobytes())


def mhd(folder, data=bytes(24), file="a.raw", **fields):
    """A header of 2 x 3 x 4 bytes in text, with fields replaced, or left out where they are None."""
    usual = {
        "ObjectType": "Image", "NDims": "3", "DimSize": "4 3 2", "ElementType": "MET_UCHAR",
        "ElementSpacing": "1 2 3", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0",
    }  # fmt: skip
    chosen = {**usual, **fields, "ElementDataFile": file}
    (folder / "a.raw").write_bytes(data)
    path = folder / "a.mhd"
    path.write_text("".join(f"{key} = {value}\n" for key, value in chosen.items() if value is not None))
    return path


def nhdr(folder, data=bytes(24), file="a.raw", **fields):
    """The same as NRRD; blanks in names of fields are underscores here."""
    usual = {
        "type": "uchar", "dimension": "3", "space": "left-posterior-superior", "sizes": "4 3 2",
        "space_directions": "(1,0,0) (0,2,0) (0,0,3)", "encoding": "raw", "space_origin": "(0,0,0)",
    }  # fmt: skip
    chosen = {**usual, **fields, "data_file": file}
    (folder / "a.raw").write_bytes(data)
    path = folder / "a.nhdr"
    lines = [f"{key.replace('_', ' ')}: {value}\n" for key, value in chosen.items() if value is not None]
    path.write_text("NRRD0004\n" + "".join(lines) + "\n")
    return path


@pytest.mark.parametrize("header", [mhd, nhdr])
def test_voxels_lie_beside_their_header_or_below(tmp_path, header):
    (tmp_path / "case" / "below").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"s" * 24)
    case = tmp_path / "case"
    (case / "below" / "b.raw").write_bytes(b"b" * 24)
    (case / "link.raw").symlink_to(tmp_path / "secret")
    assert (read_volume(header(case, file="below/b.raw"), "ct").voxels == ord("b")).all()
    for name in (str(tmp_path / "secret"), "../secret", "below/../../secret", "link.raw", "..\\secret", "~/secret\0"):
        with pytest.raises(ImageReadError, match=r"its voxels are in .*expected a file beside the header or below"):
            read_volume(header(case, file=name), "ct")


@pytest.mark.parametrize(("header", "list_of"), [(mhd, "LIST\n{}"), (nhdr, "LIST\n{}")])
def test_a_list_of_files_is_read_in_its_order_and_lies_beside_too(tmp_path, header, list_of):
    case = tmp_path / "case"
    case.mkdir()
    (tmp_path / "1.raw").write_bytes(b"1" * 12)
    for number in (1, 2):
        (case / f"{number}.raw").write_bytes(str(number).encode() * 12)
    voxels = read_volume(header(case, file=list_of.format("2.raw\n1.raw")), "ct").voxels
    assert voxels[0, :, 0, 0].tolist() == [ord("2"), ord("1")]
    with pytest.raises(ImageReadError, match="expected a file beside the header"):
        read_volume(header(case, file=list_of.format("2.raw\n../1.raw")), "ct")
    with pytest.raises(ImageReadError, match="24 bytes of 12|12 bytes of 24|12 bytes of 8"):
        read_volume(header(case, file=list_of.format("2.raw")), "ct")
    with pytest.raises(ImageReadError, match="several files"):
        read_volume(header(case, file="%d.raw 1 2 1"), "ct")


@pytest.mark.parametrize("header", [mhd, nhdr])
def test_a_header_that_was_linked_with_its_voxels_is_read(tmp_path, header):
    """As workflow managers stage files."""
    (tmp_path / "store").mkdir()
    (tmp_path / "work").mkdir()
    path = header(tmp_path / "store", bytes(range(24)))
    for file in (path, path.with_name("a.raw")):
        (tmp_path / "work" / file.name).symlink_to(file)
    assert read_volume(tmp_path / "work" / path.name, "ct").voxels[0, 1, 2, 3] == 23


@pytest.mark.parametrize("header", [mhd, nhdr])
def test_voxels_that_git_annex_keeps_are_read(tmp_path, header):
    """In a repository, large files are links into its hidden folder."""
    kept = tmp_path / ".git" / "annex" / "objects" / "a" / "b"
    kept.mkdir(parents=True)
    (tmp_path / "sub-1").mkdir()
    path = header(tmp_path / "sub-1", bytes(range(24)))
    path.with_name("a.raw").rename(kept / "key")
    path.with_name("a.raw").symlink_to("../.git/annex/objects/a/b/key")
    assert read_volume(path, "ct").voxels[0, 1, 2, 3] == 23


@pytest.mark.parametrize("header", [mhd, nhdr])
def test_voxels_that_are_missing_are_named(tmp_path, header):
    path = header(tmp_path)
    (tmp_path / "a.raw").unlink()
    with pytest.raises(ImageReadError, match=r"its voxels are in the file 'a\.raw', which is missing"):
        read_volume(path, "ct")


@pytest.mark.parametrize("header", [mhd, nhdr])
@pytest.mark.parametrize("size", [0, 23, 25, 48])
def test_voxels_are_as_many_as_the_header_promises(tmp_path, header, size):
    with pytest.raises(ImageReadError, match=rf"{size} bytes of 24 that the header promises"):
        read_volume(header(tmp_path, bytes(size)), "ct")


@pytest.mark.parametrize(("header", "key"), [(mhd, "HeaderSize"), (nhdr, "byte_skip")])
def test_bytes_before_the_voxels_are_skipped_as_the_header_says(tmp_path, header, key):
    data = b"#####" + bytes(range(24))
    for skip in ("5", "-1"):
        assert read_volume(header(tmp_path, data, **{key: skip}), "ct").voxels[0, 1, 2, 3] == 23
    with pytest.raises(ImageReadError, match="bytes of 24"):
        read_volume(header(tmp_path, data, **{key: "30"}), "ct")


CLAIMS = [
    (mhd, {"DimSize": "1500 1500 1500", "CompressedData": "True"}, "24 compressed bytes cannot become 3375000000"),
    (mhd, {"DimSize": "99999999 99999999 99999999"}, "24 bytes of 999999970000000299999999 that the header promises"),
    (mhd, {"DimSize": "4 3 99999999999999999999"}, "DimSize is .*expected whole numbers"),
    (mhd, {"DimSize": "4 3 0"}, "declares axes of 4 x 3 x 0 voxels"),
    (mhd, {"DimSize": "-4 -3 2"}, "declares axes of"),
    (mhd, {"DimSize": "4 3"}, "has 3 axes"),
    (mhd, {"NDims": "200000000"}, "has 200000000 axes"),
    (mhd, {"NDims": "4", "DimSize": "4 3 2 1"}, "has 4 axes"),
    (mhd, {"ElementNumberOfChannels": "1000000000000"}, "24 bytes of 24000000000000 that the header promises"),
    (mhd, {"ElementType": "MET_STRING"}, "ElementType is 'STRING'"),
    (mhd, {"ElementToIntensityFunctionSlope": "2"}, "ElementToIntensityFunction"),
    (mhd, {"HeaderSize": "-7"}, "HeaderSize is -7"),
    (nhdr, {"sizes": "1500 1500 1500", "encoding": "gzip"}, "24 compressed bytes cannot become 3375000000"),
    (nhdr, {"sizes": "99999999 99999999 99999999"}, "24 bytes of 999999970000000299999999"),
    (nhdr, {"sizes": "99999999 99999999 99999999", "encoding": "bzip2"}, "take .* bytes of memory, more than the"),
    (nhdr, {"sizes": "4 3 0"}, "declares axes of"),
    (nhdr, {"dimension": "4"}, "has 3 sizes, but another dimension"),
    (nhdr, {"dimension": "3 3"}, "has 3 sizes, but another dimension"),
    (nhdr, {"kinds": "domain domain"}, "kinds is .*expected 3 entries"),
    (nhdr, {"encoding": "hex"}, "encoding is 'hex'"),
    (nhdr, {"type": "block"}, "type is 'block'"),
    (nhdr, {"type": "short", "sizes": "2 3 2"}, "endian is ''; expected little or big"),
    (nhdr, {"line_skip": "3"}, "behind lines"),
    (nhdr, {"space_directions": "(1,0,0) (0,2,0) (0,0)"}, "space directions is .*expected 3 numbers each"),
    (nhdr, {"space_units": '"mm" "mm" "furlong"'}, "space units is 'furlong'"),
    (nhdr, {"sizes": "2 3 4", "kinds": "complex domain domain"}, "holds complex numbers"),
]


@pytest.mark.parametrize(("header", "fields", "message"), CLAIMS, ids=[f"{h.__name__} {f}" for h, f, _ in CLAIMS])
def test_a_header_that_claims_what_cannot_be_is_refused(tmp_path, monkeypatch, header, fields, message):
    monkeypatch.setenv("ONCOSEG_MAX_IMAGE_BYTES", str(2**40))
    with pytest.raises(ImageReadError, match=message) as caught:
        read_volume(header(tmp_path, **fields), "ct")
    assert "\n" not in str(caught.value)


GRIDS = [
    (mhd, {"ElementSpacing": "1 0 3"}, "ElementSpacing is 1 0 3; expected millimetres above zero"),
    (mhd, {"ElementSpacing": "1 -2 3"}, "ElementSpacing is 1 -2 3"),
    (mhd, {"ElementSpacing": "1 nan 3"}, "ElementSpacing is 1 nan 3"),
    (mhd, {"ElementSpacing": "1 2"}, "ElementSpacing is '1 2'; expected 3 numbers"),
    (mhd, {"TransformMatrix": "1 0 0 0 2 0 0 0 1"}, "rows of TransformMatrix are not of length 1"),
    (mhd, {"TransformMatrix": "1 0 0 0 0 0 0 0 1"}, "rows of TransformMatrix are not of length 1"),
    (mhd, {"TransformMatrix": "nan 0 0 0 1 0 0 0 1"}, "rows of TransformMatrix are not of length 1"),
    (mhd, {"TransformMatrix": "1 0 0 0.6 0.8 0 0 0 1"}, "not at right angles"),
    (mhd, {"Offset": "0 inf 0"}, "no finite number"),
    (nhdr, {"space_directions": "(1,0,0) (0,0,0) (0,0,3)"}, "a spacing of zero"),
    (nhdr, {"space_directions": "(1,0,0) (0,nan,0) (0,0,3)"}, "no finite number"),
    (nhdr, {"space_directions": "(1,0,0) (1,2,0) (0,0,3)"}, "not at right angles"),
    (nhdr, {"space_directions": None, "spacings": "1 0 3"}, "spacings is 1 0 3; expected millimetres above zero"),
    (nhdr, {"space_directions": None, "spacings": "1 -1 3"}, "spacings is 1 -1 3"),
    (nhdr, {"space_directions": None, "spacings": "1 nan 3"}, "spacings is 1 nan 3"),
]


@pytest.mark.parametrize(("header", "fields", "message"), GRIDS, ids=[f"{h.__name__} {f}" for h, f, _ in GRIDS])
def test_a_grid_that_cannot_be_is_refused(tmp_path, header, fields, message):
    with pytest.raises(ImageReadError, match=message):
        read_volume(header(tmp_path, **fields), "ct")


SILENT = [
    (mhd, {"ElementSpacing": None}, False, r"spacing \(ElementSpacing\)"),
    (mhd, {"TransformMatrix": None}, True, r"direction \(TransformMatrix\)"),
    (mhd, {"Offset": None}, True, r"place \(Offset\)"),
    (nhdr, {"space_directions": None}, False, r"spacing \(space directions, spacings\), direction"),
    (nhdr, {"space_directions": None, "spacings": "1 2 3"}, True, r"direction \(space directions\)"),
    (nhdr, {"space_origin": None}, True, r"place \(space origin\)"),
    (nhdr, {"space": None, "space_dimension": "3"}, True, r"space of a patient \(space: none\)"),
    (nhdr, {"space": "scanner-xyz"}, True, r"space of a patient \(space: scanner-xyz\)"),
]


@pytest.mark.parametrize(
    ("header", "fields", "physical", "note"), SILENT, ids=[f"{h.__name__} {f}" for h, f, _, _ in SILENT]
)
def test_what_a_header_does_not_tell_is_noted_and_never_becomes_millimetres(tmp_path, header, fields, physical, note):
    volume = read_volume(header(tmp_path, **fields), "ct")
    assert volume.physical is physical
    assert re.search(f"the header of the image does not tell its {note}", " ".join(volume.notes))
    if physical and "space" not in fields:
        assert volume.geometry.spacing == (3, 2, 1)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
        ("LAS", (1, -1, 1)),
    ],
)
def test_a_space_is_turned_to_lps(tmp_path, space, signs):
    geometry = read_volume(nhdr(tmp_path, space=space, space_origin="(10,20,30)"), "ct").geometry
    assert geometry.index_to_lps([[1, 1, 1]])[0].tolist() == (np.array([11, 22, 33]) * signs).tolist()


@pytest.mark.parametrize(("unit", "factor"), [("cm", 10), ("m", 1000), ("um", 0.001), ("mm", 1), ("", 1)])
def test_units_of_a_space_are_converted(tmp_path, unit, factor):
    geometry = read_volume(nhdr(tmp_path, space_units=f'"{unit}" ' * 3, space_origin="(1,2,3)"), "ct").geometry
    assert geometry.spacing == pytest.approx((3 * factor, 2 * factor, factor))
    assert geometry.origin == pytest.approx((factor, 2 * factor, 3 * factor))
    fields = {"space_directions": None, "space": None, "space_origin": None, "spacings": "1 2 3"}
    geometry = read_volume(nhdr(tmp_path, units=f'"{unit}" ' * 3, **fields), "ct").geometry
    assert geometry.spacing == pytest.approx((3 * factor, 2 * factor, factor))


@pytest.mark.parametrize("axis", range(4))
def test_channels_may_be_any_axis_of_a_nrrd(tmp_path, axis):
    sizes, directions = ["4", "3", "2"], ["(1,0,0)", "(0,2,0)", "(0,0,3)"]
    sizes.insert(axis, "5")
    directions.insert(axis, "none")
    data = np.arange(120, dtype=np.uint8)
    path = nhdr(tmp_path, data.tobytes(), dimension="4", sizes=" ".join(sizes), space_directions=" ".join(directions))
    expected = np.moveaxis(data.reshape([int(size) for size in sizes[::-1]]), 3 - axis, 0)
    assert np.array_equal(read_volume(path, "ct").voxels, expected)


def test_time_is_no_channel(tmp_path):
    fields = {"dimension": "4", "sizes": "4 3 1 2", "kinds": "space space space time", "space_directions": None}
    with pytest.raises(ImageReadError, match=r"has 4 axes \(4 x 3 x 1 x 2\)"):
        read_volume(nhdr(tmp_path, **fields), "ct")


def test_two_axes_have_no_millimetres(tmp_path):
    flat = {"NDims": "2", "DimSize": "6 4", "ElementSpacing": "1 2", "TransformMatrix": "1 0 0 1", "Offset": "5 6"}
    volume = read_volume(mhd(tmp_path, **flat), "xray")
    assert (volume.voxels.shape, volume.physical, volume.notes) == ((1, 1, 4, 6), False, ())
    assert volume.geometry.origin == (5, 6, 0)
    flat = {"dimension": "2", "sizes": "6 4", "space_directions": "(1,0,0) (0,0,-2)"}
    volume = read_volume(nhdr(tmp_path, **flat), "xray")
    assert volume.geometry.direction[:, 2].tolist() == [0, 1, 0]
    assert not volume.physical


def test_numbers_in_text_are_read_and_checked(tmp_path):
    text = " ".join(map(str, range(24))).encode()
    assert read_volume(mhd(tmp_path, text, BinaryData="False"), "ct").voxels[0, 1, 2, 3] == 23
    assert read_volume(nhdr(tmp_path, text, encoding="ascii", type="double"), "ct").voxels[0, 1, 2, 3] == 23
    for wrong, message in (
        (text[:-3], "23 numbers of 24"),
        (b"1.5" + text, "not of the type"),
        (b"x" + text, "could not"),
    ):
        with pytest.raises(ImageReadError, match=message):
            read_volume(nhdr(tmp_path, wrong, encoding="text"), "ct")


def test_big_endian_voxels_are_turned(tmp_path):
    data = np.arange(24, dtype=">i2").tobytes()
    for path in (
        mhd(tmp_path, data, ElementType="MET_SHORT", BinaryDataByteOrderMSB="True"),
        nhdr(tmp_path, data, type="short", endian="big"),
    ):
        voxels = read_volume(path, "ct").voxels
        assert voxels.dtype == np.int16
        assert voxels.ravel().tolist() == list(range(24))


def test_gzip_of_several_members_is_one_stream(tmp_path):
    data = bytes(range(24))
    packed = gzip.compress(data[:10]) + gzip.compress(data[10:])
    assert read_volume(nhdr(tmp_path, packed, encoding="gzip"), "ct").voxels.ravel().tolist() == list(data)
    with pytest.raises(ImageReadError, match="10 bytes of 24"):
        read_volume(nhdr(tmp_path, gzip.compress(data[:10]), encoding="gzip"), "ct")
    with pytest.raises(ImageReadError, match="more than the 24 bytes"):
        read_volume(nhdr(tmp_path, packed + gzip.compress(data), encoding="gzip"), "ct")


def test_the_size_of_a_compressed_stream_is_compared(tmp_path):
    packed = zlib.compress(bytes(range(24)))
    for size in (len(packed) - 1, len(packed) + 1):
        with pytest.raises(ImageReadError, match="cut short or damaged"):
            read_volume(mhd(tmp_path, packed, CompressedData="True", CompressedDataSize=size), "ct")
    assert read_volume(mhd(tmp_path, packed, CompressedData="True", CompressedDataSize=len(packed)), "ct").physical


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_a_header_without_an_end_is_refused_at_once(tmp_path, name):
    start = b"NRRD0004\n" if name == "a.nrrd" else b""
    for filling in (b"k = v\n" if name == "a.mha" else b"k:=v\n", b"x" * 100, b"\n" if name == "a.mha" else b"#\n"):
        (tmp_path / name).write_bytes(start + filling * 2_000_000)
        with pytest.raises(ImageReadError, match="cut short|not of the format|damaged"):
            read_volume(tmp_path / name, "ct")
