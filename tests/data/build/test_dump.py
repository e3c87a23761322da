"""A dump becomes a corpus: the same in any packing, with any number of workers, and after a kill at any moment."""

import errno
import os
import random
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace

import psutil
import pytest

from realm_jax.data import segment
from realm_jax.data.build import beam_pipeline, plan, runners, shards, source
from realm_jax.data.build.wikitext import plain_text
from realm_jax.data.corpus import Corpus
from tests.data.build import dump
from tests.data.build.conftest import REPOSITORY, articles, build_entry, contents

MARKUP = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|</?ref|'''|\[http")
SMALL = "--shard_mb=1"


@pytest.fixture(scope="module")
def plain(build, tmp_path_factory):
    """The corpus of the uncompressed dump."""
    folder = tmp_path_factory.mktemp("dump")
    build(dump.write(folder, "xml"), folder / "out", SMALL)
    return folder / "out"


def test_articles_and_only_these_in_order_of_their_ids(plain):
    blocks = articles(plain)
    titles = list(dict.fromkeys(title for _, title, _ in blocks))
    assert titles == dump.KEPT and len(dump.PAGES) > 50
    ids = [int(i) for i, _, _ in blocks]
    assert ids == sorted(ids) and ids[0] == 10
    text = {title: t for title, _, t, _ in dump.PAGES}
    for title in titles:
        got = "".join(t for _, name, t in blocks if name == title)
        assert "".join(got.split()) == "".join(plain_text(text[title], ["datei"]).split())


def test_no_markup_is_left(plain):
    assert not [text for _, _, text in articles(plain) if MARKUP.search(text)]


def test_every_page_is_counted(plain):
    counts = build_entry(plain)["counts"]
    reasons = {
        "redirect": 2,
        "outside the article namespace": 3,
        "disambiguation": 2,
        "list": 1,
        "without text": 1,
        "without prose": 1,
    }
    assert {reason: counts[reason] for reason in reasons} == reasons
    assert counts["pages"] == len(dump.PAGES) == len(dump.KEPT) + sum(reasons.values())


@pytest.mark.parametrize("packing", ["bz2", "gz", "multistream"])
def test_packing_changes_nothing(packing, plain, build, tmp_path):
    build(dump.write(tmp_path, packing), tmp_path / "out", SMALL)
    assert articles(tmp_path / "out") == articles(plain)


def small_shards(folder, per_stream=4):
    """A multistream dump whose every stream is a shard of its own; returns its file and the flag for it."""
    return dump.write(folder, "multistream", per_stream)


@pytest.fixture(scope="module")
def many(vocabulary, tmp_path_factory):
    """A dump and the job of its build in shards of few pages, with the finished corpus."""

    folder = tmp_path_factory.mktemp("many")
    file = small_shards(folder)
    job = shards.Job(source.find(str(file)), str(folder / "out"), vocabulary.read_text(), 48, "rules")
    planned = plan.make_or_read(job, 400)
    for numbered in enumerate(planned.parts):
        shards.build_shard(numbered, job)
    shards.finish(job, planned.identity, planned.fingerprint, len(planned.parts), 1.0)
    assert len(planned.parts) > 8
    return folder, job, planned


def test_a_shard_is_a_contiguous_range_of_page_ids(many, plain):
    folder, _, _ = many
    corpus = Corpus.open(folder / "out")
    first = [[int(i) for i in _ids(segment)] for segment in corpus.segments]
    flat = [i for ids in first for i in ids]
    assert flat == sorted(set(flat)) and len(corpus.segments) > 8
    assert articles(folder / "out") == articles(plain)


def _ids(segment):
    return [segment.ids[int(s["id_start"]) : int(s["id_limit"])].tobytes().decode() for s in segment.sources]


def test_the_order_of_work_changes_no_byte(many, tmp_path):

    _, job, planned = many
    other = replace(job, out=str(tmp_path / "out"))
    again = plan.make_or_read(other, 400)
    order = list(enumerate(again.parts))
    random.Random(0).shuffle(order)
    for numbered in order:
        shards.build_shard(numbered, other)
        shards.build_shard(numbered, other)  # twice is once
    shards.finish(other, again.identity, again.fingerprint, len(again.parts), 2.0)
    assert contents(other.out) == contents(job.out)


@pytest.mark.parametrize("workers", [1, 2])
def test_beam_with_one_worker_and_with_two_makes_the_same_bytes(workers, many, tmp_path, monkeypatch):

    monkeypatch.chdir(REPOSITORY)
    _, job, _ = many
    other = replace(job, out=str(tmp_path / "out"))
    planned = plan.make_or_read(other, 400)
    seen = []
    beam_pipeline.run(
        other, planned.parts, runners.options("direct", workers), lambda done, total: seen.append((done, total))
    )
    assert not shards.errors(other, len(planned.parts))
    shards.finish(other, planned.identity, planned.fingerprint, len(planned.parts), 3.0)
    assert contents(other.out) == contents(job.out)
    assert seen[-1][0] == seen[-1][1] > 0


@pytest.fixture
def big(tmp_path):
    """A dump that takes some seconds."""
    file = tmp_path / "big-pages-articles.xml"
    plain = [page for page in dump.PAGES if page[3]]
    pages = [dump.page_xml(10 + i, f"{plain[i % len(plain)][0]} {i}", 0, plain[i % len(plain)][2]) for i in range(9000)]
    file.write_text(dump.xml(pages), encoding="utf-8")
    return file


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_build_and_costs_what_it_had_in_hand(command, build, big, tmp_path):
    given = command(big, tmp_path / "out", SMALL, "--workers=2")
    with subprocess.Popen(
        given, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as driver:
        deadline, workers = time.monotonic() + 60, []
        while not (workers and list((tmp_path / "out").rglob("segment-*"))):
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
            known = [
                (child, " ".join(child.cmdline())) for child in psutil.Process(driver.pid).children(recursive=True)
            ]
            workers = [child for child, line in known if "sdk_worker_main" in line and not line.startswith("/bin/sh")]
        workers[0].kill()
        _, said = driver.communicate(timeout=60)
    assert driver.returncode == 1 and "a worker process was killed" in said and "pass fewer --workers" in said
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False).stdout
    assert not left, left
    build(big, tmp_path / "out", SMALL, "--workers=2")


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(command, build, big, tmp_path):
    file = big
    build(file, tmp_path / "whole", SMALL, "--workers=2")
    assert len(Corpus.open(tmp_path / "whole").segments) > 4
    rng = random.Random(1)
    kills = 0
    for _ in range(40):
        process = subprocess.Popen(
            command(file, tmp_path / "out", SMALL, "--workers=2"),
            cwd=REPOSITORY,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=rng.uniform(0.3, 9.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        if (tmp_path / "out" / "manifest.json").exists():
            break
    assert kills >= 2
    build(file, tmp_path / "out", SMALL, "--workers=2")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / "out" / "work").exists()
    time.sleep(5)  # a worker whose driver was killed ends by itself
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False).stdout
    assert not left, left


def test_run_again_it_makes_nothing(build, plain):
    before = {file: file.stat().st_mtime_ns for file in plain.rglob("*")}
    file = plain.parent / "test-pages-articles.xml"
    done = build(file, plain, SMALL)
    assert "shards" in done.stdout and {file: file.stat().st_mtime_ns for file in plain.rglob("*")} == before


def test_other_settings_in_the_same_folder_are_refused(build, plain):
    file = plain.parent / "test-pages-articles.xml"
    done = build(file, plain, "--shard_mb=2", status=2)
    assert "was built with shard_bytes" in done.stderr and "pass another --out" in done.stderr


def test_estimate_is_close(build, plain, tmp_path):
    done = build(plain.parent / "test-pages-articles.xml", tmp_path / "none", SMALL, "--dry_run")
    blocks = int(re.search(r"blocks: ([\d,]+)", done.stdout).group(1).replace(",", ""))
    actual = Corpus.open(plain).num_blocks
    assert 0.9 * actual <= blocks <= 1.1 * actual and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.xml", b"<!DOCTYPE html><html><body>no dump</body></html>", "is no MediaWiki XML dump"),
        ("a.xml.bz2", b"not packed at all", "is no MediaWiki XML dump"),
        ("a.txtx", b"what is this", "is of no known format"),
    ],
)
def test_what_is_no_dump_is_refused(name, data, says, build, tmp_path):
    (tmp_path / name).write_bytes(data)
    done = build(tmp_path / name, tmp_path / "out", status=2)
    assert says in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("segment-*"))


@pytest.mark.parametrize(("packing", "status"), [("bz2", 2), ("gz", 2), ("multistream", 1)])
def test_a_truncated_dump_is_refused(packing, status, build, tmp_path):
    file = dump.write(tmp_path, packing)
    file.write_bytes(file.read_bytes()[:-400])
    done = build(file, tmp_path / "out", status=status)
    assert "truncated" in done.stderr and "download it again" in done.stderr and "Traceback" not in done.stderr


def test_a_damaged_stream_fails_its_shard_alone(many, tmp_path):

    _, job, _ = many
    file = small_shards(tmp_path)
    other = replace(job, source=source.find(str(file)), out=str(tmp_path / "out"))
    planned = plan.make_or_read(other, 400)
    _, start, limit = planned.parts[3].pieces[0]
    data = bytearray(file.read_bytes())
    data[start + 20 : limit - 20] = bytes(limit - start - 40)
    file.write_bytes(data)
    for numbered in enumerate(planned.parts):
        shards.build_shard(numbered, other)
    (problem,) = shards.errors(other, len(planned.parts))
    assert f"between bytes {start:,} and {limit:,}" in problem and "download it again" in problem
    assert [other.is_done(i) for i in range(len(planned.parts))] == [i != 3 for i in range(len(planned.parts))]


def test_an_index_of_another_dump_is_refused(build, tmp_path):
    file = small_shards(tmp_path)
    file.write_bytes(file.read_bytes()[:3000])
    assert "its index goes to" in build(file, tmp_path / "out", status=2).stderr


def test_bad_pages_cost_only_themselves(build, tmp_path):
    pages = dump.all_pages()
    pages[20] = pages[20].replace("bridge", "bri\x00dge")
    pages[21] = pages[21].replace("</title>", "</tittle>")
    pages[22] = pages[22].replace(">32<", "><")  # no id
    pages[23] = re.sub(r"    <title>.*</title>\n", "", pages[23])
    pages[24] = dump.page_xml(34, "Long", 0, "Words without end. " * 300_000)
    pages[25] = pages[25].replace("  </page>\n", "")
    pages[26] = pages[26].replace("<ns>0</ns>", "<ns>710</ns>")
    file = tmp_path / "bad.xml"
    file.write_bytes(dump.xml(pages).encode())
    build(file, tmp_path / "out", SMALL)
    counts = build_entry(tmp_path / "out")["counts"]
    bad = {dump.PAGES[i][0] for i in range(20, 27)}
    assert list(dict.fromkeys(t for _, t, _ in articles(tmp_path / "out"))) == [t for t in dump.KEPT if t not in bad]
    assert counts["malformed XML"] + counts.get("without title or id", 0) == 4
    assert counts["longer than MediaWiki allows"] == 1 and counts["pages cut off"] == 1
    assert counts["outside the article namespace"] == 4


def test_a_full_disk_keeps_the_finished_shards(many, tmp_path, monkeypatch):

    _, job, _ = many
    other = replace(job, out=str(tmp_path / "out"))
    planned = plan.make_or_read(other, 400)
    numbered = list(enumerate(planned.parts))
    for part in numbered[:3]:
        shards.build_shard(part, other)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segment.SegmentWriter, "write", full)
    for part in numbered[3:]:
        shards.build_shard(part, other)
    assert (
        len(shards.errors(other, len(planned.parts))) == len(numbered) - 3
        and "free some and run" in shards.errors(other, len(planned.parts))[0]
    )
    assert sorted(p.name for p in (tmp_path / "out").glob("segment-*")) == [f"segment-{i:05}" for i in range(3)]
    monkeypatch.undo()
    for part in numbered:
        shards.build_shard(part, other)
    assert not shards.errors(other, len(planned.parts))
    shards.finish(other, planned.identity, planned.fingerprint, len(numbered), 1.0)
    assert contents(other.out) == contents(job.out)
    shutil.rmtree(tmp_path / "out")
