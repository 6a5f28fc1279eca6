"""``oncoseg datasets``."""

import typer

from oncoseg_datasets.prepare import prepare

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Datasets: make them ready for training.\n\nExample: oncoseg datasets prepare samples scans --dest store",
)
app.command()(prepare)


@app.callback()
def _datasets() -> None:
    pass
