# SPDX-License-Identifier: Apache-2.0
"""Write a network of the zoo, or images for it, to a file.

python -m nncosim.regress.zoo NAME --out FILE.onnx [--images FILE.npz --count N --seed N]
"""

from __future__ import annotations

from pathlib import Path

import click
from nncosim.regress import zoo
from nncosim.tb.cli.main import invoke
from nncosim.tb.system.files import prepare_file, write_file
from nncosim.tb.system.npz import npz_bytes


@click.command()
@click.argument("name", type=click.Choice(list(zoo.NETWORKS)))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="QONNX file to write.")
@click.option("--images", type=click.Path(dir_okay=False, path_type=Path), help="Sample images, an .npz file.")
@click.option("--count", default=2, show_default=True, help="Number of images.")
@click.option("--seed", default=1, show_default=True, help="Of the images.")
def main(name: str, out: Path, images: Path | None, count: int, seed: int) -> None:
    """Write network NAME as QONNX."""
    for option, file in (("--out", out), ("--images", images)):
        if file is not None:
            prepare_file(file, option)
    if images is not None and images.resolve() == out.resolve():
        raise click.UsageError("--out and --images are one file; give two names")
    write_file(out, zoo.model_path(name).read_bytes())
    click.echo(f"{out}: {zoo.NETWORKS[name].text}, {zoo.NETWORKS[name].macs:,} MAC")
    if images:
        write_file(images, npz_bytes(zoo.sample_inputs(name, seed, count)))
        click.echo(f"{images}: {count} images")


if __name__ == "__main__":
    raise SystemExit(invoke(command=main, name="python -m nncosim.regress.zoo"))
