"""The 117 structures of TotalSegmentator v2, in the order of its classes.

Source: ``class_map["total"]`` in ``totalsegmentator/map_to_binary.py`` of github.com/wasserth/TotalSegmentator. A file
in a case's ``segmentations`` folder is called like the structure.
"""

from __future__ import annotations

_VERTEBRAE = (
    "S1",
    *(f"L{number}" for number in range(5, 0, -1)),
    *(f"T{number}" for number in range(12, 0, -1)),
    *(f"C{number}" for number in range(7, 0, -1)),
)

STRUCTURES: tuple[str, ...] = (
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "liver",
    "stomach",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
    "esophagus",
    "trachea",
    "thyroid_gland",
    "small_bowel",
    "duodenum",
    "colon",
    "urinary_bladder",
    "prostate",
    "kidney_cyst_left",
    "kidney_cyst_right",
    "sacrum",
    *(f"vertebrae_{level}" for level in _VERTEBRAE),
    "heart",
    "aorta",
    "pulmonary_vein",
    "brachiocephalic_trunk",
    "subclavian_artery_right",
    "subclavian_artery_left",
    "common_carotid_artery_right",
    "common_carotid_artery_left",
    "brachiocephalic_vein_left",
    "brachiocephalic_vein_right",
    "atrial_appendage_left",
    "superior_vena_cava",
    "inferior_vena_cava",
    "portal_vein_and_splenic_vein",
    "iliac_artery_left",
    "iliac_artery_right",
    "iliac_vena_left",
    "iliac_vena_right",
    "humerus_left",
    "humerus_right",
    "scapula_left",
    "scapula_right",
    "clavicula_left",
    "clavicula_right",
    "femur_left",
    "femur_right",
    "hip_left",
    "hip_right",
    "spinal_cord",
    "gluteus_maximus_left",
    "gluteus_maximus_right",
    "gluteus_medius_left",
    "gluteus_medius_right",
    "gluteus_minimus_left",
    "gluteus_minimus_right",
    "autochthon_left",
    "autochthon_right",
    "iliopsoas_left",
    "iliopsoas_right",
    "brain",
    "skull",
    *(f"rib_left_{number}" for number in range(1, 13)),
    *(f"rib_right_{number}" for number in range(1, 13)),
    "sternum",
    "costal_cartilages",
)

_WORDS = {
    "clavicula": "clavicle",
    "iliac vena": "iliac vein",
    "autochthon": "deep back muscles",
    "iliopsoas": "iliopsoas muscle",
    "hip": "hip bone",
    "gluteus maximus": "gluteus maximus muscle",
    "gluteus medius": "gluteus medius muscle",
    "gluteus minimus": "gluteus minimus muscle",
}
"""What a text model is more likely to know than the name of the file."""


def spoken(structure: str) -> str:
    """The structure in words, the side first: ``left kidney`` for ``kidney_left``, ``right rib 3``, ``vertebra L5``."""
    words = structure.split("_")
    if words[0] == "vertebrae":
        return f"vertebra {words[1]}"
    side = next((word for word in words if word in {"left", "right"}), None)
    number = [word for word in words if word.isdigit()]
    noun = " ".join(word for word in words if word != side and word not in number)
    noun = _WORDS.get(noun, noun)
    return " ".join([*([side] if side else []), noun, *number])
