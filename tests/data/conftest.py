"""Torchvision is prepared before a test file imports Lightning."""

import gamegen_x  # noqa: F401
