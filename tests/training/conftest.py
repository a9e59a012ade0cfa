import gamegen_x  # noqa: F401  (lets torchvision load, which lightning wants)


def pytest_configure(config):
    # omegaconf's DictConfig inherits from an old spelling of MutableMapping, and beartype says so for each function
    config.addinivalue_line("filterwarnings", "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning")
