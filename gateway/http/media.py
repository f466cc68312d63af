"""Photos: taken in, described, and served. Only re-encoded renditions leave the house, and for ever the same ones."""

from darkroom.gateway.http.call import Call
from darkroom.gateway.http.entities import attachment_of_upload
from darkroom.gateway.http.errors import Refused, invalid, not_found
from darkroom.gateway.http.fields import parse_id
from darkroom.gateway.http.messages import Response
from darkroom.gateway.media import Kind
from darkroom.gateway.media_protocol import KINDS

DESCRIPTION_CHARACTERS_MAX = 1500

RENDITION_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


async def upload(call: Call) -> Response:
    """Decode and keep the photo; it may then be posted."""
    call.work.take_upload_place()
    try:
        fields, files = await call.fields_and_files()
        description = fields.text("description", DESCRIPTION_CHARACTERS_MAX)
        data = files.get("file")
        if data is None:
            raise invalid("file", "must be given, in a multipart form")
        if len(data) > call.settings.upload_bytes:
            limit = call.settings.upload_bytes
            raise Refused(413, f"file is {len(data)} bytes; the limit is {limit}", "file")
        photo = await call.work.on_upload_thread(call.gateway.media.accept, data)
    finally:
        call.work.free_upload_place()
    stored = await call.work.on_file_thread(call.gateway.uploads.add, call.user, photo, description)
    return call.json(attachment_of_upload(stored, call.origin))


async def show(call: Call) -> Response:
    """An upload of one's own that is still remembered."""
    found = await call.look_up(call.gateway.uploads.find, call.user, [_upload_id(call)])
    if not found:
        raise not_found("upload", "id")
    return call.json(attachment_of_upload(found[0], call.origin))


async def describe(call: Call) -> Response:
    """Replace the description of an upload; a post that was made of it keeps what it had."""
    upload_id = _upload_id(call)
    fields = await call.fields()
    if "description" not in fields:
        return await show(call)
    description = fields.text("description", DESCRIPTION_CHARACTERS_MAX)
    changed = await call.work.on_file_thread(call.gateway.uploads.describe, call.user, upload_id, description)
    if changed is None:
        raise not_found("upload", "id")
    return call.json(attachment_of_upload(changed, call.origin))


def _upload_id(call: Call) -> int:
    upload_id = parse_id(call.request.path_params["id"])
    if upload_id is None or upload_id >= 1 << 63:
        raise not_found("upload", "id")
    return upload_id


async def rendition(call: Call) -> Response:
    """One rendition's bytes. The same path always means the same photo, so it may be kept for ever."""
    content_hash, name = call.request.path_params["hash"], call.request.path_params["name"]
    kind: Kind | None = next((kind for kind in KINDS if name == f"{kind}.jpg"), None)
    if kind is None:
        raise not_found("rendition")
    tag = f'"{content_hash[:64]}-{kind}"'

    def read() -> bytes:
        return call.gateway.media.rendition(content_hash, kind).read_bytes()

    data = await call.work.on_file_thread(read)
    headers = RENDITION_HEADERS | {"ETag": tag}
    if call.request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type="image/jpeg")
