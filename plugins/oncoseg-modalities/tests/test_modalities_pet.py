"""PET: SUV from what DICOM tells, refused where it does not, and no harm from NaN. The headers are generated."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from oncoseg_core import ConfigError, DataError
from oncoseg_core.plugins.configuration import validate
from oncoseg_modalities.intensity.suv import suvbw_factor
from oncoseg_modalities.pet import PETNormalizer, PETSettings

HALF_LIFE = 6586.2  # F-18, seconds


def header(**changes):
    """70 kg, 350 MBq of F-18 injected one half-life (1 h 49 min 46.2 s) before the scan began."""
    drug = {
        "RadionuclideTotalDose": 350e6,
        "RadionuclideHalfLife": HALF_LIFE,
        "RadiopharmaceuticalStartTime": "101013.8",
    }
    series = {
        "Units": "BQML",
        "CorrectedImage": ["NORM", "ATTN", "SCAT", "DECY"],
        "DecayCorrection": "START",
        "PatientWeight": 70.0,
        "SeriesDate": "20240305",
        "SeriesTime": "120000",
        "AcquisitionDate": "20240305",
        "AcquisitionTime": "120000.000",
    }
    for name, value in changes.items():
        (drug if name.startswith("Radio") and name != "RadiopharmaceuticalInformationSequence" else series)[name] = (
            value
        )
    return {"RadiopharmaceuticalInformationSequence": [drug], **series}


def without(*names):
    full = header()
    for name in names:
        full["RadiopharmaceuticalInformationSequence"][0].pop(name, None)
    return {name: value for name, value in full.items() if name not in names}


FACTOR = 70_000 / 175e6


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (header(), FACTOR),
        (header(DecayCorrection="ADMIN"), FACTOR / 2),
        (header(Units="GML"), 1.0),
        (header(Units="GML", SUVType="BW"), 1.0),
        (header(**{"Units": "CNTS", "(7053,1000)": 0.00042}), 0.00042),
        (header(**{"Units": "CNTS", "(7053,1009)": 1.5}), 1.5 * FACTOR),
        (header(CorrectedImage="ATTN\\DECY"), FACTOR),
        (header(RadiopharmaceuticalStartDateTime="20240305101013.800000+0100"), FACTOR),
        # Injected at 23:10:13.8 and scanned at 1:00, the next day.
        (
            header(RadiopharmaceuticalStartTime="231013.8", SeriesTime="010000", AcquisitionTime="010000"),
            FACTOR,
        ),
        # A series made in the evening: GE tells when the scan began.
        (header(**{"SeriesTime": "190000", "(0009,100d)": "20240305120000.00"}), FACTOR),
    ],
)
def test_suv_by_body_weight(given, expected):
    assert suvbw_factor(given) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    "missing",
    [
        "Units",
        "CorrectedImage",
        "DecayCorrection",
        "PatientWeight",
        "SeriesDate",
        "SeriesTime",
        "AcquisitionDate",
        "AcquisitionTime",
        "RadiopharmaceuticalInformationSequence",
        "RadionuclideTotalDose",
        "RadionuclideHalfLife",
        "RadiopharmaceuticalStartTime",
    ],
)
def test_a_missing_attribute_is_named(missing):
    with pytest.raises(DataError, match=rf"{missing} \([0-9a-f]{{4}},[0-9a-f]{{4}}\) is missing"):
        suvbw_factor(without(missing))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (header(Units="CNTS"), r"raw counts become SUV by .*\(7053,1000\) or \(7053,1009\), and neither is there"),
        (header(Units="PROPCNTS"), "is PROPCNTS; SUV can be had from"),
        (header(Units="GML", SUVType="LBM"), "SUV by LBM; expected BW"),
        (header(CorrectedImage=["DECY"]), "lacks ATTN"),
        (header(CorrectedImage=["ATTN"]), "lacks DECY"),
        (header(DecayCorrection="NONE"), "is NONE; expected START or ADMIN"),
        (header(PatientWeight=0), "PatientWeight .* is 0; expected a number above 0"),
        (header(PatientWeight=70_000), "expected kilograms"),
        (header(RadionuclideTotalDose=350), r"is 350; expected becquerels \(is it in MBq"),
        (header(RadionuclideHalfLife="nan"), "RadionuclideHalfLife"),
        (header(RadiopharmaceuticalStartDateTime="20230101101013"), "no time for a half-life"),
        (header(RadiopharmaceuticalStartDateTime="20240306101013"), "no time for a half-life"),
        (header(SeriesTime="190000"), r"is after AcquisitionTime .*\(0009,100d\)"),
        (header(SeriesTime="noon"), "SeriesTime .* is no date and time"),
        (header(RadiopharmaceuticalInformationSequence=[{}, {}]), "has 2 items; expected one"),
    ],
)
def test_what_cannot_be_right_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        suvbw_factor(given)


def test_the_tags_are_those_of_the_standard():
    from oncoseg_modalities.intensity.suv import TAGS

    for keyword, tag in TAGS.items():
        assert pydicom.tag.Tag(keyword) == pydicom.tag.Tag(tag.strip("()").split(","))


def test_values_of_a_pydicom_dataset_are_taken_as_they_are():
    """As a reader would hand them over: pydicom's own number, text and sequence types."""
    plain = header()
    drug = Dataset()
    for name, value in plain["RadiopharmaceuticalInformationSequence"][0].items():
        setattr(drug, name, value)
    dataset = Dataset()
    for name, value in plain.items():
        setattr(dataset, name, [drug] if name == "RadiopharmaceuticalInformationSequence" else value)
    read = {element.keyword: element.value for element in dataset}
    read["RadiopharmaceuticalInformationSequence"] = [{element.keyword: element.value for element in drug}]
    assert suvbw_factor(read) == pytest.approx(FACTOR, rel=1e-9)


def test_calibration_makes_suv_and_leaves_the_rest():
    stored = np.array([[[[0, 2500, 5000]]]], np.int16)
    suv = PETNormalizer().calibrate(stored, header())
    assert suv.dtype == np.float32
    np.testing.assert_allclose(suv.ravel(), [0, 1, 2], rtol=1e-6)
    assert PETNormalizer().calibrate(stored, {}) is stored


def test_raw_counts_are_refused():
    with pytest.raises(DataError, match=r"raw counts"):
        PETNormalizer().calibrate(np.zeros((1, 1, 2, 2)), header(Units="CNTS"))


def body(air=0.0):
    rng = np.random.default_rng(0)
    suv = rng.exponential(air, (1, 8, 40, 40)) if air else np.zeros((1, 8, 40, 40))
    suv[:, :, 10:30, 12:28] = rng.gamma(4, 0.25, (8, 20, 16))
    suv[:, 3:5, 18:22, 18:22] = 9
    return suv.astype(np.float32)


@pytest.mark.parametrize("air", [0.0, 0.01])
def test_the_air_does_not_drag_the_percentiles(air):
    suv = body(air)
    inside = suv[:, :, 10:30, 12:28].astype(float)
    stats = PETNormalizer().fit(suv)
    low, high = np.percentile(inside, (0.5, 99.5))
    assert stats["high"][0] == pytest.approx(high, rel=0.01)
    assert stats["low"][0] == pytest.approx(low, abs=0.02 * high)  # a few noisy voxels remain


@pytest.mark.parametrize(("share", "left_out"), [(0.24, False), (0.26, True)])
def test_noise_is_air_from_a_quarter_of_the_voxels_on(share, left_out):
    count = 20000
    noise = np.linspace(0, 0.05, round(share * count))  # below 1/64 of the range up to 5
    inside = np.linspace(1, 5, count - noise.size)
    suv = np.concatenate([noise, inside]).reshape(1, 20, 40, 25).astype(np.float32)
    stats = PETNormalizer().fit(suv)
    low, high = np.percentile(inside if left_out else suv, (0.5, 99.5))
    assert stats["low"][0] == pytest.approx(low, abs=1e-3)
    assert stats["high"][0] == pytest.approx(high, abs=1e-3)


def test_the_noise_reaches_a_64th_of_the_range():
    count = 20000
    for top, left_out in ((1 / 70, True), (1 / 50, False)):
        noise, inside = np.linspace(0, 5 * top, count // 2), np.linspace(1, 5, count // 2)
        suv = np.concatenate([noise, inside]).reshape(1, 20, 40, 25).astype(np.float32)
        assert (PETNormalizer().fit(suv)["low"][0] > 1) == left_out


def test_nan_outside_the_field_of_view_counts_as_no_uptake():
    suv = body()
    expected = PETNormalizer().fit(suv)
    suv[suv == 0] = np.nan
    stats = PETNormalizer().fit(suv)
    assert stats == expected
    unit = PETNormalizer().apply(suv, stats)
    assert np.isfinite(unit).all()
    assert not unit[np.isnan(suv)].any()


def test_nothing_but_nan_is_nothing():
    gone = np.full((1, 2, 3, 3), np.nan, np.float32)
    unit = PETNormalizer().apply(gone, PETNormalizer().fit(gone))
    assert not unit.any()


def test_a_window_of_suv_does_not_depend_on_the_volume():
    normalizer = PETNormalizer(PETSettings(suv_window=(0, 20)))
    suv = np.array([[[[-1, 0, 5, 20, 80, np.nan]]]], np.float32)
    np.testing.assert_array_equal(normalizer.apply(suv, normalizer.fit(suv)).ravel(), np.float32([0, 0, 0.25, 1, 1, 0]))


@pytest.mark.parametrize("window", [(5, 5), (5, 1), (0, float("inf"))])
def test_an_impossible_window_is_refused(window):
    with pytest.raises(ConfigError, match="suv_window"):
        validate(PETSettings, {"suv_window": window}, "settings")
