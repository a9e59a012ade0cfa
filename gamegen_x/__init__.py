"""GameGen-X. Importing it does one thing: it lets torchvision load beside a CPU-only torch."""

from gamegen_x.torchvision_cpu import install

install()
