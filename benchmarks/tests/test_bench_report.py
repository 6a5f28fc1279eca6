"""What the report says of the numbers that it shows."""

import re

import pytest

from oncoseg_benchmarks.report_tables import comparison_table


@pytest.mark.parametrize(("better", "words"), [("higher", "and higher is better"), ("lower", "and lower is better")])
def test_an_effect_says_which_way_is_better(better, words):
    """The table called an effect of +1 better for B, also where the score was a distance."""
    summary = {
        "comparisons": [],
        "config": {"statistics": {"test": "wilcoxon", "metric": "score"}},
        "metric_records": {"score": {"better": better}},
    }
    told = comparison_table(summary)
    assert words in told
    assert "B is higher everywhere" in told


def test_concepts_in_no_image_are_listed_by_concept_with_all_patients(config, write_cases, bench, tmp_path):
    """The table also had a row for each dataset and modality as if they were concepts, and counted only the patients in
    whom one was found."""
    root = write_cases("bench-a", [{}, {}])
    bench(config(root, prompts=[{"kind": "text", "absent": ["screwdriver", "tumours"]}], references={"floors": False}))
    page = (tmp_path / "run" / "report.html").read_text()
    table = page.partition("Concepts that are in no image")[2].partition("</table>")[0]
    rows = re.findall('<tr><td class="text">bright</td><td>(.*?)</td><td>(.*?)</td>', table)
    assert rows == [("2<br><small>2 patients</small>", concept) for concept in ("screwdriver", "tumours")]
