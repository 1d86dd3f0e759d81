"""A file comes whole and right, or not at all; one that broke off goes on, one that has changed begins anew."""

import hashlib
import json
import socket
import urllib.request
from collections import namedtuple
from email.message import Message

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biomask.errors import DiskFullError, NetworkError, ReadError, UsageError, WriteError
from biomask.io import download as module
from biomask.io.download import Checksum, download
from biomask.io.web import Redirects

#: No waiting between tries.
QUICK = {"pauses": (0, 0), "timeout": 5}

CONTENT = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(200_000)


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "weights" / "file.pth"


def interrupt(url, target, web, path):
    """Leave a part behind, as a run that was given up."""
    with pytest.raises(NetworkError) as caught:
        download(url, target, pauses=(), timeout=5)
    assert not target.exists()
    web.asked.clear()
    return caught.value


def test_it_arrives_with_nothing_left_beside_it(web, target):
    found = download(web.add("/a", CONTENT), target, checksum=Checksum(sha256(CONTENT)[:8]), **QUICK)
    assert target.read_bytes() == CONTENT
    assert (found.size, found.sha256, found.verified) == (len(CONTENT), sha256(CONTENT), True)
    assert list(target.parent.iterdir()) == [target]


def test_without_a_checksum_it_is_not_verified(web, target):
    found = download(web.add("/a", CONTENT), target, **QUICK)
    assert (found.sha256, found.verified) == (sha256(CONTENT), False)


@pytest.mark.parametrize("how", [{}, {"tag": None, "dated": True}, {"ranges": False}, {"chunked": True}, {"tag": None},
                                 {"tag": 'W/"weak"'}])
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONTENT) - 1), max_size=2))
def test_broken_connections_cost_nothing_but_time(web, tmp_path, how, cuts):
    target = tmp_path / "file"
    download(web.add("/a", CONTENT, cuts=list(cuts), **how), target, checksum=Checksum(sha256(CONTENT)), **QUICK)
    assert target.read_bytes() == CONTENT


def test_a_later_run_goes_on_where_the_first_stopped(web, target):
    url = web.add("/a", CONTENT, cuts=[100_000])
    error = interrupt(url, target, web, "/a")
    assert "0.1 MB" in error.what
    assert error.exit_code == 3
    assert target.with_name("file.pth.part").read_bytes() == CONTENT[:100_000]
    download(url, target, **QUICK)
    assert target.read_bytes() == CONTENT
    assert web.asked == [("/a", "bytes=100000-")]


@pytest.mark.parametrize("how", [{}, {"ranges": False}, {"tag": '"v1"'}])
def test_a_file_that_has_changed_begins_anew(web, target, how):
    url = web.add("/a", CONTENT, cuts=[100_000])
    interrupt(url, target, web, "/a")
    web.add("/a", OTHER, **how)
    download(url, target, **QUICK)
    assert target.read_bytes() == OTHER


def test_a_file_that_changes_while_the_server_ignores_if_range(web, target, monkeypatch):
    """A server that sends the part asked for of whatever it has now: its ETag tells."""
    url = web.add("/a", CONTENT, cuts=[100_000])
    interrupt(url, target, web, "/a")
    page = web.pages["/a"]
    page.content, first = OTHER, page.etag
    served = type("Lying", (type(page),), {"etag": property(lambda self: Tag('"new"', first))})
    page.__class__ = served
    download(url, target, **QUICK)
    assert target.read_bytes() == OTHER


class Tag(str):
    """An ETag that equals another one, too."""

    __slots__ = ("also",)

    def __new__(cls, text, also):
        made = super().__new__(cls, text)
        made.also = also
        return made

    def __eq__(self, other):
        return other in (str(self), self.also)

    __hash__ = str.__hash__


def test_a_part_of_another_address_is_not_gone_on_from(web, target):
    interrupt(web.add("/a", CONTENT, cuts=[1000]), target, web, "/a")
    download(web.add("/b", OTHER), target, **QUICK)
    assert web.asked == [("/b", None)]
    assert target.read_bytes() == OTHER


def test_stopped_between_the_last_byte_and_its_name(web, target):
    url = web.add("/a", CONTENT)
    target.parent.mkdir()
    target.with_name("file.pth.part").write_bytes(CONTENT)
    target.with_name("file.pth.part.json").write_text(json.dumps({"url": url, "version": '"x"', "total": len(CONTENT)}))
    download(url, target, checksum=Checksum(sha256(CONTENT)), **QUICK)
    assert web.asked == []
    assert target.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(web, target):
    url = web.add("/a", OTHER)
    target.parent.mkdir()
    target.with_name("file.pth.part").write_bytes(CONTENT)
    target.with_name("file.pth.part.json").write_text(json.dumps({"url": url, "version": web.pages["/a"].etag, "total": None}))
    download(url, target, **QUICK)
    assert target.read_bytes() == OTHER


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_leaves_nothing(web, target, kind):
    target.parent.mkdir()
    wrong = Checksum(hashlib.new(kind, OTHER).hexdigest(), kind)
    with pytest.raises(ReadError, match="not the file that was meant") as caught:
        download(web.add("/a", CONTENT), target, checksum=wrong, **QUICK)
    assert hashlib.new(kind, CONTENT).hexdigest() in str(caught.value)
    assert list(target.parent.iterdir()) == []


def test_a_wrong_checksum_keeps_what_was_there(web, target):
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(ReadError):
        download(web.add("/a", CONTENT), target, checksum=Checksum("0" * 8), **QUICK)
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize(("codes", "error"), [([503, 429], None), ([503] * 9, NetworkError), ([404], ReadError),
                                              ([403], ReadError)])
def test_answers_of_the_server(web, target, codes, error):
    url = web.add("/a", CONTENT, answers=list(codes))
    if error is None:
        assert download(url, target, **QUICK).size == len(CONTENT)
        assert len(web.asked) == 3
        return
    with pytest.raises(error, match=str(codes[0])):
        download(url, target, **QUICK)
    assert len(web.asked) == (3 if error is NetworkError else 1)
    assert list(target.parent.iterdir()) == []


def test_tries_count_anew_when_more_arrives(web, target):
    download(web.add("/a", CONTENT, cuts=[50_000, 50_000, 50_000, 50_000]), target, pauses=(0,), timeout=5)
    assert target.read_bytes() == CONTENT


def test_tries_end_where_no_more_arrives(web, target):
    url = web.add("/a", CONTENT, ranges=False, cuts=[50_000] * 9)
    with pytest.raises(NetworkError):
        download(url, target, **QUICK)
    assert len(web.asked) == 3  # the first brought something, the two tries after it no more


def test_nobody_listens(target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a"
    with pytest.raises(NetworkError, match="refuses connections"):
        download(url, target, **QUICK)


def test_a_server_that_says_nothing(target):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(NetworkError, match="does not answer"):
            download(f"http://127.0.0.1:{silent.getsockname()[1]}/a", target, pauses=(), timeout=0.2)


def test_no_network(target, monkeypatch):
    def lost(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", lost)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(NetworkError, match="not online") as caught:
        download("http://example.org/a", target, pauses=(1e9,))
    assert "proxy" in str(caught.value)


def test_redirections_on_the_web_are_followed(web, target):
    web.add("/b", CONTENT)
    download(web.add("/a", b"", to="/b"), target, **QUICK)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("to", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:text/plain,x"])
def test_redirections_to_elsewhere_are_refused(web, target, to):
    with pytest.raises(ReadError):
        download(web.add("/a", b"", to=to), target, **QUICK)
    assert list(target.parent.iterdir()) == []


def test_what_is_encrypted_stays_so():
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(ReadError, match="not followed"):
        Redirects().redirect_request(request, None, 302, "Found", Message(), "http://example.org/a")
    assert Redirects().redirect_request(request, None, 302, "Found", Message(), "https://example.org/b").full_url.endswith("/b")


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.org/a", "weights.pth", "http:///a"])
def test_the_web_alone(target, url):
    with pytest.raises(UsageError, match="no address"):
        download(url, target)


def test_a_disk_that_is_too_small_is_said_first(web, target, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(DiskFullError, match=r"needs 0\.3 MB"):
        download(web.add("/a", CONTENT), target, **QUICK)
    assert not target.exists()


def test_a_disk_that_fills_up(web, full_disk, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10**9, 0, 10**9))
    with pytest.raises(DiskFullError):
        download(web.add("/a", CONTENT), full_disk / "file", **QUICK)
    assert not (full_disk / "file").exists()


def test_a_folder_stays_a_folder(web, target):
    target.mkdir(parents=True)
    with pytest.raises(WriteError):
        download(web.add("/a", CONTENT), target, **QUICK)
    assert web.asked == []
