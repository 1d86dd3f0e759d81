"""One question to a web server, and its answer or what is to be said where there is none."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, Any

from biomask.errors import BiomaskError, NetworkError, ReadError, UsageError

#: Answers of a server that may be different a moment later.
PASSING = (408, 425, 429, 500, 502, 503, 504)


class Interrupted(Exception):
    """The transfer broke off for a reason that may pass."""


class NoSuchPart(Interrupted):
    """The part of a file that was asked for is not there: it has changed."""


def require_web(url: str) -> None:
    """Raise UsageError unless it is an address that begins with http or https."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no address of the web", fix="it begins with https:// or http://")


def opened(request: urllib.request.Request, timeout: float) -> Any:
    """The answer, to be closed. Raises Interrupted for what may pass, ReadError or NetworkError for what will not.

    timeout: seconds without an answer.
    """
    where = request.full_url
    try:
        return _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise NoSuchPart("the server has less of it than had arrived") from error
        if error.code in PASSING:
            raise Interrupted(f"the server answered {error.code} ({error.reason})") from error
        raise _refused(error, where) from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, socket.gaierror):
            host = urllib.parse.urlsplit(where).hostname
            raise NetworkError(f"the address of {host} cannot be found: this machine is not online, or may not ask", where=where,
                               fix="look at the network and its proxy (https_proxy); or download the file by a browser, on "
                                   "another machine perhaps, and put it where it belongs") from error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise NetworkError(f"the server's certificate is not trusted ({reason.verify_message})", where=where,
                               fix="ask whoever runs this network: a proxy that opens connections needs its certificate in "
                                   "SSL_CERT_FILE") from error
        raise Interrupted(words(reason)) from error


def _refused(error: urllib.error.HTTPError, where: str) -> BiomaskError:
    if error.code in (404, 410):
        return ReadError(f"there is no such file any more ({error.code})", where=where,
                         fix="look at the page of whoever offers it for its new address, and download it from there")
    return ReadError(f"the server refused it: {error.code} ({error.reason})", where=where,
                     fix="try it in a browser; a proxy or firewall may stand between")


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to the web alone, and never from https to http."""

    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str,
                         headers: http.client.HTTPMessage, newurl: str) -> urllib.request.Request | None:
        before, after = (urllib.parse.urlsplit(u).scheme for u in (req.full_url, newurl))
        if after not in ("http", "https") or (before == "https" and after == "http"):
            raise ReadError(f"leads to {newurl}, which is not followed", where=req.full_url,
                            fix="look at the page of whoever offers the file, and download it by a browser")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """For http and https alone; proxies are those of the system or of http_proxy and https_proxy."""
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(), Redirects(),
                    urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()):
        opener.add_handler(handler)
    return opener


def words(error: object) -> str:
    """What happened, in plain words where they are known."""
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    if isinstance(error, ConnectionRefusedError):
        return "the server refuses connections"
    if isinstance(error, ConnectionError | http.client.RemoteDisconnected | http.client.IncompleteRead):
        return "the connection was closed too early"
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
