"""How the network's blocks are put together."""

from __future__ import annotations

from dataclasses import dataclass

from core.config.architecture import parse_pool
from core.config.rules import YES_OR_NO, text
from core.config.setting import setting


@dataclass(frozen=True)
class NetworkSettings:
    """How the network's blocks are put together. See core.config.settings."""

    pool: str = setting(
        "auto",
        text(lambda value: parse_pool(value) is not None, 'text like "yes/no", or "auto"'),
        'whether each block ends with max pooling, such as `"yes/no/yes"`; `auto`: where the size allows',
        by_group=True,
        synonyms="pooling max_pool maxpool maxpooling",
    )
    residual: bool = setting(
        False,
        YES_OR_NO,
        "a block is two 3x3 convolutions, and its input is added before the last ReLU",
        by_group=True,
        synonyms="skip skip_connections resnet shortcut shortcuts",
    )
    global_pool: bool = setting(
        False,
        YES_OR_NO,
        "the linear layer reads each channel's mean over the image",
        by_group=True,
        synonyms="gap global_avg_pool global_average_pooling avg_pool global_pooling",
    )
