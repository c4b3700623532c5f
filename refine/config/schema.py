"""The settings of each command as a typed object: what is in it has the right type and lies in its range.

The defaults stand in ``configs/``, beside what they mean. A section with ``_target_`` is checked by what it builds.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from omegaconf import DictConfig, OmegaConf
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from refine.config.errors import ConfigError
from refine.config.overrides import compose

Section = dict[str, Any]
UNITS = {"MiB": 1, "GiB": 1024, "MB": 1e6 / 2**20, "GB": 1e9 / 2**20}  # in MiB
Kind = Literal["thin", "medium", "thick"]
WORDS = {
    "Value error, ": "",
    "Input should be greater": "expected a number greater",
    "Input should be less": "expected a number less",
    "Input should be": "expected",
    "a valid boolean": "true or false",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "a text",
    "a valid list": "a list, such as [a,b]",
}  # of pydantic -> of a user


def mebibytes(value: Any) -> Any:
    """An amount of memory such as ``8GiB``, in MiB; None stays.

    Args:
        value: Value of a setting.

    Raises:
        ValueError: If it is no such amount.
    """
    if value is None or isinstance(value, float):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(\w+)", str(value))
    if not found or found[2] not in UNITS or not float(found[1]):
        raise ValueError(f"expected a number above 0 and one of {', '.join(UNITS)}, such as 8GiB")
    return float(found[1]) * UNITS[found[2]]


class Settings(BaseModel):
    """Base of the settings of all commands."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)
    command: ClassVar[str]

    @classmethod
    def compose(cls, overrides: Sequence[str]) -> Self:
        """Compose the settings of the command.

        Args:
            overrides: Hydra's ``key=value``, as for :func:`refine.config.compose`.

        Raises:
            ConfigError: If an override is malformed, names what is not there, or has a value out of its range.
        """
        return cls.check(compose(cls.command, overrides))

    @classmethod
    def check(cls, config: DictConfig, complete: bool = True) -> Self:
        """Take a composed configuration, and hold it against types and ranges.

        Args:
            config: Composed configuration of the command; interpolations may be unresolved.
            complete: Whether what a run needs must be there; else its name in ``<>`` stands for it.

        Raises:
            ConfigError: If a setting is missing, of another type, or out of its range.
        """
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        if not complete:
            needed = [key for key, field in fields.items() if field.examples and OmegaConf.is_missing(config, key)]
            config = cast(DictConfig, OmegaConf.merge(config, {key: f"<{key}>" for key in needed}))
        for key, field in fields.items():  # before values that are made of them
            if field.examples and (OmegaConf.is_missing(config, key) or config.get(key) is None):
                raise ConfigError(f"{cls.command} needs {key}=, for example {field.examples[0]}.")
        keys = fields if cls.model_config.get("extra") != "forbid" else map(str, config)
        values = {key: _value(config, key) for key in keys if key in config and not OmegaConf.is_missing(config, key)}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_sentence(error.errors()[0], values)) from None


class RefinerConfig(Settings):
    """What a refiner is built of."""

    command = "predict"
    backbone: Section
    pyramid: Section
    objective: Section
    refiner: Section
    device: str
    deterministic: bool


class InpaintConfig(RefinerConfig):
    """A refiner, and how images and masks are read and written."""

    mask_threshold: Annotated[float, Field(ge=0, le=1)]
    mask_channel: Literal["auto", "luminance", "alpha", "red", "green", "blue", "index"]
    mask_invert: bool
    mask_dilate: NonNegativeInt
    format: Literal["png", "jpg", "webp", "tiff", "bmp"]

    @property
    def mask_options(self) -> tuple[float, bool, int, str]:
        """Threshold, inversion, dilation (px) and channel of mask files."""
        return self.mask_threshold, self.mask_invert, self.mask_dilate, self.mask_channel


class DataConfig(BaseModel):
    """Which images, and at which size."""

    model_config = Settings.model_config
    side: PositiveInt | None
    limit: PositiveInt | None
    seed: int
    table: str | None
    batch: PositiveInt
    megapixels: PositiveFloat


class PanelsConfig(BaseModel):
    """Pictures for the loggers."""

    model_config = Settings.model_config
    keys: list[str] | None
    count: NonNegativeInt
    every: PositiveInt
    side: PositiveInt | None


class PredictConfig(InpaintConfig):
    """One run over many images."""

    model_config = ConfigDict(extra="forbid")
    input: Annotated[str, Field(examples=["input=photo.jpg mask=hole.png"])]
    output: Annotated[str, Field(examples=["output=results"])]
    mask: str | None
    masks: str | None
    mask_seed: int
    mask_area: Annotated[float, Field(gt=0, le=1)]
    truth: str | None
    evaluate: bool | None
    metrics: list[Literal["lpips", "lpips_squeeze", "fid", "kid"]]
    inception_weights: str | None
    fid_network: str | None
    lpips_weights: str | None
    overwrite: bool
    memory: Annotated[float | None, BeforeValidator(mebibytes)]
    threads: PositiveInt
    workers: NonNegativeInt | Literal["auto"]
    shards: PositiveInt
    shard: NonNegativeInt | None
    gather: bool | None
    data: DataConfig
    trainer: Section
    logger: Section
    panels: PanelsConfig

    @model_validator(mode="after")
    def _check_shard(self) -> Self:
        if self.shard is not None and self.shard >= self.shards:
            raise ValueError(f"shard={self.shard}: expected 0 to {self.shards - 1}, since shards={self.shards}.")
        return self


class PlanConfig(PredictConfig):
    """What a run would take."""

    command = "plan"
    calibrate: bool
    json_: Annotated[bool, Field(alias="json")]


class AppConfig(InpaintConfig):
    """The page in the browser."""

    command = "app"
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=0, le=65535)]
    open: bool
    backbones: Annotated[list[str] | None, Field(min_length=1)]
    upload: Annotated[float, BeforeValidator(mebibytes)]
    megapixels: Annotated[float, Field(gt=0)]
    waiting: NonNegativeInt
    users: PositiveInt
    keep: PositiveFloat
    side: Annotated[int, Field(ge=64)]
    threads: PositiveInt


class CheckConfig(Settings):
    """A backbone against the contract of adapters."""

    command = "check"
    backbone: Section
    tiny: bool
    device: str


class LayersConfig(CheckConfig):
    """The cuts of a backbone."""

    command = "layers"
    size: PositiveInt
    repeats: PositiveInt
    json_: Annotated[bool, Field(alias="json")]  # json is a method of pydantic's
    plot: str | None


class MasksConfig(Settings):
    """Masks drawn for a folder of photos."""

    command = "masks"
    input: Annotated[str, Field(examples=["input=photos"])]
    output: Annotated[str, Field(examples=["output=masks"])]
    kind: Kind
    seed: int
    max_area: Annotated[float, Field(gt=0, le=1)]
    overwrite: bool
    data: DataConfig


class FetchConfig(Settings):
    """Official weights of a backbone."""

    command = "fetch"
    backbone: Section
    cache: str | None


class BackbonesConfig(Settings):
    """The list of all backbones."""

    command = "backbones"
    json_: Annotated[bool, Field(alias="json")]


class StudyConfig(Settings):
    """The arms of a study."""

    command = "study"
    study: Annotated[str, Field(examples=["study=which_layers; `refine study` lists those that come along"])]
    output: Annotated[str, Field(examples=["output=runs/which_layers"])]
    controls: str | None
    report_only: bool
    publish: bool
    page_mib: PositiveFloat


def _value(config: DictConfig, key: str) -> Any:
    return OmegaConf.to_container(config[key], resolve=True) if OmegaConf.is_config(config[key]) else config[key]


def _key(error: ErrorDetails, values: Any) -> str:
    """Name of a setting, without the types that stand in an error's place where several are allowed."""
    parts: list[str] = []
    for part in error["loc"]:
        inside = part in values if isinstance(values, Mapping) else isinstance(values, list) and isinstance(part, int)
        if inside or not parts or error["type"] in ("missing", "extra_forbidden"):
            parts.append(str(part))
            values = values[part] if inside else None
    return ".".join(parts)


def _sentence(error: ErrorDetails, values: Any) -> str:
    """What is wrong with which value."""
    text, key = error["msg"], _key(error, values)
    for phrase, replacement in WORDS.items():
        text = text.replace(phrase, replacement)
    if error["type"] == "extra_forbidden":
        return f"there is no setting '{key}'."
    return f"{key}={error['input']}: {text}." if key else text
