"""What the report says of the numbers that it shows."""

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
