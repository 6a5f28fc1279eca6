"""What a structure is, in codes: from its name, for those who were not told by the user.

The codes are SNOMED CT as DICOM PS3.16 lists them (through pydicom's copy of the standard): categories from CID 7150,
types from CID 7151, which includes lesions (CID 7159), organs (CID 7192) and tissues (CID 7166).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

LESIONS: dict[str, Code] = {
    **dict.fromkeys(("metastasis", "metastases", "metastatic"), codes.SCT.NeoplasmSecondary),
    **dict.fromkeys(("edema", "oedema"), codes.SCT.Edema),
    **dict.fromkeys(("necrosis", "necrotic"), codes.SCT.Necrosis),
    **dict.fromkeys(("hemorrhage", "haemorrhage"), codes.SCT.Hemorrhage),
    **dict.fromkeys(("cyst", "cysts"), codes.SCT.Cyst),
    **dict.fromkeys(("nodule", "nodules"), codes.SCT.Nodule),
    **dict.fromkeys(
        (
            *("tumor", "tumors", "tumour", "tumours", "neoplasm", "neoplasms", "cancer", "carcinoma", "adenocarcinoma"),
            *("glioma", "glioblastoma", "meningioma", "melanoma", "lymphoma", "sarcoma", "adenoma", "gtv"),
        ),
        codes.SCT.Neoplasm,
    ),
    **dict.fromkeys(("mass", "masses"), codes.SCT.Mass),
    **dict.fromkeys(("lesion", "lesions"), codes.SCT.Lesion),
}
"""Words that make a structure a lesion, the more special ones first (``gtv``: gross tumour volume, ICRU 50)."""

ORGANS: dict[str, Code] = {
    **dict.fromkeys(("liver", "hepatic"), codes.SCT.Liver),
    **dict.fromkeys(("lung", "lungs", "pulmonary"), codes.SCT.Lung),
    **dict.fromkeys(("brain", "cerebral"), codes.SCT.Brain),
    **dict.fromkeys(("breast", "breasts"), codes.SCT.Breast),
    **dict.fromkeys(("kidney", "kidneys", "renal"), codes.SCT.Kidney),
    **dict.fromkeys(("pancreas", "pancreatic"), codes.SCT.Pancreas),
    **dict.fromkeys(("prostate", "prostatic"), codes.SCT.Prostate),
    **dict.fromkeys(("colon", "colonic"), codes.SCT.Colon),
    **dict.fromkeys(("esophagus", "oesophagus"), codes.SCT.Esophagus),
    **dict.fromkeys(("spinalcord", "cord"), codes.SCT.SpinalCord),
    **dict.fromkeys(("bladder",), codes.SCT.Bladder),
    **dict.fromkeys(("gallbladder",), codes.SCT.Gallbladder),
    **dict.fromkeys(("spleen",), codes.SCT.Spleen),
    **dict.fromkeys(("heart",), codes.SCT.Heart),
    **dict.fromkeys(("stomach",), codes.SCT.Stomach),
    **dict.fromkeys(("duodenum",), codes.SCT.Duodenum),
    **dict.fromkeys(("aorta",), codes.SCT.Aorta),
    **dict.fromkeys(("trachea",), codes.SCT.Trachea),
    **dict.fromkeys(("rectum",), codes.SCT.Rectum),
    **dict.fromkeys(("uterus",), codes.SCT.Uterus),
    **dict.fromkeys(("thyroid",), codes.SCT.Thyroid),
}
"""Words that say which organ a structure is, or a lesion lies in."""

BESIDE_AN_ORGAN = frozenset({"left", "right", "both", "whole", "gland", "spinal", "urinary", "l", "r"})
"""Words that may stand beside an organ's without making it something else, as ``vein`` does in ``pulmonary vein``."""


class Coded(NamedTuple):
    """Category and type of a segment, and the organ in which a lesion lies."""

    category: Code
    type: Code
    region: Code | None = None


def coded(name: str) -> Coded:
    """What a structure of that name is: a lesion, an organ, or tissue where the name says neither."""
    words = re.findall(r"[a-z]+", name.lower())
    organ = next((ORGANS[word] for word in words if word in ORGANS), None)
    lesion = next((code for word, code in LESIONS.items() if word in words), None)
    if lesion is not None:
        return Coded(codes.SCT.MorphologicallyAbnormalStructure, lesion, organ)
    if organ is not None and all(word in ORGANS or word in BESIDE_AN_ORGAN for word in words):
        return Coded(codes.SCT.AnatomicalStructure, organ)
    return Coded(codes.SCT.Tissue, codes.SCT.Tissue)


def side_of(name: str) -> Code | None:
    """Which of a pair a structure is, by its name: ``Lung_L``, ``left kidney``; None where the name does not say.

    A letter counts at the end, as in TG-263, or at the beginning: in ``Vertebra_L_3`` it is no side.
    """
    words = re.split(r"[\W_]+", name.casefold())
    left, right = ({letter, word}.intersection(words) for letter, word in (("l", "left"), ("r", "right")))
    if bool(left) == bool(right) or not ({words[0], words[-1], "left", "right"} & (left | right)):
        return None
    side: Code = codes.SCT.Left if left else codes.SCT.Right
    return side


def category_of(type_code: Code) -> Code:
    """The category of a type that the user chose: a lesion's if it is listed in CID 7159, tissue's by CID 7166."""
    category: Code = codes.SCT.AnatomicalStructure
    if type_code in codes.cid7159.concepts.values():
        category = codes.SCT.MorphologicallyAbnormalStructure
    elif type_code in codes.cid7166.concepts.values():
        category = codes.SCT.Tissue
    return category
