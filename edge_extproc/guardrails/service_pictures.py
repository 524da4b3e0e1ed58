"""The pictures of a call, for services that judge them."""

from __future__ import annotations

import base64
from typing import ClassVar

from ..config.quantities import Size
from .base import Checked, Media
from .service_http import ServiceFailure
from .service_options import ServiceOptions, WebhookOptions

_ANY: frozenset[str] = frozenset()


class PictureOptions(ServiceOptions):
    """The options of a service that can judge pictures."""

    pictures: Size | None = None
    """The most bytes of pictures in one check. Default: no picture is sent. With more bytes, or with a picture of a
    type that the service does not take, `fail` of the rule decides. Pictures that the call names
    by a URL are not sent."""

    picture_types: ClassVar[frozenset[str]] = _ANY
    """The media types that the service takes. Empty: all."""


class PictureWebhookOptions(PictureOptions, WebhookOptions):
    """The options of a server of the operator that can judge pictures."""


def type_of_picture(media: Media) -> str | None:
    """The media type. None: it is no picture. The first bytes count more than what the caller says."""
    kind = media.type_of_bytes or media.media_type
    return kind if kind.startswith("image/") else None


def pictures_of(checked: Checked) -> list[Media]:
    """The pictures whose bytes are in the call."""
    return [each for each in checked.media if each.content and type_of_picture(each) is not None]


def require_judgeable(checked: Checked, options: PictureOptions) -> None:
    """Raises ServiceFailure if the service cannot judge the pictures of this call."""
    pictures = pictures_of(checked)
    size = sum(each.size for each in pictures)
    if size > (options.pictures or 0):
        raise ServiceFailure("size", f"takes at most {options.pictures} bytes of pictures, and these are {size}")
    for each in pictures:
        kind = type_of_picture(each)
        if options.picture_types and kind not in options.picture_types:
            raise ServiceFailure("other", f"does not take pictures of the type {kind}")


def as_base64(picture: Media) -> str:
    return base64.b64encode(picture.content).decode()


def as_data_url(picture: Media) -> str:
    return f"data:{type_of_picture(picture)};base64,{as_base64(picture)}"
