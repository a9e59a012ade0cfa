"""Shape annotations of the evaluation become checks, too."""

from jaxtyping import install_import_hook

install_import_hook("gamegen_x.evaluation", "beartype.beartype")
