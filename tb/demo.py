# SPDX-License-Identifier: Apache-2.0
"""What `make demo` runs: one handwritten digit through the shipped network on the J3DAI RTL."""

from __future__ import annotations

import shlex
import sys
from importlib.resources import as_file, files
from pathlib import Path

import click
import numpy as np
from nncosim.tb.cli.main import invoke
from nncosim.tb.cli.options import PATH
from nncosim.tb.system.terminal import printable

__all__ = ["INDEX", "demo", "drawing"]

INDEX = 7
SHADES = " .:-=+*#%@"


def drawing(image: np.ndarray, largest: float = 16.0) -> str:
    """A grey image (H, W), values 0..`largest`, in characters, two a pixel."""
    levels = np.clip(np.rint(image / largest * (len(SHADES) - 1)), 0, len(SHADES) - 1).astype(int)
    return "\n".join("".join(SHADES[level] * 2 for level in row).rstrip() for row in levels)


def _near(path: Path) -> str:
    """As a path from the current folder, where it lies in it."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def demo(out: Path, arguments: list[str], index: int = INDEX) -> int:
    """Run test image `index`, print the report, the picture, and the digit that the RTL found in it.

    Returns the exit status of `nncosim run`. `out`: folder for its files. `arguments`: further options for it.
    """
    folder = files("nncosim.regress.networks")
    with as_file(folder / "digits.onnx") as model, as_file(folder / "digits_test.npz") as data:
        words = ["run", _near(model), "--platform", "j3dai", "--input", _near(data), "--index", str(index),
                 "--out", str(out), *arguments]  # fmt: skip
        status = invoke(words)
        with np.load(data) as arrays:
            image, label = arrays["image"][index, 0], int(arrays["labels"][index])
    if not (out / "outputs.npz").is_file() or status > 1:
        return status
    with np.load(out / "outputs.npz") as outputs:
        scores = outputs["logits__float"].ravel() if "logits__float" in outputs.files else np.zeros(0)
    click.echo(f"\n{drawing(image)}\n")
    digit = int(np.argmax(scores)) if scores.size else None
    click.echo(f"test image {index}: the accelerator says {digit}, the label is {label}")
    click.echo(printable(f"image, listing, memory map, cycles, outputs and report: {out}"))
    command = shlex.join([_near(Path(sys.executable).parent / "nncosim"), *words])
    click.echo(printable(f"this was, and repeats it:\n  {command}"))
    return status if digit == label else max(status, 1)


@click.command()
@click.option("--out", type=PATH, default=Path("out/demo"), show_default=True)
@click.option("--index", type=int, default=INDEX, show_default=True)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def _main(out: Path, index: int, arguments: tuple[str, ...]) -> None:
    sys.exit(demo(out, list(arguments), index))


if __name__ == "__main__":
    _main()
