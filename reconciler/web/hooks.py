"""`POST /hooks/git`: a forge tells that somebody has pushed. Signed by GitHub, GitLab, or a plain HMAC.

It only asks for a look at the remote, which is where the truth is: so what it says is not read, and saying it again
does nothing more.
"""

from __future__ import annotations

import hashlib
import hmac

from starlette.requests import Request
from starlette.responses import Response

from reconciler.source import Following
from reconciler.web.answers import ApiError, answer, read_body
from reconciler.web.context import context_of

MAX_HOOK = 25 * 1024 * 1024  # bytes; GitHub sends no more
# Headers with the HMAC-SHA256 of the body in hex, most with `sha256=` before it: GitHub, Bitbucket, Gitea and Forgejo,
# anybody. GitHub also sends a SHA-1 as X-Hub-Signature, which is neither asked for nor believed.
HMACS = ("x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature", "x-signature-256", "x-signature")
OLD_HMAC = "x-hub-signature"
TOKEN = "x-gitlab-token"  # GitLab sends the secret itself


async def git(request: Request) -> Response:
    context = context_of(request)
    if not isinstance(context.source, Following):
        raise ApiError(404, "this daemon follows no repository (set RECONCILER_GIT_URL)")
    secret = context.settings.git_secret
    if not secret:
        raise ApiError(409, "no hook is taken without a secret (set RECONCILER_GIT_SECRET, and the same at the forge)")
    if TOKEN not in request.headers and not signatures(request):
        raise ApiError(401, "the hook is not signed (give the forge RECONCILER_GIT_SECRET as its secret)")
    body = await read_body(request, MAX_HOOK)
    if not is_signed(request, body, secret.encode()):
        raise ApiError(403, "the signature is wrong (the forge's secret and RECONCILER_GIT_SECRET differ)")
    context.source.ask()
    return answer({"message": "the remote is looked at now"}, 202)


def is_signed(request: Request, body: bytes, secret: bytes) -> bool:
    """Each signature that is there has to be right. Compares in constant time."""
    right = hmac.new(secret, body, hashlib.sha256).hexdigest().encode()
    good = [hmac.compare_digest(signature.lower(), right) for signature in signatures(request)]
    if TOKEN in request.headers:
        good.append(hmac.compare_digest(header_bytes(request, TOKEN), secret))
    return all(good)


def signatures(request: Request) -> list[bytes]:
    given = [header_bytes(request, header) for header in HMACS if header in request.headers]
    if request.headers.get(OLD_HMAC, "").startswith("sha256="):
        given.append(header_bytes(request, OLD_HMAC))
    return [signature.removeprefix(b"sha256=") for signature in given]


def header_bytes(request: Request, name: str) -> bytes:
    return request.headers[name].encode("latin-1")
