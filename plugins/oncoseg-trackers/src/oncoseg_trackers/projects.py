"""Which W&B project a run belongs to: one for each phase of the chain."""

from __future__ import annotations

PROJECTS = {
    "B": "onco_seg_phaseB",
    "C": "onco_seg_brats_phaseC",
    "D": "onco_seg_pathology_phaseD",
    "E1": "onco_seg_breast_phaseE1",
    "E2": "onco_seg_ct_phaseE2",
    "E3": "onco_seg_cxr_phaseE3",
    "F1": "onco_seg_highimpact_phaseF1",
    "F2": "onco_seg_optical_phaseF2",
    "F3": "onco_seg_mixed_phaseF3",
}
"""``onco_seg_<what the phase is about>_phase<phase>``.

B, C, E1, E3 and F1 are the names that OncoSeg was planned with. D (histology), E2 (CT), F2 (dermoscopy, endoscopy, a
set of breast ultrasound) and F3 (ultrasound, X-ray, CT) are ours, by their pattern.
"""

WITHOUT_PHASE = "onco_seg"


def project_of(phase: str | None) -> str:
    """The project of a phase; one that is not the paper's has its own name in it."""
    if phase is None:
        return WITHOUT_PHASE
    return PROJECTS.get(phase, f"{WITHOUT_PHASE}_phase{phase}")
