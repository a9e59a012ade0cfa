"""Shape annotations of the evaluation become checks, too."""

from pathlib import Path

from jaxtyping import install_import_hook

PACKAGE = Path(__file__).parents[2] / "gamegen_x" / "evaluation"
install_import_hook(
    [f"gamegen_x.evaluation.{path.stem}" for path in PACKAGE.glob("[a-z]*.py")],  # not __main__: OmegaConf's types
    "beartype.beartype",
)
