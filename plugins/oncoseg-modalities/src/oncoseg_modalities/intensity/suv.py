"""Standardised uptake values: what turns a PET file's values into SUV by body weight.

SUVbw is the activity concentration in Bq/mL times the body weight in g over the injected dose in Bq, the dose decayed
to the time that the image's values are corrected to. Which attributes say so, vendor by vendor, is the consensus of
QIBA's "vendor-neutral pseudo-code" for SUV; the attributes are those of DICOM PS3.3, C.8.9 (PET). Research use only.
"""

import math
from datetime import datetime, timedelta
from typing import Any

from oncoseg_core import DataError, Header

_LEAST_DOSE_BQ = 1e5
_MOST_HALF_LIVES = 10
_HEAVIEST_KG = 700

TAGS = {
    "Units": "(0054,1001)",
    "SUVType": "(0054,1006)",
    "CorrectedImage": "(0028,0051)",
    "DecayCorrection": "(0054,1102)",
    "PatientWeight": "(0010,1030)",
    "SeriesDate": "(0008,0021)",
    "SeriesTime": "(0008,0031)",
    "AcquisitionDate": "(0008,0022)",
    "AcquisitionTime": "(0008,0032)",
    "RadiopharmaceuticalInformationSequence": "(0054,0016)",
    "RadiopharmaceuticalStartTime": "(0018,1072)",
    "RadionuclideTotalDose": "(0018,1074)",
    "RadionuclideHalfLife": "(0018,1075)",
}
PHILIPS_SUV_FACTOR = "(7053,1000)"
PHILIPS_ACTIVITY_FACTOR = "(7053,1009)"
GE_SCAN_DATE_TIME = "(0009,100d)"


def suvbw_factor(header: Header) -> float:
    """What a PET file's values (after its rescale slope and intercept) are multiplied with to be SUVbw.

    Args:
        header: the file's attributes by keyword; private ones by tag, such as ``(7053,1000)``.

    Raises:
        DataError: the attribute that is missing, or whose value cannot be right, is named.
    """
    units = str(_required(header, "Units")).strip().upper()
    if units == "GML":
        kind = str(header.get("SUVType") or "BW").strip().upper()
        if kind != "BW":
            raise DataError(f"{_described('SUVType')} is {kind}: SUV by {kind}; expected BW, by body weight")
        return 1.0
    if units == "BQML":
        return _from_activity(header)
    if units == "CNTS":
        if _is_positive(header.get(PHILIPS_SUV_FACTOR)):
            return float(header[PHILIPS_SUV_FACTOR])
        if _is_positive(header.get(PHILIPS_ACTIVITY_FACTOR)):
            return float(header[PHILIPS_ACTIVITY_FACTOR]) * _from_activity(header)
        raise DataError(
            f"{_described('Units')} is CNTS: raw counts become SUV by the private attribute {PHILIPS_SUV_FACTOR} or "
            f"{PHILIPS_ACTIVITY_FACTOR}, and neither is there; export the series in BQML"
        )
    raise DataError(f"{_described('Units')} is {units}; SUV can be had from BQML, GML, and CNTS with a scale factor")


def _from_activity(header: Header) -> float:
    corrections = _required(header, "CorrectedImage")
    made = {str(c).strip().upper() for c in (corrections.split("\\") if isinstance(corrections, str) else corrections)}
    for needed in ("ATTN", "DECY"):
        if needed not in made:
            raise DataError(
                f"{_described('CorrectedImage')} lacks {needed}; SUV needs an image corrected for attenuation and decay"
            )
    drugs = _required(header, "RadiopharmaceuticalInformationSequence")
    if len(drugs) != 1:
        raise DataError(f"{_described('RadiopharmaceuticalInformationSequence')} has {len(drugs)} items; expected one")
    weight = _positive(header, "PatientWeight")
    if weight > _HEAVIEST_KG:
        raise DataError(f"{_described('PatientWeight')} is {weight:g}; expected kilograms")
    dose = _positive(drugs[0], "RadionuclideTotalDose")
    if dose < _LEAST_DOSE_BQ:
        raise DataError(f"{_described('RadionuclideTotalDose')} is {dose:g}; expected becquerels (is it in MBq?)")
    correction = str(_required(header, "DecayCorrection")).strip().upper()
    if correction == "ADMIN":  # corrected to the time of injection
        return weight * 1000 / dose
    if correction != "START":
        raise DataError(f"{_described('DecayCorrection')} is {correction}; expected START or ADMIN")
    half_life = _positive(drugs[0], "RadionuclideHalfLife")
    scan = _scan_start(header)
    seconds = (scan - _injection(drugs[0], scan)).total_seconds()
    if not 0 <= seconds <= _MOST_HALF_LIVES * half_life:
        raise DataError(
            f"the scan starts {seconds:.0f} s after the injection, no time for a half-life of {half_life:g} s; "
            f"{_described('SeriesTime')} and {_described('RadiopharmaceuticalStartTime')} cannot both be right "
            "(were the dates shifted?)"
        )
    return weight * 1000 / (dose * math.pow(2.0, -seconds / half_life))


def _scan_start(header: Header) -> datetime:
    """The time that values corrected to START are corrected to; a series that was made later does not tell it."""
    series = _date_time(_required(header, "SeriesDate"), _required(header, "SeriesTime"), "SeriesTime")
    acquired = _date_time(_required(header, "AcquisitionDate"), _required(header, "AcquisitionTime"), "AcquisitionTime")
    if series <= acquired:
        return series
    if header.get(GE_SCAN_DATE_TIME):
        return _parse(str(header[GE_SCAN_DATE_TIME]), GE_SCAN_DATE_TIME)
    raise DataError(
        f"{_described('SeriesTime')} is after {_described('AcquisitionTime')}: the series was made afterwards, and "
        f"{GE_SCAN_DATE_TIME}, which would tell when the scan began, is not there"
    )


def _injection(drug: Header, scan: datetime) -> datetime:
    if drug.get("RadiopharmaceuticalStartDateTime"):
        return _parse(str(drug["RadiopharmaceuticalStartDateTime"]), "(0018,1078)")
    time = _required(drug, "RadiopharmaceuticalStartTime")
    start = _date_time(scan.strftime("%Y%m%d"), time, "RadiopharmaceuticalStartTime")
    return start if start <= scan else start - timedelta(days=1)  # injected before midnight


def _date_time(date: Any, time: Any, keyword: str) -> datetime:
    return _parse(str(date).strip() + str(time).strip().zfill(6), _described(keyword))


def _parse(text: str, what: str) -> datetime:
    """A DICOM date and time, ``YYYYMMDDHHMMSS.FFFFFF``; all times of a file are local, so an offset is dropped."""
    digits = text.strip().partition("+")[0].partition("-")[0]
    whole, _, fraction = digits.partition(".")
    try:
        moment = datetime.strptime(whole, "%Y%m%d%H%M%S")  # noqa: DTZ007 - local, as the file has it
        return moment + timedelta(seconds=float(f"0.{fraction or 0}"))
    except ValueError:
        raise DataError(f"{what} is no date and time of DICOM; expected YYYYMMDDHHMMSS.FFFFFF") from None


def _positive(header: Header, keyword: str) -> float:
    value = _required(header, keyword)
    if not _is_positive(value):
        raise DataError(f"{_described(keyword)} is {value!r}; expected a number above 0")
    return float(value)


def _is_positive(value: Any) -> bool:
    try:
        return math.isfinite(float(value)) and float(value) > 0
    except (TypeError, ValueError):
        return False


def _required(header: Header, keyword: str) -> Any:
    value = header.get(keyword)
    if value is None or value in ("", []):
        raise DataError(f"the DICOM attribute {_described(keyword)} is missing or empty: without it PET has no SUV")
    return value


def _described(keyword: str) -> str:
    return f"{keyword} {TAGS[keyword]}"
